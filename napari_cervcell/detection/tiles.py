"""Which tiles of a slide to look at, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["CORE", "HALO", "Tile", "TileGrid", "plan"]

CORE = 1024
"""Side of the part of a tile for which it answers, px of the network's input."""
HALO = 256
"""Context around it that the network also sees, px of the network's input.

With this much, where a tile ends no longer shows in what is found: measured on real fields, scores anywhere in the core
are within 0.005 of those with all the context there is. With 192 px that is 0.025, with 128 px 0.05, with 64 px 0.13.
"""
_STRIDE = 32  # the network takes only multiples of this
_GIVE = 0.03  # by which the scale may differ from the model's: cells differ in size by far more

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Tile:
    """A square of the slide: (x, y) of its upper left corner and its side, level-0 px."""

    x: int
    y: int
    size: int

    @property
    def box(self) -> Rectangle:
        return (self.x, self.y, self.x + self.size, self.y + self.size)


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The fixed grid of a slide for models of one mpp: every scan, whole or partial, uses the same tiles.

    Attributes
    ----------
    width, height : int
        Of the slide, level-0 px.
    size : int
        Side of a tile, level-0 px.
    columns, rows : int
        Size of a tile as the network sees it: `CORE`, or near it where pixels of the slide are not square, or where
        JPEG can be decoded in the size that the network wants.
    """

    width: int
    height: int
    size: int
    columns: int = CORE
    rows: int = CORE

    @classmethod
    def of(cls, width: int, height: int, slide_mpp: tuple[float, float], model_mpp: float) -> TileGrid:
        """Return the grid of a slide of some level-0 px of `slide_mpp` µm in x and y."""
        mean = sum(slide_mpp) / 2
        columns, rows = (_STRIDE * max(1, round(CORE * mpp / mean / _STRIDE)) for mpp in slide_mpp)
        eighths = _eighths(model_mpp / mean)
        if columns == rows and eighths:
            # so many px of the network are a whole number of the slide's
            side = math.lcm(_STRIDE, eighths)
            columns = rows = -(-CORE // side) * side
            octave = 2 ** round(math.log2(model_mpp / mean * eighths / 8))
            return cls(width, height, columns * 8 * octave // eighths, columns, rows)
        return cls(width, height, max(1, round(CORE * model_mpp / mean)), columns, rows)

    @property
    def steps(self) -> tuple[float, float]:
        """Level-0 px per px of the network's input, in x and y."""
        return self.size / self.columns, self.size / self.rows

    def within(self, box: Rectangle) -> list[Tile]:
        """Return the tiles that the rectangle (x1, y1, x2, y2) touches, row by row; none where it misses the slide."""
        x1, y1, x2, y2 = max(box[0], 0), max(box[1], 0), min(box[2], self.width), min(box[3], self.height)
        if x1 >= x2 or y1 >= y2:
            return []
        columns = range(int(x1 // self.size), int(np.ceil(x2 / self.size)))
        rows = range(int(y1 // self.size), int(np.ceil(y2 / self.size)))
        return [Tile(c * self.size, r * self.size, self.size) for r in rows for c in columns]


def _eighths(step: float) -> int:
    """Return to how many eighths of its size a level of some power of two is to be shrunk for a step of `step`.

    0 where none is near enough.
    """
    for eighths in (8, 7, 6, 5):
        octave = math.log2(step * eighths / 8)
        if abs(octave - round(octave)) <= math.log2(1 + _GIVE) and round(octave) >= 0:
            return eighths
    return 0


def plan(
    grid: TileGrid,
    *,
    view: Rectangle | None = None,
    region: Rectangle | None = None,
    wanted: Callable[[float, float, float, float], bool] | None = None,
) -> list[Tile]:
    """Return the tiles to scan, first things first.

    Parameters
    ----------
    view : rectangle, optional
        What is on screen, level-0 px: its tiles come first, from its centre outwards.
    region : rectangle, optional
        Nothing outside is scanned; without one, the whole slide is.
    wanted : callable, optional
        ``wanted(x1, y1, x2, y2)`` says whether a tile has foreground; others are left out.
    """
    whole = region or (0, 0, grid.width, grid.height)
    tiles = [t for t in grid.within(whole) if wanted is None or wanted(*t.box)]
    first: list[Tile] = []
    if view is not None:
        seen = set(grid.within(view))
        cx, cy = (view[0] + view[2]) / 2, (view[1] + view[3]) / 2
        first = sorted(
            (t for t in tiles if t in seen),
            key=lambda t: (max(abs(t.x + t.size / 2 - cx), abs(t.y + t.size / 2 - cy)), t.y, t.x),
        )
    done = set(first)
    rest = [t for t in tiles if t not in done]
    # there and back again, row by row: the next tile is a neighbour, whose pixels are likely in a cache
    rest.sort(key=lambda t: (t.y, t.x if (t.y // t.size) % 2 == 0 else -t.x))
    return first + rest
