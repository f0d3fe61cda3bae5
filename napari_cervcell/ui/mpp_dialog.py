"""The one question that a slide may need answered: how large is a pixel?"""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QDoubleSpinBox, QFormLayout, QLabel, QVBoxLayout, QWidget

__all__ = ["MppDialog"]


class MppDialog(QDialog):
    """Asks for µm per pixel; it does not block the window."""

    answered = Signal(float)

    def __init__(self, slide_name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Size of a pixel")
        text = QLabel(
            f"<b>{slide_name}</b> does not say how large a pixel is. Without it cells have no size and cannot be "
            "found. A slide scanned at 40x usually has 0.25 µm per pixel, one at 20x 0.5. "
            "Your answer is kept in the case file."
        )
        text.setWordWrap(True)
        self.value = QDoubleSpinBox()
        self.value.setDecimals(4)
        self.value.setRange(0.05, 10.0)
        self.value.setSingleStep(0.05)
        self.value.setValue(0.25)
        self.value.setSuffix(" µm per pixel")
        self.value.setToolTip("µm per pixel at the slide's full resolution")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        form = QFormLayout()
        form.addRow("Size of a pixel", self.value)
        layout = QVBoxLayout(self)
        layout.addWidget(text)
        layout.addLayout(form)
        layout.addWidget(buttons)
        self.setMinimumWidth(420)
        self.accepted.connect(lambda: self.answered.emit(self.value.value()))
