"""What the queue asks about next, for the reviewer to choose; remembered in napari's preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from napari.settings import get_plugin_settings
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from .parts import let_shrink

if TYPE_CHECKING:
    from ..review.strategies import StrategyName
    from .desk import Desk

__all__ = ["AskAbout"]

_CHOICES: list[tuple[str, StrategyName]] = [
    ("a mix", "mix"),
    ("least certain", "uncertainty"),
    ("likely missed", "missed"),
    ("models differ", "committee"),
    ("unlike the others", "diverse"),
    ("rare classes", "rare"),
    ("likely no cell", "negatives"),
    ("at random", "random"),
]
_TIP = (
    "What comes next in the queue. A mix asks a little of everything, and every fifth time at random: only what is "
    "drawn at random (a mix, at random) tells how good the model is on the whole slide."
)


class AskAbout(QWidget):
    """Sets the strategy of the session."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._settings = get_plugin_settings("napari-cervcell").review
        self.choice = ComboBox(choices=_CHOICES, value=self._settings.ask, tooltip=_TIP)
        self.choice.changed.connect(self._choose)
        let_shrink(self.choice.native, 8)
        label = QLabel("Ask")
        label.setToolTip(_TIP)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(label)
        row.addWidget(self.choice.native)
        self._settings.events.ask.connect(self._set)
        desk.opened.connect(self._opened)

    def _opened(self) -> None:
        self._desk.session.strategy = self.choice.value

    def _set(self, event: Any) -> None:
        """Follow napari's preferences."""
        self.choice.value = event.value

    def _choose(self, strategy: StrategyName) -> None:
        self._settings.ask = strategy
        if self._desk.session is not None:
            self._desk.session.strategy = strategy
