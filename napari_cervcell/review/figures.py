"""The live figures of a sitting."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .estimates import Estimate, over, share_of, total_of, wilson
from .evidence import Evidence
from .sampling import BINS

__all__ = ["ClassFigures", "figures_of"]

_ENOUGH_CHECKED = 10  # cells (of a class, or else of all) in checked regions, to speak of the recall elsewhere


class ClassFigures(NamedTuple):
    """What the reviewed cells tell of one class on the whole slide.

    Attributes
    ----------
    precision : Estimate
        Of the detections that are shown as this class, the share that is of this class.
    recall : Estimate
        Of the cells of this class in checked regions, the share that the model had found, at whatever score.
    total : Estimate
        How many cells of this class are on what was scanned; NaN where no model has found anything yet, and no
        checked region tells what was missed.
    with_missed : bool
        Whether that counts the cells that the model missed, by what checked regions tell; these must hold some cells.
    """

    precision: Estimate
    recall: Estimate
    total: Estimate
    with_missed: bool

    def enough(self, within: float = 0.1) -> bool:
        """Whether the number of cells is known to within the given share of it, or to the cell."""
        return self.total.within <= within or self.total.high - self.total.low < 1


def figures_of(evidence: Evidence) -> list[ClassFigures]:
    """Return one :class:`ClassFigures` a class.

    They speak of the model whose detections are present now, and rest on verdicts on cells that it had not learnt
    from: of these the random sample, and the checked regions.
    """
    t, classes = evidence, evidence.classes
    asked, shown_asked = t.asked(), t.asked(shown=True)
    everywhere = _recall(t.found_checked.sum(), t.missed_checked.sum())
    named = np.repeat(np.arange(classes), BINS)  # what the detections of each stratum are called
    figures = []
    for label in range(classes):
        own = slice(label * BINS, (label + 1) * BINS)
        right = t.asked(shown=True, label=label)
        precision = share_of(t.shown_sizes[own], shown_asked[own], right[own])
        recall = _recall(t.found_checked[label], t.missed_checked[label])
        found = total_of(t.sizes, asked, t.asked(label=label), named == label)
        enough_checked = t.found_checked[label] + t.missed_checked[label] >= _ENOUGH_CHECKED
        rate = recall if enough_checked else everywhere
        # how many were missed is told by checked regions; without, those count that happened to be seen
        with_missed = rate.asked >= _ENOUGH_CHECKED
        total = over(found, rate) if with_missed else found.plus(float(t.added[label]))
        total = total.plus(float(t.known[label]))
        if not (t.any_found or with_missed):
            total = Estimate(math.nan, total.low, math.inf, 0)
        confirmed = float(t.confirmed[label])
        low, high = max(total.low, confirmed), max(total.high, confirmed)
        total = Estimate(max(total.value, confirmed), low, high, total.asked)
        figures.append(ClassFigures(precision, recall, total, with_missed))
    return figures


def _recall(found: np.int64, missed: np.int64) -> Estimate:
    n = int(found + missed)
    share = int(found) / n if n else math.nan
    return Estimate(share, *wilson(share, n), n)
