"""How long a case took, from the times of what was said."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from ..casefile import Event

__all__ = ["PAUSE", "Pace"]

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

    @classmethod
    def of(cls, events: Iterable[Event], reviewer: str | None = None) -> Pace:
        """Return the pace of one reviewer, or of all together, each against their own clock.

        Time goes on from one event of a reviewer to the next unless that is further off than :data:`PAUSE`; what was
        said first after a pause has no time of its own. Several cells that are given one verdict share its time.
        """
        last: dict[str, float] = {}
        seconds = at_cells = 0.0
        cells: set[int] = set()
        timed: set[int] = set()
        for event in events:
            if reviewer is not None and event.reviewer != reviewer:
                continue
            at = datetime.fromisoformat(event.time).timestamp()
            gap = at - last.get(event.reviewer, -PAUSE)
            last[event.reviewer] = at
            if 0 <= gap < PAUSE:
                seconds += gap
            if event.kind in _VERDICTS:
                cells.add(event.cell)
                if 0 <= gap < PAUSE:
                    at_cells += gap
                    timed.add(event.cell)
        return cls(seconds, len(cells), at_cells / len(timed) if timed else None)
