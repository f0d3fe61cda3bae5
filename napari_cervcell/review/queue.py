"""In which order to ask: the way the reviewer has come, and what is most worth asking next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray, IntArray
from .table import CellTable

__all__ = ["Queue", "worth_asking"]

_AHEAD = 512  # how many cells are put in order at a time
_RAREST = 4.0  # a rare class counts at most so many times as much as the commonest
_SECOND_LOOK = 1.0


def worth_asking(
    labels: IntArray, scores: FloatArray, class_scores: FloatArray, weights: FloatArray, threshold: float
) -> FloatArray:
    """Return float32 (n,), how much there is to learn from asking about each detection.

    Doubt whether it is a cell (score near the threshold) and, as far as it is one, doubt of its class, multiplied by
    the weight of the class, which is high where the class is rare; see :func:`rarity`.
    """
    doubt = 1 - np.abs(scores - threshold) / max(threshold, 1 - threshold)
    unsure = scores * (1 - class_scores)
    worth: FloatArray = ((doubt + unsure) * weights[labels]).astype(np.float32)
    return worth


def rarity(labels: IntArray, scores: FloatArray, classes: int) -> FloatArray:
    """Return float32 (C,), 1 for the commonest class and up to 4 for rare ones, by the expected number of cells."""
    expected = np.bincount(labels, weights=scores, minlength=classes) + 1
    weights: FloatArray = np.minimum(np.sqrt(expected.max() / expected), _RAREST).astype(np.float32)
    return weights


class Queue:
    """What the reviewer has been shown, in order, and what comes next.

    What comes next is put in order only when it is used up, or after :meth:`renew`, at the next step: nothing moves
    under the hand.

    Attributes
    ----------
    current : int or None
        The row of the cell that is shown.
    """

    def __init__(self, table: CellTable, classes: int, seed: int) -> None:
        self._table = table
        self._classes = classes
        self._generator = np.random.default_rng(seed)
        self.restart(None)

    def restart(self, current: int | None) -> None:
        """Forget the way the reviewer has come, as rows have new numbers."""
        self.current: int | None = None
        self._trail: list[int] = []
        self._at = -1
        self._passed: set[int] = set()
        self._ahead = np.zeros(0, np.int64)
        self._fresh = False
        self.select(current)

    def renew(self) -> None:
        """Put what comes next in order anew at the next step."""
        self._fresh = False

    def select(self, row: int | None) -> None:
        """Make `row` the current one, a new step of the way."""
        self._leave()
        self.current = row
        if row is not None:
            self._trail.append(row)
            self._at = len(self._trail) - 1

    def ahead(self, threshold: float) -> IntArray:
        """Return the rows of the cells that come next, the next one first, at most some hundred."""
        if not self._fresh and not len(self._ahead):
            self._order(threshold)
        return self._still_ahead()

    def step(self, threshold: float) -> int | None:
        """Go to the next cell worth asking and return its row; None where nothing is left to ask.

        After going back the way leads first over what was passed over.
        """
        self._leave()
        way = self._trail[self._at + 1 :]
        askable = np.flatnonzero(self._askable(np.array(way, np.int64)))
        if len(askable):
            self._at += 1 + int(askable[0])
            self.current = self._trail[self._at]
            return self.current
        if not self._fresh or not len(self._still_ahead()):
            self._order(threshold)
        if not len(self._ahead):  # only what was passed over is left: round again
            self._passed.clear()
            self._order(threshold)
        ahead = self._still_ahead()
        self._ahead = ahead[1:]
        if len(ahead):
            self.select(int(ahead[0]))
        elif self.current is not None and not self._is_askable(self.current):
            self.select(None)
        return self.current

    def step_back(self) -> int | None:
        """Go back to the cell shown before and return its row; the first one stays."""
        self._leave()
        state = self._table.rows["state"]
        for at in range(self._at - (self.current is not None), -1, -1):
            if state[self._trail[at]] >= 0:
                self._at, self.current = at, self._trail[at]
                break
        return self.current

    def _leave(self) -> None:
        """Remember a cell that the reviewer leaves without a verdict, so as not to ask it again at once."""
        if self.current is not None and self._is_askable(self.current):
            self._passed.add(self.current)

    def _still_ahead(self) -> IntArray:
        current = -1 if self.current is None else self.current
        ahead: IntArray = self._ahead[self._askable(self._ahead) & (self._ahead != current)]
        return ahead

    def _is_askable(self, row: int) -> bool:
        return bool(self._askable(np.array([row]))[0])

    def _askable(self, rows: IntArray) -> NDArray[np.bool_]:
        r = self._table.rows
        askable: NDArray[np.bool_] = (r["state"][rows] == 0) | r["disagrees"][rows]
        return askable

    def _order(self, threshold: float) -> None:
        r = self._table.rows
        wanted = (r["state"] == 0) | r["disagrees"]
        self._passed = {row for row in self._passed if wanted[row]}
        wanted[np.fromiter(self._passed, np.int64)] = False
        if self.current is not None:
            wanted[self.current] = False
        rows = np.flatnonzero(wanted)
        again = np.flatnonzero(r["disagrees"][rows])
        # of a cell that the reviewer has named and a later model names otherwise, ask about what that model says
        source = rows.copy()
        source[again] = r["partner"][rows[again]]
        labels, scores, class_scores = (r[name][source] for name in ("found_label", "found_score", "found_class_score"))
        weights = rarity(labels, scores, self._classes)
        worth = worth_asking(labels, scores, class_scores, weights, threshold)
        worth[again] += _SECOND_LOOK
        if len(rows) > _AHEAD:
            best = np.argpartition(-worth, _AHEAD)[:_AHEAD]
            rows, worth = rows[best], worth[best]
        ties = self._generator.random(len(rows))  # equals come in no order of place
        ahead: IntArray = rows[np.lexsort((ties, -worth))]
        self._ahead = ahead
        self._fresh = True
