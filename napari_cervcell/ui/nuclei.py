"""The nucleus of the current cell, measured in a thread when the reviewer rests on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import create_worker

from ..errors import CervcellError
from ..nuclei import Nucleus, Outliner, load_outliner, nucleus_of

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["CurrentNucleus", "in_words"]

_REST_MS = 120  # on a cell, before its nucleus is measured: who goes on at once does not ask for it


def in_words(nucleus: Nucleus) -> str:
    """Say how large it is, and its share of the cell's box."""
    return f"nucleus {nucleus.area:.0f} µm² ({nucleus.share:.0%})"


class CurrentNucleus(QObject):
    """Measures the nucleus of the session's current cell, one at a time.

    Attributes
    ----------
    nucleus : Nucleus or None
        None while it is not known, and where none is to be seen.
    is_known : bool
        Whether the current cell has been measured, with a nucleus or without.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._desk = desk
        self.nucleus: Nucleus | None = None
        self._model: Outliner | None = None
        self._wanted = 0  # which cell it is, of all that have been current
        self._asked: int | None = None  # the one that is being measured
        self._known: int | None = None  # the one that was measured last
        self._soon = QTimer(self, singleShot=True, interval=_REST_MS)
        self._soon.timeout.connect(self._ask)
        desk.opened.connect(self._opened)
        desk.closing.connect(self._forget)

    def _opened(self) -> None:
        self._desk.session.current_changed.connect(self._look_again)
        self._look_again()

    def _forget(self) -> None:
        self._soon.stop()
        self._wanted += 1
        self._set(None)

    def _look_again(self, _row: int | None = None) -> None:
        self._wanted += 1
        self._set(None)
        self._soon.start()

    @property
    def is_known(self) -> bool:
        return self._known == self._wanted

    def _set(self, nucleus: Nucleus | None) -> None:
        if nucleus is not self.nucleus:
            self.nucleus = nucleus
            self.changed.emit()

    def _ask(self) -> None:
        session, slide = self._desk.session, self._desk.slide
        if session is None or session.current is None or self._asked is not None:
            return
        number, row = self._wanted, session.current
        box = session.cells.boxes[row].copy()
        x, y = ((box[:2] + box[2:]) / 2).tolist()
        reach = 2 * float((box[2:] - box[:2]).max())
        near = session.visible(x - reach, y - reach, x + reach, y + reach)
        others = session.cells.boxes[near[near != row]]

        def measure() -> tuple[int, Nucleus | None]:
            self._model = self._model or load_outliner()
            return number, nucleus_of(self._model, slide.as_stored(), box, others)

        worker = create_worker(measure, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(self._take)
        worker.errored.connect(_report)
        worker.finished.connect(self._ended)
        self._asked = number
        worker.start()

    def _take(self, measured: tuple[int, Nucleus | None]) -> None:
        number, nucleus = measured
        self._known = number
        if self.is_known:
            self._set(nucleus)

    def _ended(self) -> None:
        asked, self._asked = self._asked, None
        if asked != self._wanted:  # the reviewer has gone on meanwhile
            self._soon.start()


def _report(error: Exception) -> None:
    """A place that cannot be read is told of where it is shown; anything else is a mistake of ours."""
    if not isinstance(error, CervcellError):
        raise error
