"""How many cells of each class lie where on a slide: true counts, for when there are too many to show one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray

__all__ = ["Density", "squares_of"]

_FINEST = 256  # level-0 px: some ten cells lie side by side there
_MOST = 512  # squares a side


def squares_of(points: FloatArray, size: tuple[int, int]) -> NDArray[np.int32]:
    """Return the number of the square, row by row, in which each of `points` (n, 2) lies: (x, y) in level-0 px, on a
    slide of `size` (width, height); beyond its edge the nearest square."""
    side, columns, rows = _grid(size)
    x = np.clip(points[:, 0] * np.float32(1 / side), 0, columns - 1).astype(np.int32)
    y = np.clip(points[:, 1] * np.float32(1 / side), 0, rows - 1).astype(np.int32)
    squares: NDArray[np.int32] = y * np.int32(columns) + x
    return squares


def _grid(size: tuple[int, int]) -> tuple[float, int, int]:
    """Return (side, columns, rows) of the squares."""
    side = float(_FINEST)
    while max(size) > _MOST * side:
        side *= 2
    columns, rows = (max(1, -int(-length // side)) for length in size)
    return side, columns, rows


@dataclass(frozen=True)
class Density:
    """Counts of cells in the squares of a grid over the whole slide, from its upper left corner on.

    Attributes
    ----------
    counts : int32 (rows, columns, n_classes)
    square : float
        Side of a square in level-0 px.
    """

    counts: NDArray[np.int32]
    square: float

    @classmethod
    def of(
        cls,
        counted: NDArray[np.bool_],
        squares: NDArray[np.int32],
        labels: NDArray[np.int16],
        size: tuple[int, int],
        n_classes: int,
    ) -> Density:
        """Count those of the cells that are `counted` (n,), in `squares` (n,), see :func:`squares_of`, of `labels`."""
        side, columns, rows = _grid(size)
        n = rows * columns * n_classes
        # the others go to a place of their own: to pick out those that count takes longer
        places = np.where(counted, squares * np.int32(n_classes) + labels, np.int32(n))
        counts = np.bincount(places, minlength=n + 1)[:n].astype(np.int32)
        return cls(counts.reshape(rows, columns, n_classes), side)

    def about(self, x1: float, y1: float, x2: float, y2: float) -> int:
        """Return the number of cells in all squares that a rectangle, level-0 px, touches."""
        left, top = max(0, int(x1 // self.square)), max(0, int(y1 // self.square))
        right, bottom = max(0, int(x2 // self.square) + 1), max(0, int(y2 // self.square) + 1)
        return int(self.counts[top:bottom, left:right].sum())

    def of_block(self, left: int, top: int, right: int, bottom: int) -> NDArray[np.int64]:
        """Return int64 (n_classes,): the cells in the squares of a block of rows and columns."""
        # one axis after the other: both at once takes eight times as long
        total: NDArray[np.int64] = self.counts[top:bottom, left:right].sum(axis=0, dtype=np.int64).sum(axis=0)
        return total

    def coarser(self, smallest: float) -> Density:
        """Return the same counts in squares of at least `smallest` level-0 px."""
        counts, square = self.counts, self.square
        while square < smallest and max(counts.shape[:2]) > 1:
            rows, columns, n = counts.shape
            even = np.zeros((rows + rows % 2, columns + columns % 2, n), np.int32)
            even[:rows, :columns] = counts
            counts = even[0::2, 0::2] + even[1::2, 0::2] + even[0::2, 1::2] + even[1::2, 1::2]
            square *= 2
        return Density(counts, square)
