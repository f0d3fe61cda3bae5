"""A reviewer who knows the truth, errs as often as told, and pays for what a person would pay for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray, IntArray, centres_of, iou_with
from ..review import Session
from .data import Truth

__all__ = ["PRICES", "Oracle", "Price"]

Act = Literal["accept", "reject", "class", "reshape", "add", "check"]


class Price(NamedTuple):
    """What an act costs: key presses and mouse clicks, and seconds with the time to look and to decide."""

    clicks: int
    seconds: float


PRICES: dict[Act, Price] = {
    "accept": Price(1, 1.5),
    "reject": Price(1, 1.5),
    "class": Price(1, 2.5),
    "reshape": Price(2, 4.0),
    "add": Price(2, 4.0),
    "check": Price(2, 3.0),
}
"""The clicks are what the window asks for: a key for a verdict, a drag from corner to corner for a box or a region, and
for a box that does not fit one at each of two corners, which accepts it too. The seconds are assumed, not measured;
waiting for a round costs none, for the reviewer goes on meanwhile."""

_REACH = 0.4
"""A detection is right if its centre is nearer to a cell's than this share of the cell's side: 24 px where a cell is
60 px, as where models are measured."""

_FITS = 0.5
"""The box of a cell is good enough if it overlaps the true one by no less, intersection over union."""

_QUESTIONS = 8  # verdicts between two patches that are looked through
_A_PATCH = 4.0  # cells that it holds, about


class Oracle:
    """Plays the reviewer of `session`, whose slide holds `truth`.

    It answers what the queue asks. After every 8 answers, and where the queue has nothing to ask, it looks through a
    patch of the slide drawn at random: it says what each cell shown there is, adds those that are missing, and
    marks the patch as checked. So reviewers are told to work, as without checked regions nobody knows what is missed.
    Boxes that do not fit it draws anew: accepted as they are, they teach a detector its own mistakes.

    Attributes
    ----------
    clicks : int
    seconds : float
        What it has paid so far.
    acts : Counter
        How often it did what.
    wrong : set of int
        The rows of cells of which its last word is not the truth.
    """

    def __init__(self, session: Session, truth: Truth, *, error: float, seed: int) -> None:
        self.session = session
        self.clicks, self.seconds = 0, 0.0
        self.acts: Counter[Act] = Counter()
        self.wrong: set[int] = set()
        self._truth = truth
        self._centres = centres_of(truth.boxes)
        self._reaches = _REACH * (truth.boxes[:, 2:] - truth.boxes[:, :2]).mean(axis=1)
        self._error = error
        self._rng = np.random.default_rng([seed, 1])
        self._row_of: dict[int, int] = {}  # of the truth's cells that it has spoken of
        self._patches = iter(self._cut_patches())
        self._work = self._acting()

    def work(self, clicks: int) -> bool:
        """Go on until `clicks` are paid in all; return whether there was enough to do."""
        while self.clicks < clicks:
            if next(self._work, None) is None:
                return False
        return True

    def truth_of(self, row: int) -> int | None:
        """Return the class of the cell that the detection or annotation in `row` shows; None where it shows none, or
        one that another row stands for already."""
        cell = self._cell_at(row)
        return None if cell is None or self._row_of.get(cell, row) != row else int(self._truth.labels[cell])

    def would_say(self, rows: IntArray) -> NDArray[np.int16]:
        """Return int16 (n,): of which class the detections in `rows` are, -1 for no cell, were it to answer on and on.

        Of two on one cell that one is right of which it has said so, or else the one that comes first in `rows`.
        """
        taken, said = dict(self._row_of), np.full(len(rows), -1, np.int16)
        for i, row in enumerate(rows.tolist()):
            cell = self._cell_at(row)
            if cell is not None and taken.setdefault(cell, row) == row:
                said[i] = self._truth.labels[cell]
        return said

    # ------------------------------------------------------------------------------------------------- what it does

    def _acting(self) -> Iterator[Act]:
        """Act after act, until there is nothing left to do."""
        asked = 0
        while True:
            if asked < _QUESTIONS and self._is_asked():
                asked += 1
                yield self._answer(None)
            elif (patch := next(self._patches, None)) is not None:
                asked = 0
                yield from self._look_through(patch)
            elif self._is_asked():
                asked = 0
            else:
                return

    def _is_asked(self) -> bool:
        """Go on to the next question if the last one is answered; return whether there is one."""
        session, row = self.session, self.session.current
        if row is None or (session.states[row] != 0 and not session.disagrees[row]):
            row = session.next()
        return row is not None

    def _look_through(self, patch: FloatArray) -> Iterator[Act]:
        x1, y1, x2, y2 = patch.tolist()
        inside = np.flatnonzero(((self._centres >= (x1, y1)) & (self._centres < (x2, y2))).all(axis=1)).tolist()
        while True:  # a round in between changes what is shown
            shown = self.session.visible(x1, y1, x2, y2)
            unsaid = shown[self.session.states[shown] == 0]
            missing = [cell for cell in inside if cell not in self._row_of]
            if len(unsaid):
                yield self._answer(int(unsaid.min()))
            elif missing:
                yield self._add(missing[0])
            else:
                break
        self.session.check_region(patch)
        yield self._pay("check")

    def _answer(self, which: int | None) -> Act:
        """Say what the cell in the row `which` is, or the current one, whereafter the session goes to the next."""
        session = self.session
        row = session.current if which is None else which
        assert row is not None
        shown = int(session.cells.labels[row])
        cell, truth = self._cell_at(row), self.truth_of(row)
        said = self._erring(truth, shown)
        if cell is not None:
            self._row_of.setdefault(cell, row)
        self._note(row, said != truth)
        if said is None:
            session.reject(which)
            return self._pay("reject")
        if cell is not None and iou_with(self._truth.boxes[cell], session.cells.boxes[[row]])[0] < _FITS:
            return self._fit(row, cell, said)
        if said == shown:
            session.accept(which)
            return self._pay("accept")
        session.set_class(said, which)
        return self._pay("class")

    def _fit(self, row: int, cell: int, said: int) -> Act:
        """Say of what class the `cell` shown in `row` is, and draw its box anew."""
        session, before = self.session, self.session.current
        if said != session.cells.labels[row]:
            session.set_class(said, row)
            self._pay("class")
        drawn = session.reshape(row, self._truth.boxes[cell])  # a row of its own
        if self._row_of[cell] == row:
            self._row_of[cell] = drawn
        self._note(drawn, row in self.wrong)
        self.wrong.discard(row)
        self._stay_at(before)
        return self._pay("reshape")

    def _add(self, cell: int) -> Act:
        truth = int(self._truth.labels[cell])
        said = self._erring(truth, truth, may_reject=False)
        before = self.session.current
        row = self.session.add_box(self._truth.boxes[cell], said)
        self._stay_at(before)
        self._row_of[cell] = row
        self._note(row, said != truth)
        return self._pay("add")

    def _stay_at(self, current: int | None) -> None:
        gone = current is None or self.session.states[current] < 0
        self.session.select(None if gone else current)

    def _erring(self, truth: int | None, shown: int, may_reject: bool = True) -> int | None:
        if self._rng.random() >= self._error:
            return truth
        if truth is None:
            return max(shown, 0)
        others = [c for c in range(len(self.session.taxonomy)) if c != truth]
        if may_reject and (not others or self._rng.random() < 0.5):
            return None
        return int(self._rng.choice(others)) if others else truth

    def _note(self, row: int, is_wrong: bool) -> None:
        (self.wrong.add if is_wrong else self.wrong.discard)(row)

    def _pay(self, act: Act) -> Act:
        self.clicks += PRICES[act].clicks
        self.seconds += PRICES[act].seconds
        self.acts[act] += 1
        return act

    # --------------------------------------------------------------------------------------------- what it knows

    def _cell_at(self, row: int) -> int | None:
        """Return the truth's nearest cell of those in whose reach the centre of the box in `row` lies."""
        ((x, y),) = centres_of(self.session.cells.boxes[row : row + 1]).tolist()
        distances = np.hypot(*(self._centres - np.array([x, y], np.float32)).T)
        distances[distances > self._reaches] = np.inf
        nearest = int(np.argmin(distances))
        return nearest if np.isfinite(distances[nearest]) else None

    def _cut_patches(self) -> list[FloatArray]:
        """Cut the fields into patches of about `_A_PATCH` cells, and shuffle them."""
        areas = self._truth.areas
        extent = float(((areas[:, 2] - areas[:, 0]) * (areas[:, 3] - areas[:, 1])).sum())
        side = (_A_PATCH * extent / max(len(self._truth), 1)) ** 0.5
        patches = []
        for x1, y1, x2, y2 in areas.tolist():
            xs, ys = (np.linspace(a, b, max(1, round((b - a) / side)) + 1).tolist() for a, b in ((x1, x2), (y1, y2)))
            patches += [[left, top, right, bottom] for top, bottom in pairwise(ys) for left, right in pairwise(xs)]
        return list(self._rng.permutation(np.array(patches, np.float32)))
