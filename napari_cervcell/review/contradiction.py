"""How much a later model is against what the reviewer said: where a verdict may have been a slip."""

from __future__ import annotations

import numpy as np

from ..casefile import Annotations, State
from ..cells import FloatArray
from .table import CellTable

__all__ = ["DOUBTED", "contradictions"]

DOUBTED = 0.5
"""From here on a verdict is worth a second look."""


def contradictions(table: CellTable, said: Annotations, classes: int) -> FloatArray:
    """Return float32 (n,), for each of `said` the probability that a later model gives to everything else.

    Of a cell called class l, ``1 - p(cell) p(l)``, and 1 where the later model finds nothing any more; of a rejection
    ``p(cell)``. The share that a detection leaves to other classes than its own is taken as spread over them evenly.
    0 where no model has looked since, for what the reviewer saw is no news, and where it is not known what they saw.
    """
    r = table.rows
    rows = table.rows_of(said.ids.tolist())
    partner = r["partner"][rows]
    found = partner >= 0
    later = found & (said.answered != "") & (r["model"][partner] != table.models.of(said.answered))
    now = table.coverage.at(table.index.points[rows])
    lost = ~found & (said.detected_labels >= 0) & (now >= 0) & (now != table.models.of(said.answered))
    score, share = r["found_score"][partner], r["found_class_score"][partner]
    same = r["found_label"][partner] == said.labels
    agreed = score * np.where(same, share, (1 - share) / max(classes - 1, 1))
    rejected = said.states == State.REJECTED
    against: FloatArray = np.where(later, np.where(rejected, score, 1 - agreed), lost & ~rejected).astype(np.float32)
    return against
