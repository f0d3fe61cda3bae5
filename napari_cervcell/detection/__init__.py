"""Pixels to cells: which tiles in which order, inference, and merging across tiles."""

from .engines import DEVICES, AnySize, DetectionError, pick_device
from .scan import LOWEST_SCORE, Progress, Scan
from .tiles import HALO, Block, Rectangle, Tile, TileGrid, plan

__all__ = [
    "DEVICES",
    "HALO",
    "LOWEST_SCORE",
    "AnySize",
    "Block",
    "DetectionError",
    "Progress",
    "Rectangle",
    "Scan",
    "Tile",
    "TileGrid",
    "pick_device",
    "plan",
]
