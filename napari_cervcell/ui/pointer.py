"""The mouse on the canvas: a click selects a cell, a drag pans, and the tools add cells and draw rectangles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from .desk import Desk
    from .overlay import Overlay
    from .view import Rectangle

__all__ = ["Pointer"]

_STILL = 4.0  # canvas px: a press and release closer than this is a click
_REACH = 12.0  # canvas px around the pointer in which a click looks for a cell


class Pointer(QObject):
    """What the left mouse button does.

    Attributes
    ----------
    tool : str
        "select", "add" (the next click adds a cell) or "rectangle" (the next drag draws one).
    """

    clicked = Signal(object)
    """index of the cell under a click, None beside all cells"""
    tool_changed = Signal(str)

    def __init__(self, desk: Desk, overlay: Overlay) -> None:
        super().__init__(desk)
        self._desk = desk
        self._overlay = overlay
        self._position: tuple[float, float] | None = None
        self._then: Callable[[Any], object] = lambda _: None
        self.tool = "select"
        desk.viewer.mouse_drag_callbacks.append(self._press)
        desk.viewer.mouse_move_callbacks.append(self._move)

    def remove(self) -> None:
        self.put_down()
        self._desk.viewer.mouse_drag_callbacks.remove(self._press)
        self._desk.viewer.mouse_move_callbacks.remove(self._move)
        self.deleteLater()

    def position(self) -> tuple[float, float] | None:
        """Return the slide position, level-0 (x, y), under the pointer; None before it was ever on the canvas."""
        return None if self._position is None else self._desk.view.from_canvas(self._position)

    def take_add(self, then: Callable[[tuple[float, float]], object]) -> None:
        """Let the next click on the canvas call `then` with its level-0 (x, y)."""
        self._take("add", then, "Click where the cell is.\nEsc: leave it.")

    def take_rectangle(self, then: Callable[[Rectangle], object], hint: str) -> None:
        """Let the next drag on the canvas call `then` with the rectangle drawn, level-0 px, clipped to the slide."""
        self._take("rectangle", then, f"{hint}\nEsc: leave it.")

    def put_down(self) -> None:
        """Go back to selecting."""
        self._take("select", lambda _: None, "")

    def _take(self, tool: str, then: Callable[[Any], object], hint: str) -> None:
        self.tool, self._then = tool, then
        self._desk.view.camera.mouse_pan = tool != "rectangle"
        self._overlay.hint = hint
        self._overlay.update_later()
        self.tool_changed.emit(tool)

    def _move(self, _viewer: Any, event: Any) -> None:
        self._position = tuple(event.pos)

    def _press(self, _viewer: Any, event: Any) -> Iterator[None]:
        self._position = tuple(event.pos)
        if event.button != 1 or event.modifiers:
            return
        start = self._position
        still = True
        yield
        while event.type == "mouse_move":
            self._position = tuple(event.pos)
            still = still and math.dist(start, self._position) <= _STILL
            if self.tool == "rectangle" and not still:
                self._overlay.show_drawing(self._rectangle(start))
            yield
        self._position = tuple(event.pos)
        if self.tool == "rectangle":
            if not still:
                self._finish(self._rectangle(start))
        elif still and self.tool == "add":
            self._finish(self.position())
        elif still:
            x, y = self.position()
            view = self._desk.view
            self.clicked.emit(self._desk.session.at(x, y, _REACH / view.zoom))

    def _finish(self, result: Any) -> None:
        then = self._then
        self.put_down()
        self._overlay.show_drawing(None)
        then(result)

    def _rectangle(self, start: tuple[float, float]) -> Rectangle:
        view, slide = self._desk.view, self._desk.slide
        (xa, ya), (xb, yb) = view.from_canvas(start), self.position()
        x1, x2 = sorted(min(max(x, 0.0), float(slide.width)) for x in (xa, xb))
        y1, y2 = sorted(min(max(y, 0.0), float(slide.height)) for y in (ya, yb))
        return x1, y1, x2, y2
