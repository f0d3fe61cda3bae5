"""One picture of the gallery: a cell in its frame, with its class, score and state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRect, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPen

from ..casefile import State
from .parts import text_on
from .words import score_of

if TYPE_CHECKING:
    from ..review import Session

__all__ = ["paint_cell"]

_MARKS = {State.ACCEPTED: "✓", State.CORRECTED: "◆", State.REJECTED: "✕", State.ADDED: "▲"}


def paint_cell(
    painter: QPainter,
    area: QRect,
    session: Session,
    row: int,
    image: QImage | None,
    *,
    chosen: bool = False,
    is_small: bool = False,
) -> None:
    """Paint the cell in `row` into `area`; `image` is None as long as its pixels are not there. In a small one there is
    no room for its score."""
    label, state = int(session.cells.labels[row]), int(session.states[row])
    color = QColor(session.taxonomy[label].color) if label >= 0 else QColor(128, 128, 128)
    if image is None:
        painter.fillRect(area, QColor(128, 128, 128, 50))
    else:
        painter.drawImage(area, image)
    if state in (State.REJECTED, -1):
        painter.fillRect(area, QColor(90, 90, 90, 150))
    painter.setPen(QPen(color, 2))
    painter.drawRect(QRectF(area).adjusted(1, 1, -1, -1))
    small = QFont(painter.font())
    small.setPixelSize(11)
    small.setBold(True)
    painter.setFont(small)
    plate = QRect(area.left(), area.top(), 16, 16)
    painter.fillRect(plate, color)
    painter.setPen(QColor(text_on(color.name())))
    painter.drawText(plate, Qt.AlignmentFlag.AlignCenter, session.taxonomy[label].letter if label >= 0 else "–")
    if not is_small and (score := score_of(session, row, by="")):
        _paint_words(painter, area, score, Qt.AlignmentFlag.AlignRight)
    if state in _MARKS:
        _paint_words(painter, area, _MARKS[State(state)], Qt.AlignmentFlag.AlignLeft)
    if bool(session.disagrees[row]):
        plate = QRect(area.right() - 16, area.top(), 17, 16)
        painter.fillRect(plate, QColor("#ffffff"))
        painter.setPen(QColor("#000000"))
        painter.drawText(plate, Qt.AlignmentFlag.AlignCenter, "?")
    if chosen or row == session.current:
        painter.setPen(QPen(QColor("#ffffff"), 3))
        painter.drawRect(QRectF(area).adjusted(-1.5, -1.5, 1.5, 1.5))
        painter.setPen(QPen(QColor("#000000"), 1))
        painter.drawRect(QRectF(area).adjusted(-3.5, -3.5, 3.5, 3.5))
    if chosen:
        painter.fillRect(area, QColor(255, 255, 255, 45))


def _paint_words(painter: QPainter, area: QRect, words: str, side: Qt.AlignmentFlag) -> None:
    width = painter.fontMetrics().horizontalAdvance(words) + 8
    left = area.left() if side == Qt.AlignmentFlag.AlignLeft else area.right() + 1 - width
    plate = QRect(left, area.bottom() - 15, width, 16)
    painter.fillRect(plate, QColor(0, 0, 0, 150))
    painter.setPen(QColor("white"))
    painter.drawText(plate, Qt.AlignmentFlag.AlignCenter, words)
