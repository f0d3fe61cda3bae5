"""Cells: the struct of arrays that every stage passes on, and its geometry.

Coordinates are level-0 pixels of the slide, (x, y), float32; a box is (x1, y1, x2, y2). Where a function works in
another frame (network input, field image) its docstring says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells", "GridIndex", "centres_of", "iou_with", "median_side", "suppress", "union_area"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

_RECORD = np.dtype(
    [("box", "<f4", (4,)), ("label", "<i2"), ("score", "<f4"), ("class_score", "<f4")],
)


@dataclass(slots=True)
class Cells:
    """`n` cells as parallel arrays.

    Attributes
    ----------
    boxes : float32 (n, 4)
        (x1, y1, x2, y2) in level-0 pixels.
    labels : int16 (n,)
        Class index in the taxonomy.
    scores : float32 (n,)
        How sure the model is that there is a cell, in [0, 1].
    class_scores : float32 (n,)
        How sure it is of the class, given that there is a cell, in [0, 1].
    """

    boxes: FloatArray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    labels: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    scores: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    class_scores: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        self.boxes = np.ascontiguousarray(self.boxes, np.float32).reshape(-1, 4)
        self.labels = np.ascontiguousarray(self.labels, np.int16)
        self.scores = np.ascontiguousarray(self.scores, np.float32)
        self.class_scores = np.ascontiguousarray(self.class_scores, np.float32)
        n = len(self.boxes)
        if not (len(self.labels) == len(self.scores) == len(self.class_scores) == n):
            raise ValueError("the arrays of Cells must have one length")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, which: Any) -> Cells:
        """Return the cells picked by a slice, a mask or an index array."""
        return Cells(self.boxes[which], self.labels[which], self.scores[which], self.class_scores[which])

    @property
    def centres(self) -> FloatArray:
        """float32 (n, 2): (x, y) of the box centres in level-0 pixels."""
        return centres_of(self.boxes)

    @classmethod
    def concatenate(cls, parts: Sequence[Cells]) -> Cells:
        if not parts:
            return cls()
        return cls(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.class_scores for p in parts]),
        )

    def moved(self, dx: float, dy: float, scale: float | tuple[float, float] = 1.0) -> Cells:
        """Return a copy with every box multiplied by `scale`, one or one each for x and y, then shifted by (dx, dy)."""
        x, y = scale if isinstance(scale, tuple) else (scale, scale)
        boxes = self.boxes * np.array([x, y, x, y], np.float32) + np.array([dx, dy, dx, dy], np.float32)
        return Cells(boxes, self.labels, self.scores, self.class_scores)

    def to_bytes(self) -> bytes:
        """Return a packed little-endian record per cell, for storage."""
        records = np.empty(len(self), _RECORD)
        records["box"] = self.boxes
        records["label"] = self.labels
        records["score"] = self.scores
        records["class_score"] = self.class_scores
        return records.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Cells:
        """Undo :meth:`to_bytes`; raise ValueError where `data` is not a whole number of records."""
        r = np.frombuffer(data, _RECORD)
        return cls(r["box"], r["label"], r["score"], r["class_score"])


def centres_of(boxes: FloatArray) -> FloatArray:
    """Return float32 (n, 2), the (x, y) centres of `boxes` (n, 4)."""
    centres: FloatArray = ((boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)).astype(np.float32)
    return centres


def median_side(boxes: FloatArray) -> float:
    """Return the side of the median of `boxes` (n, 4), the mean of its width and height."""
    return float(np.median((boxes[:, 2:] - boxes[:, :2]).mean(axis=1)))


def iou_with(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """Return float32 (n,), the intersection over union of one `box` (4,) with each of `boxes` (n, 4)."""
    x1, y1 = np.maximum(box[0], boxes[:, 0]), np.maximum(box[1], boxes[:, 1])
    x2, y2 = np.minimum(box[2], boxes[:, 2]), np.minimum(box[3], boxes[:, 3])
    inter = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = area + areas - inter
    iou: FloatArray = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0).astype(np.float32)
    return iou


def union_area(boxes: FloatArray) -> float:
    """Return the area that `boxes` (n, 4) cover together, what several cover counted once."""
    xs, ys = (np.unique(boxes[:, [i, i + 2]].astype(np.float64)) for i in (0, 1))
    if not len(boxes):
        return 0.0
    covered = np.zeros((len(ys) - 1, len(xs) - 1), bool)
    for x1, y1, x2, y2 in boxes.astype(np.float64):
        rows, columns = np.searchsorted(ys, (y1, y2)), np.searchsorted(xs, (x1, x2))
        covered[slice(*rows), slice(*columns)] = True
    return float(np.diff(ys) @ covered @ np.diff(xs))


def suppress(cells: Cells, iou: float = 0.4) -> IntArray:
    """Greedy non-maximum suppression: return the indices kept, highest score first.

    Of two cells whose boxes overlap by more than `iou` only the higher score stays, whatever their classes: one
    nucleus is one cell. Neighbours are found through a :class:`GridIndex`, so the cost grows with n and not n².
    """
    order = np.argsort(-cells.scores, kind="stable")
    if len(order) < 2:
        return order
    reach = float((cells.boxes[:, 2:] - cells.boxes[:, :2]).max())
    index = GridIndex(cells.centres, max(reach, 1.0))
    alive = np.ones(len(cells), bool)
    kept: list[int] = []
    for i in order:
        if not alive[i]:
            continue
        kept.append(int(i))
        x, y = index.points[i]
        near = index.within(x - reach, y - reach, x + reach, y + reach)
        near = near[alive[near] & (near != i)]
        alive[near[iou_with(cells.boxes[i], cells.boxes[near]) > iou]] = False
    return np.asarray(kept, np.int64)


class GridIndex:
    """A static spatial index: points sorted by the grid square that they lie in.

    Parameters
    ----------
    points : float32 (n, 2)
        (x, y) in any one frame.
    square : float
        Side of a grid square in the same unit.
    """

    def __init__(self, points: FloatArray, square: float = 512.0) -> None:
        self.points = np.asarray(points, np.float32).reshape(-1, 2)
        self.square = float(square)
        if len(self.points):
            self._origin = self.points.min(axis=0)
            col, row = np.floor((self.points - self._origin) / self.square).astype(np.int64).T
            self._columns, self._rows = int(col.max()) + 1, int(row.max()) + 1
        else:
            self._origin = np.zeros(2, np.float32)
            col = row = np.zeros(0, np.int64)
            self._columns = self._rows = 0
        squares = self._columns * self._rows
        key = row * self._columns + col
        # numbers of 16 bits are sorted 20 times faster
        self._order = np.argsort(key.astype(np.min_scalar_type(squares)), kind="stable")
        self._start = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=squares))])

    def within(self, x1: float, y1: float, x2: float, y2: float) -> IntArray:
        """Return the indices of the points with x1 <= x <= x2 and y1 <= y <= y2, in no set order."""
        # the squares of one grid row are neighbours in the sorted order: one slice a row
        runs = [self._order[start:end] for start, end in zip(*self._slices(x1, y1, x2, y2), strict=True)]
        if not runs:
            return np.zeros(0, np.int64)
        found = np.concatenate(runs)
        p = self.points[found]
        inside = (p[:, 0] >= x1) & (p[:, 0] <= x2) & (p[:, 1] >= y1) & (p[:, 1] <= y2)
        return found[inside]

    def at_most(self, x1: float, y1: float, x2: float, y2: float) -> int:
        """Return the number of points in all squares that a rectangle touches: no fewer than :meth:`within` returns."""
        starts, ends = self._slices(x1, y1, x2, y2)
        return int((ends - starts).sum())

    def _slices(self, x1: float, y1: float, x2: float, y2: float) -> tuple[IntArray, IntArray]:
        """Return where in the sorted order the squares that a rectangle touches start and end, one pair a grid row."""
        lo = np.floor((np.array([x1, y1]) - self._origin) / self.square).astype(np.int64)
        hi = np.floor((np.array([x2, y2]) - self._origin) / self.square).astype(np.int64)
        c1, c2 = max(int(lo[0]), 0), min(int(hi[0]), self._columns - 1)
        r1, r2 = max(int(lo[1]), 0), min(int(hi[1]), self._rows - 1)
        rows = np.arange(r1, r2 + 1 if c1 <= c2 else r1) * self._columns
        return self._start[rows + c1], self._start[rows + c2 + 1]

    def pairs(self, centres: FloatArray, reaches: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Return all pairs of one of `centres` (m, 2) and a point no further from it than its reach (m,).

        That is int64 (k,) which centre, int64 (k,) which point, and float32 (k,) how far they are apart.
        """
        last = np.array([self._columns, self._rows]) - 1
        lo, hi = (
            np.floor((centres + sign * reaches[:, None] - self._origin) / self.square).astype(np.int64)
            for sign in (-1, 1)
        )
        lo, hi = np.maximum(lo, 0), np.minimum(hi, last)
        # a run of the sorted order for every grid row that a centre reaches
        rows = np.where((lo <= hi).all(axis=1), hi[:, 1] - lo[:, 1] + 1, 0)
        of = np.repeat(np.arange(len(centres)), rows)
        row = _counted(lo[:, 1], rows) * self._columns
        start, end = self._start[row + lo[of, 0]], self._start[row + hi[of, 0] + 1]
        point = self._order[_counted(start, end - start)]
        of = np.repeat(of, end - start)
        distance = np.hypot(*(self.points[point] - centres[of]).T)
        inside = distance <= reaches[of]
        return of[inside], point[inside], distance[inside]

    def nearest(self, x: float, y: float, radius: float) -> int | None:
        """Return the index of the point nearest to (x, y) no further than `radius` away, or None."""
        near = self.within(x - radius, y - radius, x + radius, y + radius)
        if not len(near):
            return None
        distance = np.hypot(*(self.points[near] - np.array([x, y], np.float32)).T)
        best = int(np.argmin(distance))
        return int(near[best]) if distance[best] <= radius else None


def _counted(starts: IntArray, counts: IntArray) -> IntArray:
    """Return ``start, start + 1, ...``, as many as `counts` says, for every start, one after the other."""
    counted: IntArray = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    return counted
