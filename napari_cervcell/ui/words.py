"""What is said of a cell, and where none is current, in one place for all that say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..casefile import State

if TYPE_CHECKING:
    from ..review import Session

__all__ = ["STATES", "describe", "score_of", "scores_of", "what_to_do"]

STATES = {
    0: "new",
    State.ACCEPTED: "accepted",
    State.CORRECTED: "class corrected",
    State.REJECTED: "rejected: not a cell of interest",
    State.ADDED: "added by hand",
}


def what_to_do(session: Session) -> str:
    """Say what comes next where no cell is current."""
    counts = session.counts()
    if any(c.detected > c.reviewed for c in counts):
        return "Click a cell, or press Next for the one most worth asking."
    if any(c.reviewed + c.rejected for c in counts):
        return "All cells shown are reviewed. If the case is done, press Done under Case."
    if (session.states == 0).any():
        return "The cells found are all less sure than those shown: move Show from to the left."
    return "No cells were found." if session.case.is_scanned else "Detect cells first."


def scores_of(session: Session, row: int) -> str:
    """Say how sure the model is that there is a cell, and of its class; empty where no model spoke."""
    scores = ("cell", score_of(session, row)), ("class", _percent(session.cells.class_scores[row]))
    return " · ".join(f"{what} {value}" for what, value in scores if value)


def score_of(session: Session, row: int, by: str = " by likeness") -> str:
    """Say how sure the model is that there is a cell and, of one nobody spoke of, where likeness moves that."""
    own, moved = _percent(session.cells.scores[row]), _percent(session.answers.score(row))
    return f"{own} → {moved}{by}" if own and moved not in ("", own) and session.states[row] == 0 else own


def _percent(value: float) -> str:
    return f"{value:.0%}" if np.isfinite(value) and value >= 0 else ""


def describe(session: Session, mpp: tuple[float, float], row: int) -> str:
    """Say what a cell is: class, scores, size in µm (`mpp` in x and y), state."""
    label = int(session.cells.labels[row])
    x1, y1, x2, y2 = session.cells.boxes[row].tolist()
    told = [
        session.taxonomy[label].name if label >= 0 else "no class",
        scores_of(session, row),
        f"{(x2 - x1) * mpp[0]:.0f} x {(y2 - y1) * mpp[1]:.0f} µm",
        STATES[int(session.states[row])],
    ]
    return " · ".join(part for part in told if part)
