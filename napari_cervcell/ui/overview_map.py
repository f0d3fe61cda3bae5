"""The whole slide in small, and on it what the canvas shows of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPen, QPixmap, QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QWidget
from superqt.utils import QSignalThrottler

from .pictures import as_image
from .streaming import stream_of

if TYPE_CHECKING:
    from ..slides.stream import Stream
    from .view import Rectangle, View

__all__ = ["OverviewMap"]

_FILL = 100  # ms between two looks at a picture that is still being read
_SMALLEST = 7.0  # px: a smaller rectangle is drawn as a cross
_ARM = 8.0  # px of the cross
_LOST = QColor(230, 30, 60, 150)  # of what could not be read; no stain is as red
_LEAST = 3.0  # px of the side of such a part, however small on a large slide
_LINE, _RIM = QColor("#ffd60a"), QColor(0, 0, 0, 190)  # read together over pale glass and dark stain alike


class OverviewMap(QWidget):
    """A picture of the slide, all of it, in which the canvas is a rectangle.

    A click goes there, a drag takes the canvas along.
    """

    moved = Signal(float, float)
    """level-0 (x, y) that the canvas is wanted to show in its middle"""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setToolTip("The whole slide. Click to go there, drag to look around. Red: detection could not read it.")
        self._view: View | None = None
        self._stream: Stream | None = None
        self._picture: QPixmap | None = None
        self._completions = 0  # of the overview, when the picture was made
        self._lost: list[Rectangle] = []
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(_FILL)
        self._later.triggered.connect(self._look_again)

    def minimumSizeHint(self) -> QSize:
        return QSize(100, 80)

    def show_slide(self, view: View) -> None:
        """Show the slide of `view`, as far as it has been read, and what is read of it from now on."""
        self.clear()
        self._view, self._stream = view, stream_of(view.layer.data)
        view.layer.events.set_data.connect(self._look_soon)
        self.update()

    def clear(self) -> None:
        """Show nothing."""
        if self._view is not None:
            self._view.layer.events.set_data.disconnect(self._look_soon)
        self._view = self._stream = self._picture = None
        self._lost = []
        self.update()

    def show_lost(self, boxes: Iterable[Rectangle]) -> None:
        """Colour the rectangles, level-0 px, and no others: nobody has looked for cells there."""
        self._lost = list(boxes)
        self.update()

    @property
    def frame(self) -> QRectF:
        """Where the slide is drawn, in px of this widget."""
        view, slide = self._view, self._view.layer.metadata["slide"]
        width, height = slide.width * view.layer.scale[-1], slide.height * view.layer.scale[-2]
        scale = min((self.width() - 2) / width, (self.height() - 2) / height)
        frame = QRectF(0, 0, max(1.0, width * scale), max(1.0, height * scale))
        frame.moveCenter(QRectF(self.rect()).center())
        return frame

    def to_map(self, x: float, y: float) -> QPointF:
        """Turn level-0 (x, y) into px of this widget."""
        frame, slide = self.frame, self._view.layer.metadata["slide"]
        return QPointF(frame.x() + x / slide.width * frame.width(), frame.y() + y / slide.height * frame.height())

    # --------------------------------------------------------------------------------------------- mouse

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._go(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._go(event)

    def _go(self, event: QMouseEvent) -> None:
        if self._view is None:
            return
        frame, slide = self.frame, self._view.layer.metadata["slide"]
        x, y = (event.pos().x() + 0.5 - frame.x()) / frame.width(), (event.pos().y() + 0.5 - frame.y()) / frame.height()
        self.moved.emit(min(max(x, 0.0), 1.0) * slide.width, min(max(y, 0.0), 1.0) * slide.height)

    # ------------------------------------------------------------------------------------------- picture

    def _look_soon(self, _event: Any = None) -> None:
        self._later.throttle()

    def _look_again(self) -> None:
        """Give up the picture where there may be another: a whole one, too, is hatched where it could not be read."""
        overview = None if self._stream is None else self._stream.overview
        if overview is not None and (not overview.complete.is_set() or overview.completions != self._completions):
            self._picture = None
            self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._picture = None

    def _scaled(self, frame: QRectF) -> QPixmap:
        """Return the picture in the size of the frame: made anew only where it has changed."""
        ratio = self.devicePixelRatioF()
        size = (frame.size() * ratio).toSize()
        if self._picture is None or self._picture.size() != size:
            self._completions = self._stream.overview.completions
            image = as_image(self._stream.overview.pixels)
            smooth = Qt.TransformationMode.SmoothTransformation
            self._picture = QPixmap.fromImage(image.scaled(size, Qt.AspectRatioMode.IgnoreAspectRatio, smooth))
            self._picture.setDevicePixelRatio(ratio)
        return self._picture

    def paintEvent(self, _event: object) -> None:
        if self._view is None:
            return
        painter, frame = QPainter(self), self.frame
        if self._stream is None:
            painter.fillRect(frame, QColor(128, 128, 128, 60))
        else:
            painter.drawPixmap(frame.topLeft(), self._scaled(frame))
        for x1, y1, x2, y2 in self._lost:
            part = QRectF(self.to_map(x1, y1), self.to_map(x2, y2))
            widen, heighten = max(0.0, _LEAST - part.width()) / 2, max(0.0, _LEAST - part.height()) / 2
            painter.fillRect(part.adjusted(-widen, -heighten, widen, heighten).intersected(frame), _LOST)
        painter.setPen(QPen(QColor(128, 128, 128), 1))
        painter.drawRect(frame)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        x1, y1, x2, y2 = self._view.rectangle()
        whole = QRectF(self.to_map(x1, y1), self.to_map(x2, y2))
        shown = whole.intersected(frame)
        for color, width in ((_RIM, 4.0), (_LINE, 2.0)):
            painter.setPen(QPen(color, width))
            if min(shown.width(), shown.height()) < _SMALLEST:  # also where one has lost the slide from sight
                _draw_cross(painter, whole.center(), frame)
            else:
                painter.drawRect(shown)


def _draw_cross(painter: QPainter, centre: QPointF, frame: QRectF) -> None:
    x = min(max(centre.x(), frame.left()), frame.right())
    y = min(max(centre.y(), frame.top()), frame.bottom())
    painter.drawLine(QPointF(x - _ARM, y), QPointF(x + _ARM, y))
    painter.drawLine(QPointF(x, y - _ARM), QPointF(x, y + _ARM))
