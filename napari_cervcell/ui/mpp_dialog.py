"""The one question that a slide may need answered: how large is a pixel?"""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QDoubleSpinBox, QFormLayout, QLabel, QVBoxLayout, QWidget

__all__ = ["MppDialog"]


_UNKNOWN = "<b>{}</b> does not say how large a pixel is. Without it cells have no size and cannot be found."
_KNOWN = (
    "A pixel of <b>{}</b> counts as {:.4g} µm wide. Give another size where you know that to be wrong: all sizes and "
    "areas follow, and cells have to be detected again."
)
_USUAL = "A slide scanned at 40x usually has 0.25 µm per pixel, one at 20x 0.5. Your answer is kept in the case file."


class MppDialog(QDialog):
    """Asks for µm per pixel, `present` being what it counts as by now; it does not block the window."""

    answered = Signal(float)
    """another size than the present one"""

    def __init__(self, slide_name: str, parent: QWidget, present: float | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Size of a pixel")
        text = QLabel(f"{(_KNOWN if present else _UNKNOWN).format(slide_name, present)} {_USUAL}")
        text.setWordWrap(True)
        self.value = QDoubleSpinBox()
        self.value.setDecimals(4)
        self.value.setRange(0.01, 20.0)  # what a slide can have
        self.value.setSingleStep(0.05)
        self.value.setValue(present or 0.25)
        self._at_first = self.value.value() if present else None
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
        self.accepted.connect(self._answer)

    def _answer(self) -> None:
        if self.value.value() != self._at_first:  # which has more digits than are shown
            self.answered.emit(self.value.value())
