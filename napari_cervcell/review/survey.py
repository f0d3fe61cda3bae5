"""Places to look through, drawn at random: what a model misses there tells what it misses everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..cells import FloatArray, IntArray
from .boxes import box_about, usual_side
from .table import CellTable

if TYPE_CHECKING:
    from ..slides import Foreground

__all__ = ["Survey"]

_CELLS = 8.0
"""So many a place holds on average: few enough to be looked at one by one, in half a minute."""

_NARROWEST, _WIDEST = 5.0, 20.0  # sides of a usual cell: such a place is seen at a glance, and each cell in it
_TRIES = 500


class Survey:
    """Draws places among what models have looked at, or anywhere where none has.

    All of the foreground there is as likely to be in their middle, whatever was found, but for what is too near to what
    is checked already, and to the edge. Places that somebody has chosen tell nothing of the others.

    Parameters
    ----------
    table : CellTable
    seed : int
        With the same one, the same places come.
    """

    def __init__(self, table: CellTable, seed: int) -> None:
        self._table = table
        self._generator = np.random.default_rng([seed, 2])

    def draw(self, threshold: float, checked: FloatArray, tissue: Foreground) -> FloatArray | None:
        """Return float32 (4,), a square (x1, y1, x2, y2) in level-0 px; None where there is no room for another one.

        Its middle is on `tissue`, and it is so large that, were they spread evenly, it would hold some eight of the
        cells that reach `threshold` or that a reviewer confirmed. It does not reach into what is `checked`, boxes
        (m, 4) in level-0 px.
        """
        coverage, case = self._table.coverage, self._table.case
        tiles = coverage.tiles
        if len(tiles):
            areas = np.hstack([tiles, np.minimum(tiles + coverage.tile_size, (case.width, case.height))])
        else:
            areas = np.array([[0, 0, case.width, case.height]])
        sizes = (areas[:, 2:] - areas[:, :2]).prod(axis=1)
        side = self._side(areas, threshold, tissue)
        for which in self._generator.choice(len(areas), _TRIES, p=sizes / sizes.sum()).tolist():
            x, y = self._generator.uniform(areas[which, :2], areas[which, 2:]).tolist()
            place = box_about(x, y, side)
            x1, y1, x2, y2 = place.tolist()
            apart = (checked[:, :2] >= (x2, y2)) | (checked[:, 2:] <= (x1, y1))
            on_slide = min(x1, y1) >= 0 and x2 <= case.width and y2 <= case.height
            if on_slide and tissue.covers(x, y, x + 1, y + 1) and apart.any(axis=1).all():
                return place
        return None

    def _side(self, areas: IntArray, threshold: float, tissue: Foreground) -> float:
        """Return the side of a place, level-0 px, by how many cells there are on so much foreground."""
        case = self._table.case
        new, confirmed, _ = self._table.tally(threshold, len(self._table.taxonomy)).sum(axis=1).tolist()
        shown = new + confirmed
        on_mask = (areas / tissue.downsample).astype(np.int64)
        pixels = sum(int(tissue.mask[y1:y2, x1:x2].sum()) for x1, y1, x2, y2 in on_mask.tolist())
        side = np.sqrt(_CELLS * pixels / shown) * tissue.downsample if shown else np.inf
        usual = usual_side(self._table, case.mpp)
        widest = min(_WIDEST * usual, case.width / 2, case.height / 2)
        return float(np.clip(side, min(_NARROWEST * usual, widest), widest))
