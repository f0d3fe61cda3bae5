"""The gallery: all cells side by side, in order, whatever their number; only those in sight cost anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPoint, QPointF, QRect, QRectF, Qt, QTimer, Signal
from qtpy.QtGui import (
    QColor,
    QContextMenuEvent,
    QFont,
    QHideEvent,
    QImage,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QAbstractScrollArea, QLabel, QMenu

from .framed import paint_cell
from .pictures import Crop
from .thumbnails import Thumbnails
from .words import describe

if TYPE_CHECKING:
    from ..review import Session
    from ..review.sheet import Sheet
    from .desk import Desk

__all__ = ["Gallery"]

_GAP = 6  # px between pictures
_HEAD = 24  # px of a part's heading
_AHEAD = 2  # rows of pictures that are read before they come into sight, below and above
_REST = 350  # ms that the pointer rests before the picture is enlarged
_LARGE = 280  # px


class Gallery(QAbstractScrollArea):
    """Shows a sheet of cells, each at the same physical size, so that nuclei compare by eye.

    A click makes a cell current; shift and ctrl choose several. The arrow keys move, with shift they choose.

    Attributes
    ----------
    side : int
        Side of a picture in px.
    field : float
        What a picture shows, µm.
    """

    chosen = Signal(int)
    """the session's row of the cell that was clicked or moved to"""
    asked_for_similar = Signal()
    """cells like the one that was clicked last"""
    selection_changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._sheet: Sheet | None = None
        self._thumbnails: Thumbnails | None = None
        self._tops = np.zeros(1, np.int64)  # px, of each part, and the end
        self._columns = 1
        self._selected = np.zeros(0, bool)  # of each position in the sheet
        self._at: int | None = None  # the one that keys go on from
        self._anchor: int | None = None
        self.side = 104
        self.field = 60.0
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setFrameShape(QAbstractScrollArea.Shape.NoFrame)
        self.viewport().setMouseTracking(True)
        self._large = QLabel(self, Qt.WindowType.ToolTip)
        self._large.setFixedSize(_LARGE, _LARGE)
        self._rest = QTimer(self, singleShot=True, interval=_REST)
        self._rest.timeout.connect(self._enlarge)
        self._pointer = QPoint(-1, -1)

    # ---------------------------------------------------------------------------------------------- what is shown

    def open(self, session: Session) -> None:
        """Show the cells of a session; give them with :meth:`set_sheet`."""
        self.close_slide()
        self._thumbnails = Thumbnails(self._desk.slide, self)
        self._thumbnails.came.connect(self.viewport().update)
        session.current_changed.connect(self._follow)

    def close_slide(self) -> None:
        """Let go of the slide."""
        if self._thumbnails is not None:
            self._thumbnails.stop()
            self._thumbnails.deleteLater()
        self._thumbnails = self._sheet = None
        self._selected, self._at, self._anchor = np.zeros(0, bool), None, None
        self._arrange()

    def set_sheet(self, sheet: Sheet) -> None:
        """Show other cells, or the same in another order; those selected stay so where they are on it."""
        kept = self.selection
        at = None if self._at is None or self._sheet is None else int(self._sheet.rows[self._at])
        self._sheet = sheet
        self._selected = np.isin(sheet.rows, kept)
        again = np.flatnonzero(sheet.rows == at) if at is not None else []
        self._at = self._anchor = int(again[0]) if len(again) else None
        self._arrange()
        self.selection_changed.emit()

    def set_size(self, side: int, field: float) -> None:
        """Show each cell `side` px large, `field` µm of the slide."""
        first = self._first_in_sight()
        self.side, self.field = side, field
        self._arrange()
        if first is not None:
            self.verticalScrollBar().setValue(self._rectangle(first).top() - _HEAD)

    @property
    def count(self) -> int:
        """How many cells there are on the sheet."""
        return 0 if self._sheet is None else len(self._sheet.rows)

    @property
    def selection(self) -> np.ndarray:
        """int64 (n,): the session's rows that are selected, in the order of the sheet."""
        if self._sheet is None:
            return np.zeros(0, np.int64)
        return self._sheet.rows[self._selected]

    def _arrange(self) -> None:
        pitch = self.side + _GAP
        self._columns = max(1, (self.viewport().width() - _GAP) // pitch)
        tops = [0]
        if self._sheet is not None:
            for n in np.diff(self._sheet.starts).tolist():
                tops.append(tops[-1] + _HEAD + -(-n // self._columns) * pitch)
        self._tops = np.array(tops, np.int64)
        bar = self.verticalScrollBar()
        bar.setRange(0, max(0, int(self._tops[-1]) - self.viewport().height()))
        bar.setPageStep(self.viewport().height())
        bar.setSingleStep(pitch // 2)
        self.viewport().update()

    # --------------------------------------------------------------------------------------------------- geometry

    def _rectangle(self, position: int) -> QRect:
        """Return where a cell's picture is, in px from the top of all."""
        part = int(np.searchsorted(self._sheet.starts, position, "right")) - 1
        row, column = divmod(position - int(self._sheet.starts[part]), self._columns)
        pitch = self.side + _GAP
        return QRect(_GAP + column * pitch, int(self._tops[part]) + _HEAD + row * pitch, self.side, self.side)

    def _position(self, point: QPoint) -> int | None:
        """Return the position in the sheet of the cell at a point of the viewport."""
        if self._sheet is None:
            return None
        y = point.y() + self.verticalScrollBar().value()
        part = int(np.searchsorted(self._tops, y, "right")) - 1
        if not 0 <= part < len(self._sheet.labels):
            return None
        pitch = self.side + _GAP
        row, column = (y - int(self._tops[part]) - _HEAD) // pitch, (point.x() - _GAP) // pitch
        position = int(self._sheet.starts[part]) + row * self._columns + column
        inside = row >= 0 and 0 <= column < self._columns and position < self._sheet.starts[part + 1]
        return position if inside and self._rectangle(position).contains(QPoint(point.x(), y)) else None

    def _in(self, top: int, bottom: int) -> list[int]:
        """Return the positions of the cells between two heights, in px from the top of all."""
        if self._sheet is None:
            return []
        pitch = self.side + _GAP
        found: list[int] = []
        first, last = (int(np.searchsorted(self._tops, y, "right")) - 1 for y in (max(0, top), bottom))
        for part in range(max(0, first), min(last, len(self._sheet.labels) - 1) + 1):
            start, end = self._sheet.starts[part : part + 2].tolist()
            head = int(self._tops[part]) + _HEAD
            a, b = max(0, (top - head) // pitch), max(0, (bottom - head) // pitch + 1)
            found.extend(range(min(start + a * self._columns, end), min(start + b * self._columns, end)))
        return found

    def _first_in_sight(self) -> int | None:
        top = self.verticalScrollBar().value()
        return next(iter(self._in(top, top + self.viewport().height())), None)

    def _crop(self, row: int, px: int | None = None) -> Crop:
        x, y = self._desk.session.index.points[row].tolist()
        px = px or round(self.side * self.devicePixelRatioF())
        return Crop(x, y, self.field, px)

    # --------------------------------------------------------------------------------------------------- painting

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        session = self._desk.session
        if self._sheet is None or session is None or not len(self._sheet.rows):
            painter.setPen(QColor(128, 128, 128))
            words = "No cells to show.\nDetect cells, or show more kinds of them."
            painter.drawText(self.viewport().rect(), Qt.AlignmentFlag.AlignCenter, words)
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        top, height = self.verticalScrollBar().value(), self.viewport().height()
        seen = self._in(top, top + height)
        for position in seen:
            row = int(self._sheet.rows[position])
            area, image = self._rectangle(position).translated(0, -top), self._thumbnails.get(self._crop(row))
            paint_cell(painter, area, session, row, image, chosen=bool(self._selected[position]))
        for part, label in enumerate(self._sheet.labels):
            if self._tops[part + 1] > top and self._tops[part] < top + height:
                # the heading of the part in sight stays at the top until the next one pushes it away
                y = min(max(int(self._tops[part]), top), int(self._tops[part + 1]) - _HEAD) - top
                self._paint_heading(painter, session, part, label, y)
        margin = _AHEAD * (self.side + _GAP)
        near = [*self._in(top + height, top + height + margin), *self._in(top - margin, top)]
        self._thumbnails.want(self._crop(int(self._sheet.rows[p])) for p in dict.fromkeys([*seen, *near]))

    def _paint_heading(self, painter: QPainter, session: Session, part: int, label: int, y: int) -> None:
        area = QRect(0, y, self.viewport().width(), _HEAD)
        painter.fillRect(area, self.palette().color(self.backgroundRole()))
        count = int(self._sheet.starts[part + 1] - self._sheet.starts[part])
        name = session.taxonomy[label].name if label >= 0 else "Cells of all classes"
        color = QColor(session.taxonomy[label].color) if label >= 0 else QColor(128, 128, 128)
        painter.fillRect(QRect(_GAP, y + 4, 8, _HEAD - 8), color)
        painter.setPen(self.palette().color(self.foregroundRole()))
        bold = QFont(self.font())
        bold.setBold(True)
        painter.setFont(bold)
        painter.drawText(area.adjusted(_GAP + 16, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, f"{name}  {count:,}")

    # ---------------------------------------------------------------------------------------------- mouse and keys

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._hide_large()
        position = self._position(event.pos())
        if event.button() != Qt.MouseButton.LeftButton or position is None:
            return
        self._choose(position, event.modifiers())

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self._hide_large()
        position = self._position(event.pos())
        if position is None:
            return
        if not self._selected[position]:
            self._choose(position, Qt.KeyboardModifier.NoModifier)
        else:
            self.chosen.emit(int(self._sheet.rows[position]))
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Find similar to this cell").triggered.connect(lambda: self.asked_for_similar.emit())
        menu.popup(event.globalPos())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._hide_large()
        self._pointer = event.pos()
        self._rest.start()

    def leaveEvent(self, event: object) -> None:
        self._hide_large()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._hide_large()

    def wheelEvent(self, event: QWheelEvent) -> None:
        self._hide_large()
        super().wheelEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {
            Qt.Key.Key_Left: -1,
            Qt.Key.Key_Right: 1,
            Qt.Key.Key_Up: -self._columns,
            Qt.Key.Key_Down: self._columns,
            Qt.Key.Key_PageUp: -self._columns * max(1, self.viewport().height() // (self.side + _GAP)),
            Qt.Key.Key_PageDown: self._columns * max(1, self.viewport().height() // (self.side + _GAP)),
        }.get(event.key())
        shift = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        if not self.count:
            super().keyPressEvent(event)
        elif step is not None:
            self.step(step, shift)
        elif event.key() in (Qt.Key.Key_Home, Qt.Key.Key_End):
            self._choose(0 if event.key() == Qt.Key.Key_Home else self.count - 1, shift)
        elif event.matches(QKeySequence.StandardKey.SelectAll):
            self._selected[:] = True
            self.selection_changed.emit()
            self.viewport().update()
        else:
            super().keyPressEvent(event)

    def step(self, by: int, shift: object = Qt.KeyboardModifier.NoModifier) -> None:
        """Go so many cells on; with `shift`, choose all on the way."""
        if not self.count:
            return
        start = (-1 if by > 0 else 0) if self._at is None else self._at
        if self._at is None:
            by = 1 if by > 0 else 0
        position = min(max(start + by, 0), self.count - 1)
        self._choose(position, shift)

    def _choose(self, position: int, modifiers: Qt.KeyboardModifier) -> None:
        if modifiers & Qt.KeyboardModifier.ShiftModifier and self._anchor is not None:
            self._selected[:] = False
            self._selected[min(self._anchor, position) : max(self._anchor, position) + 1] = True
        elif modifiers & Qt.KeyboardModifier.ControlModifier:
            self._selected[position] ^= True
            self._anchor = position
        else:
            self._selected[:] = False
            self._selected[position] = True
            self._anchor = position
        self._at = position
        self._bring_into_sight(position)
        self.chosen.emit(int(self._sheet.rows[position]))
        self.selection_changed.emit()
        self.viewport().update()

    def clear_selection(self) -> None:
        """Select nothing: a verdict then speaks of the current cell alone."""
        self._at = self._anchor = None
        if self._selected.any():
            self._selected[:] = False
            self.selection_changed.emit()
            self.viewport().update()

    def _follow(self, row: int | None) -> None:
        """Select nothing where another cell has become current elsewhere, but for one of those selected (undo)."""
        is_own = self._at is not None and row == self._sheet.rows[self._at]
        if not is_own and row not in self.selection:
            self.clear_selection()
        self.viewport().update()

    def _bring_into_sight(self, position: int) -> None:
        area, bar = self._rectangle(position), self.verticalScrollBar()
        if area.top() - _HEAD < bar.value():
            bar.setValue(area.top() - _HEAD)
        elif area.bottom() + 1 + _GAP > bar.value() + self.viewport().height():
            bar.setValue(area.bottom() + 1 + _GAP - self.viewport().height())

    # --------------------------------------------------------------------------------------------------- enlarging

    def _enlarge(self) -> None:
        position, session = self._position(self._pointer), self._desk.session
        if position is None or session is None:
            return
        row = int(self._sheet.rows[position])
        crop = self._crop(row, _LARGE)
        image = self._thumbnails.get(crop)
        if image is None:
            self._thumbnails.want([crop])
            self._rest.start(60)  # look again when it may be there
            return
        self._paint_large(image, session, row)
        area = self._rectangle(position).translated(0, -self.verticalScrollBar().value())
        # at the left of the gallery, or at its right where the screen ends there: it hides no other picture
        place, screen = self.viewport().mapToGlobal(QPoint(-_LARGE - 8, area.top())), self.screen().availableGeometry()
        if place.x() < screen.left():
            place.setX(self.mapToGlobal(QPoint(self.width() + 8, 0)).x())
        place.setY(min(place.y(), screen.bottom() + 1 - _LARGE))
        self._large.move(place)
        self._large.show()
        self._rest.setInterval(_REST)

    def _paint_large(self, image: QImage, session: Session, row: int) -> None:
        picture = QPixmap.fromImage(image)
        painter = QPainter(picture)
        band = QRectF(0, _LARGE - 40, _LARGE, 40)
        painter.fillRect(band, QColor(0, 0, 0, 170))
        painter.setPen(QColor("white"))
        flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
        painter.drawText(band, flags, describe(session, self._desk.slide.mpp_xy, row))
        bar = 20 / self.field * _LARGE
        painter.setPen(QPen(QColor("black"), 4))
        painter.drawLine(QPointF(10, 14), QPointF(10 + bar, 14))
        painter.setPen(QPen(QColor("white"), 2))
        painter.drawLine(QPointF(10, 14), QPointF(10 + bar, 14))
        painter.end()
        self._large.setPixmap(picture)

    def _hide_large(self) -> None:
        self._rest.stop()
        self._rest.setInterval(_REST)
        self._large.hide()
