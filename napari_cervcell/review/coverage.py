"""Which model has looked where: what is found, missed and checked there puts that one to the test."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..cells import Cells, FloatArray, IntArray

__all__ = ["Coverage", "Scanned"]


class _Place(Protocol):
    @property
    def x(self) -> int: ...
    @property
    def y(self) -> int: ...
    @property
    def size(self) -> int: ...


class Scanned(Protocol):
    """What a scan reports of a tile: where it is (level-0 pixels), and the cells that belong to it."""

    @property
    def tile(self) -> _Place: ...
    @property
    def cells(self) -> Cells: ...


class Coverage:
    """The number of the model that looked last at each tile of a grid.

    Parameters
    ----------
    tile_size : int
        Side of a tile, level-0 px.
    """

    def __init__(self, tile_size: int) -> None:
        self.tile_size = tile_size
        self._models: dict[tuple[int, int], int] = {}

    @property
    def tiles(self) -> IntArray:
        """int64 (n, 2): the corners (x, y), level-0 px, of the tiles at which a model has looked."""
        return np.array(sorted(self._models), np.int64).reshape(-1, 2)

    def note(self, x: int, y: int, model: int) -> None:
        """Note that `model` has looked at the tile whose corner is (x, y), level-0 px."""
        self._models[x, y] = model

    def at(self, points: FloatArray) -> NDArray[np.int16]:
        """Return int16 (n,): which model looked last at each place (n, 2), level-0 px; -1 for none."""
        places, which = np.unique(points // max(self.tile_size, 1), axis=0, return_inverse=True)
        of_tiles = [self._models.get((int(x), int(y)), -1) for x, y in places * self.tile_size]
        models: NDArray[np.int16] = np.array(of_tiles, np.int16)[which.ravel()]
        return models

    def over(self, x1: float, y1: float, x2: float, y2: float) -> int:
        """Return which model looked last at a rectangle, level-0 px; -1 for none, or more than one.

        Parts at which none has looked do not count: they are mostly glass.
        """
        if not self._models:
            return -1
        size = self.tile_size
        columns, rows = (range(int(a // size) * size, max(math.ceil(b), 1), size) for a, b in ((x1, x2), (y1, y2)))
        models = {self._models.get((x, y), -1) for x in columns for y in rows} - {-1}
        return models.pop() if len(models) == 1 else -1
