"""The whole slide in small: always in memory, filling up while its tiles are read."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .grids import Box, Grid

__all__ = ["Overview"]

RGB = NDArray[np.uint8]


class Overview:
    """The coarsest grid of a slide as one array.

    Attributes
    ----------
    pixels : uint8 (rows, columns, 3)
        Background colour until something is known. Always the same array.
    tiles : frozenset of (column, row)
        Those of the grid.
    lacks : set of (column, row)
        Tiles that are still to come.
    complete : threading.Event
    completions : int
        How often it has become complete.
    """

    def __init__(self, grid: Grid, background: tuple[int, int, int]) -> None:
        self.grid = grid
        self.pixels: RGB = np.empty((grid.rows, grid.columns, 3), np.uint8)
        self.pixels[:] = background
        self.tiles = frozenset(grid.tiles_in((0, 0, grid.columns, grid.rows)))
        self.lacks = set(self.tiles)
        self.complete = threading.Event()
        self.completions = 0
        self._lock = threading.Lock()  # samples of a finer tile must not land on the tile itself

    def part(self, box: Box) -> RGB:
        """Return a view of a box (left, top, right, bottom); of all, the array itself."""
        left, top, right, bottom = box
        return (
            self.pixels
            if right - left == self.grid.columns and bottom - top == self.grid.rows
            else self.pixels[top:bottom, left:right]
        )

    def reopen(self, tiles: Iterable[tuple[int, int]]) -> None:
        """Let tiles come once more: what was taken in could not be read."""
        with self._lock:
            self.complete.clear()
            self.lacks.update(tiles)

    def add(self, grid: Grid, column: int, row: int, tile: RGB) -> bool:
        """Take in a tile of any grid, where something is lacking; return whether it shows.

        Of finer grids single pixels are taken, until the overview's own tile is made: on a slide without a coarse
        level that takes long.
        """
        with self._lock:
            if not self.lacks:
                return False
            mine = self.grid
            left, top, right, bottom = grid.box(column, row)
            if grid is mine:
                self.pixels[top:bottom, left:right] = tile
                self.lacks.discard((column, row))
                if not self.lacks:
                    self.completions += 1
                    self.complete.set()
                return True
            x, y = mine.columns / grid.columns, mine.rows / grid.rows
            columns = np.arange(np.ceil(left * x - 0.5), np.ceil(right * x - 0.5), dtype=np.intp)
            rows = np.arange(np.ceil(top * y - 0.5), np.ceil(bottom * y - 0.5), dtype=np.intp)
            if not (len(rows) and len(columns) and (columns[0] // mine.tile, rows[0] // mine.tile) in self.lacks):
                return False
            sample = tile[((rows + 0.5) / y - top).astype(np.intp)][:, ((columns + 0.5) / x - left).astype(np.intp)]
            self.pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = sample
            return True
