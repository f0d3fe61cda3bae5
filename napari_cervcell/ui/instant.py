"""The instant answer to verdicts, worked out in a thread so that no key press waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.settings import get_plugin_settings
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QSizePolicy
from superqt.utils import create_worker

if TYPE_CHECKING:
    from ..review import Session
    from .desk import Desk

__all__ = ["InstantAnswer"]

_PAUSE = 1000  # ms between answers while it is only a detection that brings cells


class InstantAnswer(QCheckBox):
    """Turns the instant answer on and off, and while it is on asks for one after every verdict, one at a time."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("Instant answer")
        self.setToolTip(
            "Between rounds, cells that look like accepted ones come earlier, and those like rejected ones later. "
            "The model's own scores stay: what is shown and counted goes by them."
        )
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._desk = desk
        self._settings = get_plugin_settings("napari-cervcell").review
        self._said: Any = None  # the verdicts that were answered last
        self._running = self._again = False
        self._later = QTimer(self, singleShot=True, interval=_PAUSE)
        self._later.timeout.connect(self._ask)
        self.setChecked(self._settings.instant_answer)
        self.toggled.connect(self._turn)
        self._settings.events.instant_answer.connect(self._set)
        desk.opened.connect(self._opened)
        desk.closing.connect(self._later.stop)

    def _opened(self) -> None:
        session = self._desk.session
        session.counts_changed.connect(self._changed)
        session.reloaded.connect(self._ask)
        self._ask()

    def _set(self, event: Any) -> None:
        """Follow napari's preferences."""
        self.setChecked(event.value)

    def _turn(self, on: bool) -> None:
        self._settings.instant_answer = on
        if self._desk.session is not None:
            if on:
                self._ask()
            else:
                self._desk.session.answers.forget()

    def _changed(self) -> None:
        if self._desk.case.annotations() is not self._said:
            self._ask()
        elif not self._later.isActive():
            self._later.start()

    def _ask(self) -> None:
        session = self._desk.session
        self._again = self._running
        if session is None or self._running or not self.isChecked():
            return
        self._said = self._desk.case.annotations()
        question = session.answers.ask()
        if question is None:
            return
        self._running = True

        def done(answer: Any) -> None:
            if self._desk.session is session and self.isChecked():
                session.answers.take(question, answer)

        worker = create_worker(question.answer, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(done)
        worker.errored.connect(lambda error: self._failed(session, error))
        worker.finished.connect(self._end)
        worker.start()

    def _failed(self, session: Session, error: Exception) -> None:
        if self._desk.session is session:  # else the case was closed while it was read, and nobody waits any more
            self._desk.report(error)

    def _end(self) -> None:
        self._running = False
        if self._again:
            self._ask()
