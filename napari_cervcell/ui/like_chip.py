"""The chip over the gallery while its cells are in the order of their likeness to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel

from .parts import text_on, tool_button

if TYPE_CHECKING:
    from ..taxonomy import CellClass

__all__ = ["LikeChip"]


class LikeChip(QFrame):
    """Says which cell the others are likened to, and leads back."""

    closed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("like_chip")
        self.setStyleSheet("#like_chip { background: rgba(128, 128, 128, 50); border-radius: 4px; }")
        self.letter = QLabel()
        self.text = QLabel()
        self.close_button = tool_button("close", "Back to the order before")
        self.close_button.setStyleSheet("background: transparent; border: none;")
        self.close_button.clicked.connect(self.closed)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 3, 4, 3)
        row.addWidget(self.letter)
        row.addWidget(self.text, 1)
        row.addWidget(self.close_button)
        self.hide()

    def show_cell(self, of: CellClass | None, score: str) -> None:
        """Name a cell by its class and what its score is."""
        color = of.color if of else "#808080"
        self.letter.setText(of.letter if of else "–")
        self.letter.setStyleSheet(
            f"background: {color}; color: {text_on(color)}; font-weight: bold; padding: 1px 5px; border-radius: 3px;"
        )
        parts = [f"Like cell {of.name}" if of else "Like cell without a class", score]
        self.text.setText(" · ".join(part for part in parts if part))
        self.show()
