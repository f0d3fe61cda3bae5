"""Leads the reviewer to places drawn at random, one at a time, to look through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from ..slides import Foreground, Slide, foreground

if TYPE_CHECKING:
    from ..cells import FloatArray
    from .desk import Desk

__all__ = ["LookThrough"]


class LookThrough(QObject):
    """The place that is to be looked through, from when it is drawn until it is checked or left.

    Attributes
    ----------
    place : float32 (4,) or None
        A box in level-0 px.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._desk = desk
        self.place: FloatArray | None = None
        self._tissue: Foreground | None = None
        self._searched: Slide | None = None  # whose foreground is being found
        desk.closing.connect(self.leave)
        desk.closed.connect(self._forget)

    def begin(self) -> None:
        """Draw a place and go there; back to the one that is waiting, where there is one."""
        desk, session = self._desk, self._desk.session
        if self.place is not None:
            desk.view.frame(self.place)
        elif not session.case.is_scanned and not len(session.annotations):
            desk.said.emit("Detect cells first: then there is something to look through.")
        elif self._tissue is not None:
            self._draw()
        elif self._searched is not desk.slide:
            slide = self._searched = desk.slide
            desk.said.emit("Finding where on the slide there is more than empty glass …")
            desk.in_background(lambda: foreground(slide), partial(self._found, slide), self._ended)

    def holds(self, row: int) -> bool:
        """Whether a cell lies in the place."""
        if self.place is None:
            return False
        centre = self._desk.session.index.points[row]
        return bool((centre >= self.place[:2]).all() and (centre <= self.place[2:]).all())

    def next_cell(self) -> int | None:
        """Return the nearest cell of the place that has no verdict yet, from the current one or else from the top left;
        None where all have one."""
        session = self._desk.session
        rows = session.waiting(session.visible(*self.place.tolist()))
        if not len(rows):
            return None
        current, points = session.current, session.index.points
        here = self.place[:2] if current is None or not self.holds(current) else points[current]
        return int(rows[np.hypot(*(points[rows] - here).T).argmin()])

    def what_to_do(self) -> str:
        """Say what comes next where no cell is current; empty where there is no place."""
        if self.place is None:
            return ""
        if self.next_cell() is None:
            return "All cells shown in the place have a verdict. Add what is missing, then press Checked."
        return "Click a cell in the place."

    def leave(self) -> None:
        """Have no place to look through any more."""
        if self.place is not None:
            self.place = None
            self.changed.emit()

    def _forget(self) -> None:
        self._tissue = self._searched = None

    def _found(self, slide: Slide, tissue: Foreground) -> None:
        if slide is self._desk.slide and self._desk.session is not None:
            self._tissue = tissue
            self._draw()

    def _ended(self) -> None:
        self._searched = None

    def _draw(self) -> None:
        desk, session = self._desk, self._desk.session
        self.place = session.survey.draw(session.threshold, session.checked_regions, self._tissue)
        if self.place is None:
            desk.said.emit("There is no room for another place: all that was scanned is checked.")
            return
        desk.view.frame(self.place)
        self.changed.emit()
        session.select(self.next_cell())
