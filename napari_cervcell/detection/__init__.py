"""Pixels to cells: which tiles in which order, inference, and merging across tiles."""

from .engines import DEVICES, DetectionError, pick_device
from .scan import LOWEST_SCORE, Progress, Scan
from .tiles import HALO, Tile, TileGrid, plan

__all__ = [
    "DEVICES",
    "HALO",
    "LOWEST_SCORE",
    "DetectionError",
    "Progress",
    "Scan",
    "Tile",
    "TileGrid",
    "pick_device",
    "plan",
]
