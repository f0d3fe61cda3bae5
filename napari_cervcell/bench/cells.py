"""Very many cells, for measuring what many cells cost."""

from __future__ import annotations

import numpy as np

from ..casefile import Case
from ..cells import Cells

__all__ = ["fill_case", "random_cells"]

_SHARES = (0.93, 0.03, 0.02, 0.005, 0.01, 0.005)  # of the classes, the most severe are few
_HALF = (22.0, 38.0)  # px, of a box's sides
_TILE = 2048


def random_cells(n: int, size: tuple[int, int]) -> Cells:
    """Return `n` cells all over a slide of `size` (width, height) px, always the same ones."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 1, (n, 2)) * size
    halves = rng.uniform(*_HALF, (n, 2))
    boxes = np.hstack([centres - halves, centres + halves]).astype(np.float32)
    labels = rng.choice(len(_SHARES), n, p=_SHARES).astype(np.int16)
    scores, class_scores = rng.uniform([[0.5], [0.3]], 1, (2, n)).astype(np.float32)
    return Cells(boxes, labels, scores, class_scores)


def fill_case(case: Case, cells: Cells) -> None:
    """Write `cells` to `case` as a finished detection. Raises CaseError."""
    run = case.start_run("bench", "for measuring", "slide")
    column, row = (cells.centres // _TILE).astype(int).T
    order = np.lexsort((column, row))
    edges = np.flatnonzero(np.diff(row[order] * 100_000 + column[order])) + 1
    for which in np.split(order, edges):
        x, y = int(column[which[0]]) * _TILE, int(row[which[0]]) * _TILE
        case.write_tile(run, x, y, _TILE, cells[which])
    case.finish_run(run, "done")
