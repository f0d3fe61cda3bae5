"""Words in a corner of the canvas."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

__all__ = ["Caption"]

_MARGIN = 10


class Caption(QLabel):
    """What the canvas tells, in its upper left corner; the mouse goes through it.

    napari's own text overlay takes 0.2 s for words of which it has not painted the letters yet.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setStyleSheet(
            "background: rgba(20, 22, 26, 190); color: white; border-radius: 4px; padding: 5px 8px; font-size: 13px;"
        )
        self.move(_MARGIN, _MARGIN)
        self.hide()

    def say(self, text: str) -> None:
        """Show `text`, or nothing where it is empty."""
        if text != self.text():
            self.setText(text)
            self.adjustSize()
            self.setVisible(bool(text))
