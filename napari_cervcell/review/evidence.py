"""Which verdicts put the model to the test, and of which detections they are a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..casefile import State
from ..cells import FloatArray, IntArray
from .sampling import BINS, sample_of
from .table import CellTable

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """The present detections as a population, and what the reviewer has said of a random sample of them.

    A verdict tests the model that made the detection; that model's children may have learnt from it. So a cell that
    was reviewed before the present model was made is none of the population: it is known. One reviewed under a later
    model, from which the reviewer has gone back, tests the present one too, but chance drew it from other detections.

    Attributes
    ----------
    classes : int
    sizes, shown_sizes : int64 (strata,)
        How many detections the population has of each stratum (see :func:`~.sampling.stratum_of`), and how many of
        them reach the threshold.
    sample_strata, sample_shown : int16 (m,), bool (m,)
        Of those in the random sample: the stratum, and whether it reaches the threshold.
    truth : int16 (m,)
        What these are by the reviewer's word, -1 for no cell.
    known : int64 (C,)
        Cells of each class that the present model had no part in, as they were known before.
    added : int64 (C,)
        Cells of each class that the present model had missed, in checked regions or elsewhere.
    confirmed : int64 (C,)
        All cells of each class that the reviewer has confirmed.
    found_checked, missed_checked : int64 (C,)
        Cells of each class in regions checked under the present model: those that it had found and those that not.
    any_found : bool
        Whether there is any detection, reviewed or not.
    """

    classes: int
    sizes: IntArray
    shown_sizes: IntArray
    sample_strata: NDArray[np.int16]
    sample_shown: NDArray[np.bool_]
    truth: NDArray[np.int16]
    known: IntArray
    added: IntArray
    confirmed: IntArray
    found_checked: IntArray
    missed_checked: IntArray
    any_found: bool = True

    @classmethod
    def of(
        cls,
        table: CellTable,
        checked: FloatArray,
        checked_models: NDArray[np.str_],
        threshold: float,
        classes: int,
    ) -> Evidence:
        """Take stock of `table`; `checked` (m, 4) are the checked regions and the models that these put to the test."""
        r, said = table.rows, table.annotations
        rows = table.rows_of(said.ids.tolist())
        partner = r["partner"][rows]
        has_partner = partner >= 0
        models, ages = table.models.of(said.model_ids), table.models.ages_of(said.model_ids)
        is_own = has_partner & (models >= 0) & (models == r["model"][partner])
        is_test = is_own | has_partner & (ages > table.models.ages()[r["model"][partner]])
        is_cell = said.states != State.REJECTED
        truth = np.where(is_cell, said.labels, -1).astype(np.int16)

        tested, truth_tested = partner[is_test], truth[is_test]
        is_shown = r["found_score"] >= np.float32(threshold)
        strata, shown = r["stratum"][tested], is_shown[tested]
        # of a million detections: in one pass, and those that do not count at a place of their own
        n = classes * BINS
        waits = r["found"] & ~r["covered"]
        place = np.where(waits, r["stratum"] * np.int16(2), np.int16(2 * n))
        place += is_shown
        below, above = np.bincount(place, minlength=2 * n)[: 2 * n].reshape(n, 2).T
        sample = sample_of(
            strata, r["lot"][tested], (said.drawn & is_own)[is_test], below + above, r["stratum"], r["lot"], waits
        )

        points = table.index.points[rows]
        new_to_it = is_cell & (models >= 0) & (models == table.coverage.at(points))
        inside = np.zeros(len(said), bool)
        for (x1, y1, x2, y2), model in zip(checked.tolist(), table.models.of(checked_models).tolist(), strict=True):
            if model >= 0 and model == table.coverage.over(x1, y1, x2, y2):
                inside |= (points >= (x1, y1)).all(axis=1) & (points <= (x2, y2)).all(axis=1)

        def count(which: NDArray[np.bool_]) -> IntArray:
            return np.bincount(truth[which & is_cell], minlength=classes)

        missed = new_to_it & ~has_partner
        return cls(
            classes,
            below + above + np.bincount(strata, minlength=n),
            above + np.bincount(strata[shown], minlength=n),
            strata[sample],
            shown[sample],
            truth_tested[sample],
            count(~is_test & ~missed),
            count(missed),
            count(is_cell),
            count(new_to_it & inside & has_partner),
            count(missed & inside),
            bool(r["found"].any()),
        )

    def asked(self, *, shown: bool = False, label: int | None = None) -> IntArray:
        """Return int64 (strata,): how many of the sample; those `shown`, with a label those that are of that class."""
        which = np.ones(len(self.truth), bool) if label is None else self.truth == label
        if shown:
            which &= self.sample_shown
        return np.bincount(self.sample_strata[which], minlength=self.classes * BINS)
