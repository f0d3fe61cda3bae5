"""One size of a slide, with what napari asks of an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .grids import Box
    from .stream import Stream

__all__ = ["StreamLevel"]

RGB = NDArray[np.uint8]

_CHUNK = 256  # px: viewers ask for whole chunks; larger ones mean larger pictures to draw again and again


class StreamLevel:
    """One size of a slide as uint8 (rows, columns, 3).

    Indexing it with numbers, slices and an ellipsis gives arrays, which fill up as `Stream` says.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, stream: Stream, number: int) -> None:
        grid = stream.grids[number]
        self.stream = stream
        self.number = number
        self.shape = (grid.rows, grid.columns, 3)
        self.size = 3 * grid.rows * grid.columns
        self.chunks = (_CHUNK, _CHUNK, 3)

    def __repr__(self) -> str:
        return f"<StreamLevel {self.number} of {self.stream.slide!r}, {self.shape[1]} x {self.shape[0]}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _level_of, (self.stream, self.number)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        given = key if isinstance(key, tuple) else (key,)
        if Ellipsis in given:
            at = given.index(Ellipsis)
            given = given[:at] + (slice(None),) * (self.ndim - len(given) + 1) + given[at + 1 :]
        rows, columns, *rest = given + (slice(None),) * (self.ndim - len(given))
        (top, bottom), row = _span(rows, self.shape[0])
        (left, right), column = _span(columns, self.shape[1])
        return self._pixels((left, top, right, bottom))[(row, column, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        pixels = self._pixels((0, 0, self.shape[1], self.shape[0]))
        return np.array(pixels, dtype) if copy or dtype not in (None, self.dtype) else pixels

    def _pixels(self, box: Box) -> RGB:
        return self.stream.view(self.number, box)


def _level_of(stream: Stream, number: int) -> StreamLevel:
    return stream.levels[number]


def _span(index: Any, side: int) -> tuple[tuple[int, int], Any]:
    """Return (start, stop) of what an index takes of an axis, and the index to be used on that part."""
    if not isinstance(index, slice):
        taken = range(side)[index]
        return (taken, taken + 1), 0
    taken = range(side)[index]
    if not taken:
        return (0, 0), slice(None)
    return (min(taken[0], taken[-1]), max(taken[0], taken[-1]) + 1), slice(None, None, taken.step)
