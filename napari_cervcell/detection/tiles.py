"""Which tiles of a slide to look at, which of them at once, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from itertools import groupby

__all__ = ["CORE", "HALO", "Block", "Tile", "TileGrid", "plan"]

CORE = 1024
"""Side of the part of a tile for which it answers, px of the network's input."""
HALO = 256
"""Context around it that the network also sees, px of the network's input.

With this much, where a tile ends no longer shows in what is found: measured on real fields, scores anywhere in the core
are within 0.005 of those with all the context there is. With 192 px that is 0.025, with 128 px 0.05, with 64 px 0.13.
"""
_ACROSS = 2
"""Tiles across and down a block. Of its pixels 64 % are cores, of a tile's with its halo 44 %; one of three would have
74 % and take as much memory as a small machine has."""
_WORTH = 3  # tiles, from which on a block is no more work than they are one by one
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
class Block:
    """What the network looks at in one pass: a square of tiles, with one halo around them all.

    Attributes
    ----------
    x, y : int
        Its upper left corner, level-0 px.
    across : int
        Tiles across and down.
    tiles : tuple of Tile
        Those of them that are asked for, in order.
    """

    x: int
    y: int
    across: int
    tiles: tuple[Tile, ...]

    @classmethod
    def of(cls, tile: Tile) -> Block:
        """Return a tile by itself."""
        return cls(tile.x, tile.y, 1, (tile,))

    def without(self, done: Collection[tuple[int, int]]) -> Block:
        """Return the same square, asked for the tiles alone whose (x, y) is not in `done`.

        What is found does not depend on that: a scan that goes on sees what it would have seen at once.
        """
        return replace(self, tiles=tuple(t for t in self.tiles if (t.x, t.y) not in done))


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
        columns = range(int(x1 // self.size), -int(-x2 // self.size))
        rows = range(int(y1 // self.size), -int(-y2 // self.size))
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
) -> list[Block]:
    """Return the tiles to scan in the blocks in which to look at them, first things first.

    Parameters
    ----------
    view : rectangle, optional
        What is on screen, level-0 px: its tiles come first, from its centre outwards, one by one: so the first cells
        are there soonest.
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
    return [Block.of(tile) for tile in first] + _in_blocks((t for t in tiles if t not in done), grid.size)


def _in_blocks(tiles: Iterable[Tile], size: int) -> list[Block]:
    """Return tiles of `size` in blocks, as far as these are worth it: there and back again, row by row.

    So the next block is a neighbour, whose pixels are likely in a cache.
    """
    side = _ACROSS * size

    def place(tile: Tile) -> tuple[int, int]:
        row, column = tile.y // side, tile.x // side
        return row, -column if row % 2 else column

    blocks: list[Block] = []
    for (row, column), group in groupby(sorted(tiles, key=lambda t: (place(t), t.y, t.x)), place):
        inside = tuple(group)
        if len(inside) < _WORTH:
            blocks += map(Block.of, inside)
        else:
            blocks.append(Block(abs(column) * side, row * side, _ACROSS, inside))
    return blocks
