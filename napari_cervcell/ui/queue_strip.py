"""The current cell's neighbours in the queue: the one before, and those that come next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QHelpEvent, QMouseEvent, QPainter
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from ..review.queue import COMING
from .framed import paint_cell
from .words import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QImage

    from .desk import Desk

__all__ = ["QueueStrip"]

_SIDE = 52  # px
_GAP = 6
_CAPTION = 15
_FEWEST = 3  # pictures, that there is always room for


class QueueStrip(QWidget):
    """Shows as many neighbours as it has room for; a click goes to one of them.

    Parameters
    ----------
    desk : Desk
    picture_of : callable
        Takes the session's row of a cell; returns its picture, None while that is not read.
    """

    chosen = Signal(int)
    """the session's row of the cell that was clicked"""

    def __init__(self, desk: Desk, picture_of: Callable[[int], QImage | None]) -> None:
        super().__init__()
        self._desk = desk
        self.setFixedHeight(_CAPTION + _SIDE + 2)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMaximumWidth(_width(1 + COMING))
        self._picture_of = picture_of
        self._before: int | None = None
        self._coming: list[int] = []

    def sizeHint(self) -> QSize:
        return QSize(_width(_FEWEST), self.height())

    def show_cells(self) -> None:
        """Show the neighbours that the session's current cell has now."""
        self._before, coming = self._desk.session.neighbours
        self._coming = coming.tolist()
        self.update()

    def clear(self) -> None:
        """Show no cell."""
        self._before, self._coming = None, []
        self.update()

    @property
    def rows(self) -> list[int]:
        """The session's rows that are shown, those that come next first."""
        return [*self._coming, *([] if self._before is None else [self._before])]

    def has_picture(self, row: int) -> bool:
        return self._picture_of(row) is not None

    def place_of(self, row: int) -> QRect | None:
        """Return where the cell in `row` is shown, px; None where it is not."""
        return next((area for shown, area in self._places() if shown == row), None)

    def _places(self) -> list[tuple[int, QRect]]:
        first = [] if self._before is None else [(self._before, self._area(0))]
        room = (self.width() + _GAP) // (_SIDE + _GAP) - 1
        places = [*first, *((row, self._area(1 + i)) for i, row in enumerate(self._coming[:room]))]
        rows = 0 if self._desk.session is None else len(self._desk.session.states)
        return [place for place in places if place[0] < rows]  # after a reload there may be fewer for a moment

    @staticmethod
    def _area(place: int) -> QRect:
        return QRect(1 + place * (_SIDE + _GAP), _CAPTION, _SIDE, _SIDE)

    def paintEvent(self, _event: object) -> None:
        painter = QPainter(self)
        small = QFont(painter.font())
        small.setPixelSize(11)
        for place, words, there in ((0, "before", self._before is not None), (1, "next", bool(self._coming))):
            if there:
                painter.setFont(small)
                painter.setPen(self.palette().color(self.foregroundRole()))
                area = self._area(place)
                painter.drawText(area.left(), 0, area.width(), _CAPTION - 2, Qt.AlignmentFlag.AlignLeft, words)
        for row, area in self._places():
            paint_cell(painter, area, self._desk.session, row, self._picture_of(row), is_small=True)
            if row == self._before:
                painter.fillRect(area, QColor(128, 128, 128, 90))

    def _at(self, event: QMouseEvent | QHelpEvent) -> int | None:
        return next((row for row, area in self._places() if area.contains(event.pos())), None)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and (row := self._at(event)) is not None:
            self.chosen.emit(row)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip:
            row = self._at(event)
            told = (
                ""
                if row is None or row >= len(self._desk.session.states)
                else describe(self._desk.session, self._desk.slide.mpp_xy, row)
            )
            QToolTip.showText(event.globalPos(), f"{told}\nClick to go to it." if told else "", self)
            return True
        return super().event(event)


def _width(pictures: int) -> int:
    return pictures * (_SIDE + _GAP) - _GAP + 2
