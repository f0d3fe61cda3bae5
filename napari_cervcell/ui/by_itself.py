"""Rounds that begin by themselves, and the process made ready for them while the reviewer is at work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QSpinBox, QWidget

from .kept import keep, recall

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["ByItself"]

_FILE = "learning.json"
_ENOUGH = 10
"""New cells that are worth a round when the reviewer rests, and for which the process is made ready."""
_REST_MS = 20_000
_BREATH_MS = 2_000  # after a verdict, before the process looks at what is new: verdicts come in rows


class ByItself(QWidget):
    """The choice whether quick rounds begin by themselves: off at first, and remembered for all slides.

    A round begins after so many new cells, or with `_ENOUGH` of them after a rest.

    Parameters
    ----------
    desk : Desk
    begin : callable
        Begins a quick round.

    Attributes
    ----------
    on : QCheckBox
    cells : QSpinBox
    """

    def __init__(self, desk: Desk, begin: Callable[[], object]) -> None:
        super().__init__()
        self._desk = desk
        self._begin = begin
        self._new: int | None = None
        self._tried = 0
        self.on = QCheckBox("Learn by itself after")
        self.on.setToolTip(f"Begin a quick round after so many new cells, or with {_ENOUGH} of them when you rest")
        self.cells = QSpinBox()
        self.cells.setRange(_ENOUGH, 1000)
        self.cells.setValue(50)
        self.cells.setSuffix(" cells")
        self.cells.setToolTip("Cells reviewed since the last round")
        self.cells.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.on)
        row.addWidget(self.cells)
        row.addStretch()
        self._recall()
        self.on.toggled.connect(self._keep)
        self.cells.valueChanged.connect(self._keep)
        self._breath = QTimer(self, singleShot=True, interval=_BREATH_MS)
        self._breath.timeout.connect(self._prepare)
        self._rest = QTimer(self, singleShot=True, interval=_REST_MS)
        self._rest.timeout.connect(lambda: self._begin_with(_ENOUGH))

    def count(self, new: int) -> None:
        """Take in that `new` cells have been reviewed since the last round."""
        before, self._new = self._new, new
        if before is None:
            self._tried = new  # nobody wants a round for having opened a slide
        elif new < before:
            self._tried = 0  # a round has learnt from them, or they were taken back
        if new >= _ENOUGH and new != before:
            self._breath.start()
            self._rest.start()
        self._begin_with(self.cells.value())

    def stop(self) -> None:
        """Begin nothing: the case is about to be closed."""
        self._breath.stop()
        self._rest.stop()
        self._new, self._tried = None, 0

    def note_round(self) -> None:
        """Take in that a round has begun: if it comes to nothing, the next one waits for as many cells again."""
        self._tried = self._new or 0

    def _begin_with(self, enough: int) -> None:
        if self.on.isChecked() and (self._new or 0) - self._tried >= enough and not self._desk.training.running:
            self._begin()

    def _prepare(self) -> None:
        if self._desk.session is not None:
            self._desk.training.prepare(self._desk.case, self._desk.slide)

    def _recall(self) -> None:
        kept = recall(_FILE)
        with suppress(ValueError, TypeError):  # nobody's loss
            self.on.setChecked(bool(kept.get("by_itself", False)))
            self.cells.setValue(int(kept.get("after", self.cells.value())))

    def _keep(self, _value: Any) -> None:
        keep(_FILE, {"by_itself": self.on.isChecked(), "after": self.cells.value()})
