"""What a reviewer's judgement on a cell says that is not known yet, and the verdict that a case keeps of it."""

from __future__ import annotations

import numpy as np

from ..casefile import State, Verdict
from ..cells import FloatArray, centres_of
from .contradiction import DOUBTED, contradictions
from .table import CellTable

__all__ = ["Said", "is_news", "verdict_of"]

Said = tuple[int | None, FloatArray, int | None]  # row (None: no such cell yet), box, class (None: not a cell)


def is_news(said: Said, table: CellTable, n_classes: int) -> bool:
    """Say whether it differs from what the reviewer has said of the cell, or answers a later model."""
    row, _, label = said
    r = table.rows
    if row is None or r["annotation"][row] < 0 or r["disagrees"][row]:
        return True
    rejected = r["state"][row] == State.REJECTED
    if not rejected if label is None else rejected or label != r["label"][row]:
        return True
    before = table.annotations[table.annotations.ids == r["annotation"][row]]
    return bool((contradictions(table, before, n_classes) >= DOUBTED).any())


def verdict_of(said: Said, table: CellTable, drawn: bool) -> Verdict:
    """Return what the case keeps: the judgement, and what the model had said; `drawn` tells whether chance chose it."""
    row, box, label = said
    r = table.rows
    known = row is not None and r["annotation"][row] >= 0
    # whose class the reviewer sees beside their own: that of the detection in the place of the cell
    source = -1 if row is None else int(r["partner"][row]) if known else row
    detected = int(r["found_label"][source]) if source >= 0 else -1
    return Verdict(
        kind="reject" if label is None else "add" if row is None else "accept" if label == detected else "class",
        box=box,
        label=(-1 if row is None else int(r["label"][row])) if label is None else label,
        cell=int(r["annotation"][row]) if known else None,
        detected_label=detected,
        score=float(r["found_score"][source]) if source >= 0 else np.nan,
        # that of an added cell is the one that has missed it
        model_id=table.models.id_of(table.coverage.at(centres_of(box[None]))[0] if source < 0 else r["model"][source]),
        drawn=drawn,
    )
