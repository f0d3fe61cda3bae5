"""Draws a slide's layer anew when tiles have landed, never more often than the window can bear."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication

from .frames import FRAMES

if TYPE_CHECKING:
    from napari.layers import Image

    from ..slides.stream import Stream

__all__ = ["Painter"]

_FRAME = 1 / 60  # seconds: no display shows more
_SCREEN_PX = 0.5**0.5  # px of a level, at least, for one of the display: with halves, the nearest level
_PATIENCE = 0.035  # seconds to wait at most for pixels that are about to come; no longer than a drawing takes
_SHARE = 0.4  # of the window's time that drawing what has landed may take; the rest is the hand's
_UNSEEN = 100  # ms after which no frame is expected any more: a layer or a window that is hidden has none


class Painter(QObject):
    """Listens to one stream, in whatever thread it speaks, and has its layer drawn in the window's thread."""

    _came = Signal()
    _broke = Signal(str)

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._layer: weakref.ref[Image] | None = None
        self._stream = weakref.ref(stream)
        self._overview = stream.overview
        self._pictured = stream.overview.completions  # what napari's thumbnail shows
        self._told = False
        self._drawing = False
        self._refreshing = 0.0  # seconds that the layer took to look again, for the drawing under way
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._draw)
        self._unseen = QTimer(self, singleShot=True, interval=_UNSEEN)
        self._unseen.timeout.connect(self._drawn)
        self._began = 0.0  # when the last drawing did
        self._next = 0.0
        self._took = 0.0  # seconds, of the last drawing
        self._came.connect(self._draw_soon, Qt.ConnectionType.QueuedConnection)
        self._broke.connect(show_error, Qt.ConnectionType.QueuedConnection)
        FRAMES.drawn.connect(self._drawn)
        stream.landed.connect(self._tell)
        stream.failed.connect(self._warn)

    def attach(self, layer: Image) -> None:
        """Draw `layer` from now on."""
        self._layer = weakref.ref(layer)
        _choose_nearest_level(layer)
        self._tell()

    def detach(self) -> None:
        """Draw nothing from now on: asking a slide that has been put away would begin to read it anew."""
        self._layer = None

    @property
    def is_idle(self) -> bool:
        """Whether everything that has landed has been drawn."""
        return not (self._told or self._drawing)

    def _tell(self) -> None:
        if not self._told or self._is_last():
            self._told = True
            self._came.emit()

    def _is_last(self) -> bool:
        stream = self._stream()
        return stream is not None and stream.is_sharp

    def _warn(self, message: str) -> None:
        self._broke.emit(message)

    def _draw_soon(self) -> None:
        stream = self._stream()
        if self._drawing or stream is None:
            return
        if not stream.has_news and self._pictured == self._overview.completions:
            self._told = False  # it came in time for the last picture
            return
        now = time.monotonic()
        # what makes the picture whole is drawn at once: nothing comes after it that could wait its turn
        due = self._began + _FRAME if stream.is_sharp else self._next
        if 0 < (remaining := stream.remaining) < self._took:
            due = max(due, now + 2 * remaining)  # it would come while a part of it is being drawn, and wait for that
        wait = max(0, round(1000 * (due - now)))
        if not self._timer.isActive() or wait < self._timer.remainingTime():
            self._timer.start(wait)

    def _draw(self) -> None:
        self._told = False  # first: what lands from here on is told of again
        layer = self._layer and self._layer()
        if layer is None:
            return
        self._drawing, self._began = True, time.monotonic()
        thumbnail = self._pictured != self._overview.completions
        self._pictured = self._overview.completions
        layer.refresh(extent=False, thumbnail=thumbnail, highlight=False)
        self._refreshing = time.monotonic() - self._began
        self._unseen.start()

    def _drawn(self, seconds: float = 0.0) -> None:
        """Take note that a frame has been drawn, which took so long after its layers had been asked."""
        if not self._drawing:
            return
        self._unseen.stop()
        self._took = self._refreshing + seconds
        if (stream := self._stream()) is not None:
            stream.patience = min(self._took, _PATIENCE)
        self._next = max(self._began + _FRAME, time.monotonic() + self._took * (1 / _SHARE - 1))
        self._drawing = False
        if self._told:
            self._draw_soon()


def _choose_nearest_level(layer: Image) -> None:
    """Let `layer` choose the level whose pixels are nearest to those of the display, 0.7 to 1.4 of them.

    napari counts those of the canvas, of which a display with a pixel ratio of 2 shows each as four: its slides would
    be a level too coarse. And it takes the next finer level, up to four pixels for one of the display, which takes
    twice the time to read and to bring to the screen. There is no public way to tell it.
    """
    update, itself = type(layer)._update_draw, weakref.ref(layer)

    def update_draw(scale_factor: float, corner_pixels_displayed: Any, shape_threshold: Any) -> None:
        ratio = QApplication.instance().devicePixelRatio()  # of the finest display
        update(itself(), scale_factor, corner_pixels_displayed, np.multiply(shape_threshold, ratio * _SCREEN_PX))

    layer._update_draw = update_draw
