"""What one model finds on a slide that another does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..casefile import Case, Detections
from ..cells import Cells
from .committee import NOTHING_FOUND, opinions
from .verdicts import ReviewError

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The cells that only the later of two models finds, and those that only the earlier one does, the surest first."""

    appeared: Cells
    vanished: Cells


def compare(case: Case, earlier: str, later: str, threshold: float) -> Comparison:
    """Compare what two models, by their ids, found where both have looked, of a score of at least `threshold`.

    Raises CaseError, and ReviewError where there is no such place.
    """
    before, after = case.detections(earlier), case.detections(later)
    both = set(map(tuple, before.tiles.tolist())) & set(map(tuple, after.tiles.tolist()))
    if not both:
        raise ReviewError(
            "The two models have not looked at the same places of this slide yet. "
            "Detect with each of them, then compare."
        )
    old, new = (_within(found, both, threshold) for found in (before, after))
    return Comparison(_not_in(new, old), _not_in(old, new))


def _within(found: Detections, tiles: set[tuple[int, ...]], threshold: float) -> Cells:
    wanted: NDArray[np.bool_] = np.array([tuple(tile) in tiles for tile in found.tiles.tolist()], bool)
    return found.cells[np.repeat(wanted, found.counts) & (found.cells.scores >= threshold)]


def _not_in(cells: Cells, others: Cells) -> Cells:
    labels, _ = opinions(cells.centres, others)
    alone = cells[labels == NOTHING_FOUND]
    return alone[np.argsort(-alone.scores, kind="stable")]
