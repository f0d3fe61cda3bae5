"""How long a case took, from the times of what was said."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from ..casefile import Event

__all__ = ["PAUSE", "Pace", "Stopwatch"]

PAUSE = 60.0
"""Seconds without a word after which the reviewer was not at the case."""

_VERDICTS = {"accept", "reject", "class", "add"}


class Pace(NamedTuple):
    """How fast cells were reviewed.

    Attributes
    ----------
    seconds : float
        At the case, pauses left out.
    cells : int
        On which something was said; a cell spoken of twice counts once.
    per_cell : float or None
        Seconds a cell, over the stretches in which cells were spoken of; None before there are two.
    """

    seconds: float
    cells: int
    per_cell: float | None

    @property
    def spent(self) -> str:
        """The time at the case in words: "12 min", "40 s"."""
        return f"{self.seconds / 60:.0f} min" if self.seconds >= 60 else f"{self.seconds:.0f} s"

    @classmethod
    def of(cls, events: Iterable[Event], reviewer: str | None = None) -> Pace:
        """Return the pace of one reviewer, or of all together, each against their own clock."""
        stopwatch = Stopwatch(reviewer)
        stopwatch.hear(events)
        return stopwatch.pace


class Stopwatch:
    """Works out a :class:`Pace` from events as they come.

    Time goes on from one event of a reviewer to the next unless that is further off than :data:`PAUSE`; what was said
    first after a pause has no time of its own. Several cells that are given one verdict share its time.

    Parameters
    ----------
    reviewer : str, optional
        Whose pace; by default that of all.

    Attributes
    ----------
    newest : int
        The id of the last event heard, 0 before any.
    """

    def __init__(self, reviewer: str | None = None) -> None:
        self.reviewer = reviewer
        self.newest = 0
        self._last: dict[str, float] = {}
        self._seconds = self._at_cells = 0.0
        self._cells: set[int] = set()
        self._timed: set[int] = set()

    def hear(self, events: Iterable[Event]) -> None:
        """Go on with further events, in their order."""
        for event in events:
            self.newest = event.id
            if self.reviewer is not None and event.reviewer != self.reviewer:
                continue
            at = datetime.fromisoformat(event.time).timestamp()
            gap = at - self._last.get(event.reviewer, -PAUSE)
            self._last[event.reviewer] = at
            is_on = 0 <= gap < PAUSE
            if is_on:
                self._seconds += gap
            if event.kind in _VERDICTS:
                self._cells.add(event.cell)
                if is_on:
                    self._at_cells += gap
                    self._timed.add(event.cell)

    @property
    def pace(self) -> Pace:
        return Pace(self._seconds, len(self._cells), self._at_cells / len(self._timed) if self._timed else None)
