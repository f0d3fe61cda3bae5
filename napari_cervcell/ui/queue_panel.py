"""The Queue panel: what is shown, and what is asked next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from .ask_about import AskAbout
from .instant import InstantAnswer
from .parts import Button

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["QueuePanel"]


class QueuePanel(QWidget):
    """Sets from which score on cells are shown, and in which order the queue asks about them.

    Parameters
    ----------
    desk : Desk
    hide_marks : callable
        Hides or shows all marks.
    """

    def __init__(self, desk: Desk, hide_marks: Callable[[], object]) -> None:
        super().__init__()
        self._desk = desk
        self.threshold = QLabeledDoubleSlider()
        self.threshold.setRange(0.1, 0.99)
        self.threshold.setDecimals(2)
        self.threshold.setSingleStep(0.05)
        self.threshold.valueChanged.connect(self._set_threshold)
        self.hide_button = Button("Hide", "Hide or show all marks.", "show", "h")
        self.hide_button.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.hide_button.clicked.connect(hide_marks)
        shown = QHBoxLayout()
        shown.addWidget(QLabel("Show from"))
        shown.addWidget(self.threshold, 1)
        shown.addWidget(self.hide_button)
        self.instant = InstantAnswer(desk)
        self.ask_about = AskAbout(desk)
        order = QHBoxLayout()
        order.addWidget(self.instant)
        order.addStretch()
        order.addWidget(self.ask_about)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(shown)
        layout.addLayout(order)
        desk.opened.connect(self._opened)

    def _opened(self) -> None:
        self.threshold.blockSignals(True)
        self.threshold.setValue(self._desk.session.threshold)
        self.threshold.blockSignals(False)
        self.show_marks(True)

    def show_marks(self, shown: bool) -> None:
        """Name the button by what it would do."""
        self.hide_button.setText("Hide" if shown else "Show")

    def show_threshold_keys(self, lower: str, higher: str) -> None:
        """Name the keys that do the same as the slider."""
        self.threshold.setToolTip(
            f"Detections that the model is less sure of than this are not shown. Keys: {lower} and {higher}"
        )

    def _set_threshold(self, value: float) -> None:
        if self._desk.session is not None:
            self._desk.session.threshold = value
