"""One cell, close up, always at the same physical size, so that nuclei compare by eye."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget
from superqt.utils import create_worker

from .pictures import Crop

if TYPE_CHECKING:
    from ..slides import Slide

__all__ = ["FIELD", "Thumbnail"]

FIELD = 60.0
"""Side of what is shown, µm."""
_SIDE = 150  # px


class Thumbnail(QWidget):
    """Shows a piece of the slide around a cell; the pixels are read in a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(_SIDE, _SIDE)
        self.setToolTip(f"The current cell. The picture is always {FIELD:g} µm wide, so that nuclei compare by eye.")
        self._image: QImage | None = None
        self._box: tuple[float, float] | None = None
        self._outline: QPolygonF | None = None
        self._color = "#808080"
        self._wanted = 0
        self._shown_at: Any = None

    def clear(self) -> None:
        self._wanted += 1
        self._image = self._box = self._shown_at = self._outline = None
        self.update()

    def show_cell(self, slide: Slide, box: Any, color: str) -> None:
        """Show the cell in `box`, level-0 px, framed in `color`."""
        self._color = color
        x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
        self.update()
        if (slide, x, y) == self._shown_at:
            return
        self._wanted += 1
        number = self._wanted
        self._outline = None
        width, height = (FIELD / mpp for mpp in slide.mpp_xy)
        self._box = (float(box[2] - box[0]) * _SIDE / width, float(box[3] - box[1]) * _SIDE / height)
        self._shown_at = (slide, x, y)
        crop = Crop(x, y, FIELD, _SIDE)
        create_worker(lambda: (number, crop.read(slide)), _connect={"returned": self._take})

    def show_outline(self, outline: Any) -> None:
        """Draw the outline (m, 2), level-0 px, of the nucleus of the cell that is shown; None: none."""
        self._outline = None
        if outline is not None and self._shown_at is not None:
            slide, x, y = self._shown_at
            scale = [_SIDE * mpp / FIELD for mpp in slide.mpp_xy]
            places = (outline - (x, y)) * scale + _SIDE / 2
            self._outline = QPolygonF([QPointF(*place) for place in places.tolist()])
        self.update()

    def _take(self, result: tuple[int, QImage | None]) -> None:
        number, image = result
        if image is None or number != self._wanted:
            return  # not to be read, or the reviewer has moved on
        self._image = image
        self.update()

    @property
    def has_picture(self) -> bool:
        return self._image is not None

    def paintEvent(self, _event: object) -> None:
        painter = QPainter(self)
        whole = QRectF(self.rect())
        if self._image is None:
            painter.fillRect(whole, QColor(128, 128, 128, 60))
            if self._box is None:
                painter.setPen(QColor(128, 128, 128))
                painter.drawText(whole, Qt.AlignmentFlag.AlignCenter, "no cell\nselected")
            return
        painter.drawImage(whole, self._image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(self._color), 2))
        w, h = self._box
        painter.drawRect(QRectF(whole.center().x() - w / 2, whole.center().y() - h / 2, w, h))
        if self._outline is not None:
            painter.setPen(QPen(QColor("white"), 1))
            painter.drawPolygon(self._outline)
        # 20 µm, as a measure; on a plate, for it must be read over dark nuclei and pale glass alike
        bar = 20 / FIELD * self.width()
        plate = QRectF(4, self.height() - 26, bar + 8, 22)
        painter.fillRect(plate, QColor(0, 0, 0, 150))
        painter.setPen(QPen(QColor("white"), 2))
        painter.drawLine(8, self.height() - 8, round(8 + bar), self.height() - 8)
        painter.drawText(plate.adjusted(0, 0, 0, -6), Qt.AlignmentFlag.AlignCenter, "20 µm")
