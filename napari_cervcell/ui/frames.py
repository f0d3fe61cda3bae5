"""Frames of napari's canvas: what is looked at is settled before it is drawn, and others work while it is drawn."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakSet

from psygnal import Signal
from qtpy import QT5
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication
from vispy.gloo import gl

from .view import canvas_of

__all__ = ["FRAMES", "hasten"]

_SOFTWARE = ("llvmpipe", "softpipe", "swrast")  # of Mesa, which X11 brings to the screen

_hastened: WeakSet[Any] = WeakSet()


class Frames:
    """The frames of all windows that have been hastened."""

    drawn = Signal(float)
    """One is on the screen, after so many seconds; what was waited for before it does not count."""

    def __init__(self) -> None:
        self._began = 0.0

    def begin(self, _event: Any) -> None:
        """Take the time: all that is to be drawn is known."""
        self._began = time.monotonic()

    def end(self) -> None:
        """Say that what was drawn is on the screen."""
        self.drawn.emit(time.monotonic() - self._began)


FRAMES = Frames()


def hasten(viewer: Any) -> None:
    """Make every frame of `viewer` serve for more, and hold up nobody; to be told so again does no harm.

    napari draws a frame and only then asks its layers for what the camera looks at, so that a step of the camera takes
    two frames, the first one of the pixels of before. Here it asks first.

    Where OpenGL is software, most of a frame is computed when Qt brings it to the screen, and Qt holds Python's lock
    meanwhile: the threads that read tiles would stand still. So it is computed before, without the lock. And Qt puts
    the whole window together by OpenGL whenever any label in it changes: with Qt 5 the canvas gets a window of its own
    there; with Qt 6 that would cost more than it spares.
    """
    canvas = canvas_of(viewer)
    if canvas in _hastened:
        return
    _hastened.add(canvas)
    draw = canvas._scene_canvas.events.draw
    draw.disconnect(canvas.on_draw)
    draw.connect(FRAMES.begin, position="first")
    draw.connect(canvas.on_draw, position="first")
    draw.connect(_finish, position="last")
    canvas.native.frameSwapped.connect(FRAMES.end)
    if QT5 and QApplication.platformName() == "xcb":
        _part_software(canvas.native, draw)


def _finish(_event: Any) -> None:
    gl.glFinish()


def _part_software(native: Any, draw: Any) -> None:
    """Give the canvas a window of its own, after its first frame, which tells whether OpenGL is software."""

    def part() -> None:
        native.setAttribute(Qt.WidgetAttribute.WA_DontCreateNativeAncestors)
        native.setAttribute(Qt.WidgetAttribute.WA_NativeWindow)

    soon = QTimer(native, singleShot=True, interval=0)  # not while it is being drawn
    soon.timeout.connect(part)

    def judge(_event: Any) -> None:
        draw.disconnect(judge)
        renderer = str(gl.glGetParameter(gl.GL_RENDERER))
        if any(name in renderer for name in _SOFTWARE):
            soon.start()

    draw.connect(judge, position="last")
