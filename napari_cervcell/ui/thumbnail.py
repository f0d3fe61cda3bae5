"""One cell, close up, always at the same physical size, so that nuclei compare by eye."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FIELD", "Thumbnail"]

FIELD = 60.0
"""Side of what is shown, µm."""
_MEASURE = 20.0  # µm


class Thumbnail(QWidget):
    """Shows a piece of the slide around a cell.

    Parameters
    ----------
    side : int
        Of the picture, px.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.setFixedSize(side, side)
        self.setToolTip(f"The current cell. The picture is always {FIELD:g} µm wide, so that nuclei compare by eye.")
        self._color = "#808080"
        self.clear()

    def clear(self) -> None:
        """Show no cell."""
        self._image: QImage | None = None
        self._box: tuple[float, float] | None = None
        self._outline: QPolygonF | None = None
        self.update()

    def show_cell(self, image: QImage | None, size: tuple[float, float], color: str) -> None:
        """Show a cell framed in `color`, its box of `size` (width, height) µm; `image` is None until it is read."""
        self._image, self._box, self._color = image, size, color
        self.update()

    def show_outline(self, outline: NDArray[Any] | None) -> None:
        """Draw the outline (m, 2), µm from the middle, of the nucleus of the cell that is shown; None: none."""
        places = [] if outline is None else (outline * self.width() / FIELD + self.width() / 2).tolist()
        self._outline = QPolygonF([QPointF(*place) for place in places]) if places else None
        self.update()

    @property
    def has_picture(self) -> bool:
        return self._image is not None

    def paintEvent(self, _event: object) -> None:
        painter = QPainter(self)
        whole = QRectF(self.rect())
        if self._image is None or self._box is None:
            painter.fillRect(whole, QColor(128, 128, 128, 60))
            if self._box is None:
                painter.setPen(QColor(128, 128, 128))
                painter.drawText(whole, Qt.AlignmentFlag.AlignCenter, "no cell\nselected")
            return
        painter.drawImage(whole, self._image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(self._color), 2))
        scale = self.width() / FIELD
        w, h = (scale * side for side in self._box)
        painter.drawRect(QRectF(whole.center().x() - w / 2, whole.center().y() - h / 2, w, h))
        if self._outline is not None:
            painter.setPen(QPen(QColor("white"), 1))
            painter.drawPolygon(self._outline)
        # a measure; on a plate, for it must be read over dark nuclei and pale glass alike
        bar = _MEASURE * scale
        plate = QRectF(4, self.height() - 26, bar + 8, 22)
        painter.fillRect(plate, QColor(0, 0, 0, 150))
        painter.setPen(QPen(QColor("white"), 2))
        painter.drawLine(8, self.height() - 8, round(8 + bar), self.height() - 8)
        painter.drawText(plate.adjusted(0, 0, 0, -6), Qt.AlignmentFlag.AlignCenter, f"{_MEASURE:g} µm")
