"""Arrays and an index that grow at their end, so that a new cell costs a row and not a rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray, GridIndex, IntArray

__all__ = ["GrowingIndex", "Rows"]


class Rows:
    """Parallel arrays of one length. A row never moves: its number names it for as long as these rows live.

    Parameters
    ----------
    columns : dict
        For each column the value of a row that was given none; its dtype and shape are the column's.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any] | np.generic]) -> None:
        self._defaults = dict(columns)
        self._data = {name: np.empty((0, *value.shape), value.dtype) for name, value in columns.items()}
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return the column as a view that may be written to; it does not see rows appended later."""
        return self._data[name][: self._n]

    def append(self, n: int, **values: Any) -> IntArray:
        """Add `n` rows; return their numbers."""
        start, end = self._n, self._n + n
        for name, default in self._defaults.items():
            column = self._data[name]
            if end > len(column):
                # with room to spare from the first: the next cell must not cost a copy of a million
                column = np.empty((max(end + end // 8, 2 * len(column)), *column.shape[1:]), column.dtype)
                column[:start] = self._data[name][:start]
                self._data[name] = column
            column[start:end] = values.get(name, default)
        self._n = end
        return np.arange(start, end)


class GrowingIndex:
    """A spatial index that points are added to.

    It is a handful of :class:`GridIndex`, each over a run of points, and a short tail that is looked through. When
    the tail is long it becomes a run; runs of about one size are merged, up to a size that takes some ms to sort.
    """

    TAIL = 2048
    LARGEST = 131_072

    def __init__(self) -> None:
        self._runs: list[tuple[int, GridIndex]] = []  # the number of the first point, and the index of the run
        self._points = Rows({"point": np.zeros(2, np.float32)})
        self._indexed = 0

    def __len__(self) -> int:
        return len(self._points)

    @property
    def points(self) -> FloatArray:
        """float32 (n, 2): (x, y)."""
        return self._points["point"]

    def add(self, points: FloatArray) -> None:
        """Add `points` (m, 2), numbered on from those already here."""
        self._points.append(len(points), point=points)
        if len(self) - self._indexed > self.TAIL:
            start = self._indexed
            while self._runs:
                first, run = self._runs[-1]
                if len(run.points) > len(self) - start or len(self) - first > self.LARGEST:
                    break
                start = first
                self._runs.pop()
            self._runs.append((start, GridIndex(self.points[start:].copy())))
            self._indexed = len(self)

    def within(self, x1: float, y1: float, x2: float, y2: float) -> IntArray:
        """Return the numbers of the points with x1 <= x <= x2 and y1 <= y <= y2, in no set order."""
        tail = self.points[self._indexed :]
        inside = (tail[:, 0] >= x1) & (tail[:, 0] <= x2) & (tail[:, 1] >= y1) & (tail[:, 1] <= y2)
        found = [first + run.within(x1, y1, x2, y2) for first, run in self._runs]
        return np.concatenate([*found, self._indexed + np.flatnonzero(inside)])

    def pairs(self, centres: FloatArray, reaches: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Return all pairs of one of `centres` (m, 2) and a point within its reach (m,); see `GridIndex.pairs`."""
        runs = [*self._runs, (self._indexed, GridIndex(self.points[self._indexed :]))]
        found = [
            (of, first + point, distance)
            for first, run in runs
            for of, point, distance in [run.pairs(centres, reaches)]
        ]
        of, point, distance = (np.concatenate(part) for part in zip(*found, strict=True))
        return of, point, distance

    def at_most(self, x1: float, y1: float, x2: float, y2: float) -> int:
        """Return a number of points that is not below that in a rectangle: those in the squares of a grid about it."""
        return len(self) - self._indexed + sum(run.at_most(x1, y1, x2, y2) for _, run in self._runs)
