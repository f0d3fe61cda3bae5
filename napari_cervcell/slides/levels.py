"""The stored levels of a slide, and how their pixels lie on those of level 0."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Level", "factor_of", "scale_of", "snap"]


@dataclass(frozen=True, slots=True)
class Level:
    """One stored resolution of a slide.

    Attributes
    ----------
    width, height : int
        Size in pixels of this level.
    downsample : float
        The factor the level was made with: level-0 pixels per pixel of this level, but for the rounding of its size.
    """

    width: int
    height: int
    downsample: float


def factor_of(width: int, height: int, level_width: int, level_height: int) -> float:
    """Return the factor that a level was made with, which its rounded size only hints at.

    Powers of two go first, being almost always right.
    """
    ratio = (width / level_width + height / level_height) / 2
    for factor in (2.0 ** round(math.log2(ratio)), float(round(ratio))):
        if abs(width / factor - level_width) < 1 and abs(height / factor - level_height) < 1:
            return factor
    return ratio


def scale_of(side: int, level_side: int, factor: float) -> float:
    """Return level-0 pixels per pixel of a level along one side of the slide.

    Writers that make 2594 rows of 5189 either drop the last one (2 rows a row) or squeeze all in (2.0004), and do not
    say which. By the mean of both no cell is off by more than half a pixel of the level anywhere.
    """
    return 2 * side / (side / factor + level_side)


def snap(value: float) -> float:
    """Round away the error of a division, so that whole numbers are seen as such."""
    return float(round(value)) if abs(value - round(value)) < 1e-6 else value
