"""Hands for the window: real mouse and key events, sent to the widgets that a person would use."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QEnterEvent, QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QScrollArea, QWidget

from ..errors import CervcellError
from .streaming import is_sharp

if TYPE_CHECKING:
    import napari.viewer

    from .widget import ReviewWidget

__all__ = ["Hands", "HandsError"]

_KEYS = {"space": Qt.Key.Key_Space, "enter": Qt.Key.Key_Return, "esc": Qt.Key.Key_Escape, "right": Qt.Key.Key_Right}


class HandsError(CervcellError):
    """What should have happened in the window did not."""


class Hands:
    """Works the window of `viewer` as a person does.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    widget : ReviewWidget
    """

    def __init__(self, viewer: napari.viewer.Viewer, widget: ReviewWidget) -> None:
        self.viewer = viewer
        self.widget = widget
        self.window = widget.window()
        self._over_canvas: bool | None = None
        self.canvas = next(w for w in self.window.findChildren(QWidget) if type(w).__name__ == "CanvasBackendDesktop")

    def wait(self, what: str, done: Callable[[], Any], seconds: float = 60.0) -> None:
        """Let the window live until `done()` is true; raise HandsError naming `what` after `seconds`."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise HandsError(f"The window did not come to this within {seconds:.0f} s: {what}.")
            self.rest(0.02)

    def rest(self, seconds: float) -> None:
        """Let the window live for a while."""
        QTest.qWait(round(1000 * seconds))

    def wait_sharp(self, seconds: float = 60.0) -> None:
        """Let the window live until all slides are drawn from tiles of the right size."""
        self.rest(0.05)  # napari chooses what it needs of a slide while it draws
        self.wait("the slide is sharp", lambda: all(is_sharp(n) for n in self.viewer.layers if n.visible), seconds)

    def key(self, name: str, target: QWidget | None = None) -> None:
        """Press and release a key, named as in :mod:`.keys`, in the canvas or in `target`."""
        self.press(name, target)
        self.rest(0.02)

    def press(self, name: str, target: QWidget | None = None) -> None:
        """Press and release a key as :meth:`key` does, and return at once."""
        *modifiers, last = name.split("+")
        held = Qt.KeyboardModifier.NoModifier
        for modifier in modifiers:
            held |= {"ctrl": Qt.KeyboardModifier.ControlModifier, "shift": Qt.KeyboardModifier.ShiftModifier}[modifier]
        QTest.keyClick(target or self.canvas, _KEYS.get(last, last), held)

    def click(self, button: QWidget) -> None:
        """Click a button, after scrolling to it."""
        self.scroll_to(button)
        self._cross_into(button)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.rest(0.02)

    def scroll_to(self, widget: QWidget) -> None:
        """Scroll the panel so that `widget` can be seen."""
        area = widget.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        if area is not None:
            area.ensureWidgetVisible(widget)
            self.rest(0.02)

    def point_at(self, x: float, y: float) -> QPoint:
        """Move the mouse to level-0 (x, y) on the canvas, which must show it; return the place on the canvas."""
        place = QPoint(*(round(v) for v in self.widget.desk.view.to_canvas(x, y)))
        if not self.canvas.rect().contains(place):
            raise HandsError(f"The place ({x:.0f}, {y:.0f}) is not on the canvas.")
        self._cross_into(self.canvas)
        self._mouse("move", place)
        self.rest(0.03)
        return place

    def click_at(self, x: float, y: float, *, shift: bool = False) -> None:
        """Click level-0 (x, y) on the canvas."""
        place = self.point_at(x, y)
        self._mouse("press", place, shift=shift)
        self._mouse("release", place, shift=shift)
        self.rest(0.03)

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, shift: bool = False) -> None:
        """Drag with the left button between two level-0 positions on the canvas."""
        a = self.point_at(*start)
        view = self.widget.desk.view
        self._drag(self.canvas, a, QPoint(*(round(v) for v in view.to_canvas(*end))), shift)

    def double_click_on(self, widget: QWidget, place: QPoint) -> None:
        """Double-click a place in `widget`."""
        self._cross_into(widget)
        for click in (QTest.mouseClick, QTest.mouseDClick):
            click(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
        self.rest(0.05)

    def drag_on(self, widget: QWidget, start: QPointF, end: QPointF) -> None:
        """Drag with the left button between two places in `widget`; where they are one, click."""
        self._cross_into(widget)
        self._drag(widget, start.toPoint(), end.toPoint())

    def _drag(self, widget: QWidget, a: QPoint, b: QPoint, shift: bool = False) -> None:
        self._mouse("press", a, widget=widget, shift=shift)
        for i in range(1, 6):
            if a != b:
                self._mouse("move", a + (b - a) * i / 5, held=True, widget=widget, shift=shift)
            self.rest(0.02)
        self._mouse("release", b, widget=widget, shift=shift)
        self.rest(0.05)

    def look_at(self, box: Any) -> None:
        """Bring `box`, level-0 px, to the middle of the canvas."""
        self.widget.desk.view.go_to(box, 48)
        self.rest(0.15)

    def dismiss_notices(self) -> None:
        """Close napari's own pop-up messages."""
        for notice in self.window.findChildren(QWidget):
            if type(notice).__name__ == "NapariQtNotification":
                notice.close()

    def picture(self, path: Path) -> None:
        """Save a picture of the whole window."""
        self.dismiss_notices()
        self.rest(0.3)
        self.wait_sharp()
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)

    def screen(self, path: Path, *, sharp: bool = True) -> None:
        """Save a picture of the whole screen, with dialogs and what pops up; when the slide is `sharp`, or at once."""
        if sharp:
            self.dismiss_notices()
            self.rest(0.3)
            self.wait_sharp()
            self.rest(0.3)
        QApplication.primaryScreen().grabWindow(0).save(str(path))

    def hover(self, widget: QWidget, place: QPoint, seconds: float) -> None:
        """Rest the mouse over a place in `widget`."""
        self._mouse("move", place, widget=widget)
        self.rest(seconds)

    def _cross_into(self, widget: QWidget) -> None:
        """Tell the widgets around the canvas that the mouse comes or goes: only a real pointer makes Qt do so."""
        comes = widget is self.canvas
        if comes == self._over_canvas:
            return
        self._over_canvas = comes
        around = self.canvas
        while around is not self.window:
            here = QPointF(around.rect().center())
            there = QPointF(around.mapToGlobal(around.rect().center()))
            QApplication.sendEvent(around, QEnterEvent(here, here, there) if comes else QEvent(QEvent.Type.Leave))
            around = around.parentWidget()

    def grab(self, what: str, place: QPoint) -> None:
        """ "press", drag ("move") or "release" the canvas at a place on it, and return at once."""
        self._cross_into(self.canvas)
        self._mouse(what, place, held=what == "move")

    def _mouse(
        self, what: str, place: QPoint, held: bool = False, widget: QWidget | None = None, shift: bool = False
    ) -> None:
        # QTest's mouse moves carry no button, so that a drag cannot be done with them
        kind, button, buttons = {
            "move": (QMouseEvent.Type.MouseMove, Qt.MouseButton.NoButton, Qt.MouseButton.NoButton),
            "press": (QMouseEvent.Type.MouseButtonPress, Qt.MouseButton.LeftButton, Qt.MouseButton.LeftButton),
            "release": (QMouseEvent.Type.MouseButtonRelease, Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton),
        }[what]
        if held:
            buttons = Qt.MouseButton.LeftButton
        widget = widget or self.canvas
        event = QMouseEvent(
            kind,
            QPointF(place),
            QPointF(widget.mapToGlobal(place)),
            button,
            buttons,
            Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(widget, event)
