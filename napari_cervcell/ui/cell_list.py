"""Cells as a list: picture, class and score, the pictures read as they come into sight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from .pictures import Crop
from .thumbnail import FIELD
from .thumbnails import Thumbnails

if TYPE_CHECKING:
    from qtpy.QtGui import QHideEvent, QImage, QResizeEvent, QShowEvent

    from ..cells import Cells
    from ..slides import Slide
    from ..taxonomy import Taxonomy

__all__ = ["CellList"]

_SIDE = 72  # px
_MOST = 500  # rows


class CellList(QListWidget):
    """Lists the first 500 of some cells of a slide whose µm per pixel are known."""

    def __init__(self, slide: Slide, taxonomy: Taxonomy) -> None:
        super().__init__()
        self._slide, self._taxonomy = slide, taxonomy
        self._crops: list[Crop] = []
        self._cells: Cells | None = None
        self._thumbnails = Thumbnails(slide, self)
        self._thumbnails.came.connect(self._show_pictures)
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setUniformItemSizes(True)
        self.setSpacing(2)
        self.verticalScrollBar().valueChanged.connect(self._want)

    def show_cells(self, cells: Cells) -> None:
        """List `cells`, boxes in level-0 px, in their order."""
        self._cells = shown = cells[:_MOST]
        ratio = self.devicePixelRatioF()
        self._crops = [Crop(float(x), float(y), FIELD, round(_SIDE * ratio)) for x, y in shown.centres]
        for label, score in zip(shown.labels.tolist(), shown.scores.tolist(), strict=True):
            item = QListWidgetItem(self._icon(len(self), None), f"{self._taxonomy[label].name}\n{score:.0%}")
            self.addItem(item)
        self._want()

    def has_picture(self, row: int) -> bool:
        """Whether the picture of the cell in `row` has been read."""
        return self._thumbnails.get(self._crops[row]) is not None

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._want()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._want()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._thumbnails.stop()

    def _in_sight(self) -> range:
        if not self.count():
            return range(0)
        first, last = (self.indexAt(QPoint(8, y)) for y in (8, self.viewport().height() - 8))
        begin = max(0, first.row())
        return range(begin, last.row() + 1 if last.isValid() else self.count())

    def _want(self) -> None:
        self._thumbnails.want([self._crops[row] for row in self._in_sight()])
        self._show_pictures()

    def _show_pictures(self) -> None:
        for row in self._in_sight():
            item = self.item(row)
            if not item.data(Qt.ItemDataRole.UserRole) and (image := self._thumbnails.get(self._crops[row])):
                item.setIcon(self._icon(row, image))
                item.setData(Qt.ItemDataRole.UserRole, True)

    def _icon(self, row: int, image: QImage | None) -> QIcon:
        """Return the picture of a cell, its box drawn in the colour of its class; a grey one until it is read."""
        ratio = self.devicePixelRatioF()
        pixmap = QPixmap(round(_SIDE * ratio), round(_SIDE * ratio))
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(QColor(128, 128, 128, 60))
        if image is not None:
            painter = QPainter(pixmap)
            painter.drawImage(QRectF(0, 0, _SIDE, _SIDE), image)
            x1, y1, x2, y2 = self._cells.boxes[row].tolist()
            mpp_x, mpp_y = self._slide.mpp_xy
            w, h = (x2 - x1) * mpp_x * _SIDE / FIELD, (y2 - y1) * mpp_y * _SIDE / FIELD
            painter.setPen(QPen(QColor(self._taxonomy[int(self._cells.labels[row])].color), 2))
            painter.drawRect(QRectF((_SIDE - w) / 2, (_SIDE - h) / 2, w, h))
            painter.end()
        return QIcon(pixmap)
