"""In which order to ask: the way the reviewer has come, and what is most worth asking next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..casefile import State
from ..cells import IntArray
from .sampling import BINS
from .strategies import STRATEGIES, TURNS, Pool, StrategyName, mix
from .table import CellTable

__all__ = ["COMING", "Neighbours", "Queue"]

COMING = 3
"""How many of the cells that come next are shown beside the current one: these keep their places."""

_AHEAD = 512  # how many cells are put in order at a time
_REST = 20  # steps after which a cell drawn at random that was passed over comes again: the figures wait for it


class Neighbours(NamedTuple):
    """The cells beside the current one.

    Attributes
    ----------
    before : int or None
        The row to which going back would lead.
    coming : int64 (m,)
        The rows to which the next steps lead, at most `COMING`, whatever is found meanwhile, as long as they are there
        and nobody speaks of them; none before the first step, and after `forget` until the next.
    """

    before: int | None
    coming: IntArray


class Queue:
    """What the reviewer has been shown, in order, and what comes next.

    What comes next is put in order only when it is used up, after :meth:`renew`, or when it is time for a cell that was
    passed over, at the next step, and then behind those that are shown already: nothing moves under the hand.

    Attributes
    ----------
    strategy : str
        By which what comes next is chosen; see :mod:`.strategies`. A new one holds after :meth:`forget`.
    current : int or None
        The row of the cell that is shown.
    drawn : set of int
        The rows that the queue has led to because they were drawn at random.
    """

    def __init__(self, table: CellTable, strategy: StrategyName, seed: int) -> None:
        self._table = table
        self.strategy = strategy
        self._generator = np.random.default_rng(seed)
        self._turn = 0  # of the mix, that is next: what comes is put in order anew more often than all have had theirs
        self.restart(None)

    def restart(self, current: int | None) -> None:
        """Forget the way the reviewer has come, as rows have new numbers."""
        self.current: int | None = None
        self._trail: list[int] = []
        self._at = -1
        self._steps = 0
        self._passed: dict[int, int] = {}  # and the step at which they may come again
        self._rests: dict[int, int] = {}  # of how many steps, longer each time: who cannot say is not to go in circles
        self.drawn: set[int] = set()
        self.forget()
        self.select(current)

    def forget(self) -> None:
        """Drop what comes next: it is chosen anew, those that are shown already too."""
        self._ahead = np.zeros(0, np.int64)
        self._lots_ahead: set[int] = set()
        self._turns_ahead: dict[int, int] = {}
        self._fresh = False

    def renew(self) -> None:
        """Put what comes next, but for what is shown already, in order anew at the next step."""
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

    def neighbours(self) -> Neighbours:
        """Return what is before and after the current cell; puts nothing in order, and so costs nothing."""
        before = self._before()
        coming: IntArray = np.concatenate([self._way(), self._still_ahead()])[:COMING]
        return Neighbours(None if before is None else self._trail[before], coming)

    def step(self, threshold: float) -> int | None:
        """Go to the next cell worth asking and return its row; None where nothing is left to ask.

        After going back the way leads first over what was passed over.
        """
        self._leave()
        self._steps += 1
        way = self._way()
        if len(way):
            self.current = int(way[0])
            self._at = self._trail.index(self.current, self._at + 1)
            return self.current
        if not self._fresh or len(self._still_ahead()) <= COMING or self._due():
            self._order(threshold)
        if not len(self._ahead):  # only what was passed over is left: round again
            self._passed.clear()
            self._order(threshold)
        ahead = self._still_ahead()
        self._ahead = ahead[1:]
        if len(ahead):
            row = int(ahead[0])
            if row in self._lots_ahead:
                self.drawn.add(row)
            if row in self._turns_ahead:
                self._turn = _after(self._turns_ahead[row])
            self.select(row)
        elif self.current is not None and not self._is_askable(self.current):
            self.select(None)
        return self.current

    def step_back(self) -> int | None:
        """Go back to the cell shown before and return its row; the first one stays."""
        self._leave()
        at = self._before()
        if at is not None:
            self._at, self.current = at, self._trail[at]
        return self.current

    def _before(self) -> int | None:
        """Return the place on the trail of the last present cell before the current one."""
        state = self._table.rows["state"]
        places = range(self._at - (self.current is not None), -1, -1)
        return next((at for at in places if state[self._trail[at]] >= 0), None)

    def _way(self) -> IntArray:
        """Return the rows of the trail that lie ahead after going back and may still be asked."""
        rows = np.array(self._trail[self._at + 1 :], np.int64)
        way: IntArray = rows[self._askable(rows)]
        return way

    def _leave(self) -> None:
        """Remember a cell that the reviewer leaves without a verdict, so as not to ask it again at once."""
        if self.current is not None and self.current not in self._passed and self._is_askable(self.current):
            rest = self._rests[self.current] = 2 * self._rests.get(self.current, _REST // 2)
            self._passed[self.current] = self._steps + rest

    def _due(self) -> set[int]:
        """Return the rows drawn at random that were passed over long enough ago to come again."""
        return {row for row, step in self._passed.items() if row in self.drawn and self._steps >= step}

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
        due = self._due()
        self._passed = {row: step for row, step in self._passed.items() if wanted[row] and row not in due}
        wanted[np.fromiter(self._passed, np.int64)] = False
        if self.current is not None:
            wanted[self.current] = False
        shown = self._still_ahead()[:COMING]
        wanted[shown] = False
        kept = {row: self._turns_ahead[row] for row in shown.tolist() if row in self._turns_ahead}
        lots = self._lots_ahead.intersection(shown.tolist())
        rows = np.flatnonzero(wanted)
        pool = self._pool(rows, threshold)
        if self.strategy == "mix":
            turn = _after(kept[int(shown[-1])]) if kept else self._turn
            best, turns = mix(pool, _AHEAD, turn)
            self._turns_ahead = kept | dict(zip(rows[best].tolist(), turns.tolist(), strict=True))
            self._lots_ahead = {row for row, turn in self._turns_ahead.items() if TURNS[turn] == "random"}
        else:
            best = STRATEGIES[self.strategy](pool, _AHEAD)
            self._turns_ahead = {}
            self._lots_ahead = lots.union(rows[best].tolist()) if self.strategy == "random" else set()
        self._ahead = np.concatenate([shown, rows[best]])
        self._fresh = True

    def _pool(self, rows: IntArray, threshold: float) -> Pool:
        r = self._table.rows
        again = r["disagrees"][rows]
        # of a cell that the reviewer has named and a later model names otherwise, ask about what that model says
        source = rows.copy()
        source[again] = r["partner"][rows[again]]
        names = ("found_label", "found_score", "found_class_score", "lot", "stratum", "earlier_label", "earlier_score")
        labels, found_scores, class_scores, lots, strata, earlier_labels, earlier_scores = (r[n][source] for n in names)
        answers = r["answer"][source]
        scores = np.where(np.isnan(answers), found_scores, answers)
        said = self._table.rows_of(self._table.annotations.ids.tolist())
        classes = len(self._table.taxonomy)
        asked = said[r["partner"][said] >= 0]
        reviewed, rejected = (
            np.bincount(r["stratum"][r["partner"][of]], minlength=classes * BINS)
            for of in (asked, asked[r["state"][asked] == State.REJECTED])
        )
        sizes = np.bincount(strata, minlength=classes * BINS)
        sizes -= np.bincount(strata[again], minlength=classes * BINS)
        return Pool(
            labels,
            scores,
            found_scores,
            class_scores,
            source,
            self._table.index.points,
            lots,
            strata,
            earlier_labels,
            earlier_scores,
            again,
            sizes + reviewed,
            reviewed,
            rejected,
            self._table.index.points[said],
            r["label"][said],
            classes,
            threshold,
            self._generator,
        )


def _after(turn: int) -> int:
    return (turn + 1) % len(TURNS)
