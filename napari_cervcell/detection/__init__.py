"""Pixels to cells: which tiles in which order, inference, and merging across tiles."""

from .scan import LOWEST_SCORE, DetectionError, Progress, Scan, pick_device
from .tiles import Tile, TileGrid, plan

__all__ = ["LOWEST_SCORE", "DetectionError", "Progress", "Scan", "Tile", "TileGrid", "pick_device", "plan"]
