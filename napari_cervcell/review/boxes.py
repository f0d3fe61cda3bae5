"""The boxes of cells that the reviewer adds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..casefile import Case
from ..cells import FloatArray, median_side
from .table import CellTable
from .verdicts import ReviewError

__all__ = ["box_about", "drawn_box", "usual_side"]

_CELL_UM = 15.0  # side of the box of an added cell where nothing was detected to go by
_USUAL_MPP = 0.25


def usual_side(table: CellTable, mpp: float | None) -> float:
    """Return the side of the median detection's box, or of a usual cell's where there is none, level-0 px."""
    found = np.flatnonzero(table.rows["found"])
    if not len(found):
        return _CELL_UM / (mpp or _USUAL_MPP)
    return median_side(table.rows["box"][found[:: max(1, len(found) // 4096)]])


def box_about(x: float, y: float, side: float) -> FloatArray:
    """Return float32 (4,), the square box of a `side` about (x, y), level-0 px."""
    return np.array([x, y, x, y], np.float32) + np.float32(side / 2) * np.array([-1, -1, 1, 1], np.float32)


def drawn_box(box: Sequence[float] | FloatArray, case: Case) -> FloatArray:
    """Return float32 (4,), the box between two corners, level-0 px.

    Raises ReviewError where its middle is not on the slide of `case` or it has no extent.
    """
    (x1, x2), (y1, y2) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    if not (0 <= (x1 + x2) / 2 < case.width and 0 <= (y1 + y2) / 2 < case.height):
        raise ReviewError("A cell can be added on the slide only.")
    if x2 - x1 < 1 or y2 - y1 < 1:
        raise ReviewError("A box must have some extent.")
    return np.array([x1, y1, x2, y2], np.float32)
