"""The mouse on the canvas: a click selects a cell, with shift several, a drag pans, and the tools add cells and draw
rectangles."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QPoint, Qt, QTimer, Signal
from qtpy.QtWidgets import QToolTip

from .words import describe

if TYPE_CHECKING:
    from .desk import Desk
    from .overlay import Overlay
    from .view import Rectangle

__all__ = ["Pointer"]

_STILL = 4.0  # canvas px: a press and release closer than this is a click
_REACH = 12.0  # canvas px around the pointer in which a click looks for a cell, or half a cell where that is more
_GRIP = 5.0  # canvas px: so near to the current cell's box the pointer takes hold of it
_LARGE_ENOUGH = 24.0  # canvas px of a box that can be taken hold of
_REST = 300  # ms that the pointer stays before it is told what is under it


class Pointer(QObject):
    """What the left mouse button does.

    Attributes
    ----------
    tool : str
        "select", "add" (the next click adds a cell) or "rectangle" (the next drag draws one).
    """

    clicked = Signal(object)
    """index of the cell under a click, None beside all cells"""
    gathered = Signal(object)
    """rows, int64 (n,), of the cells in a rectangle dragged with shift, or of the one clicked with shift"""
    tool_changed = Signal(str)

    def __init__(self, desk: Desk, overlay: Overlay) -> None:
        super().__init__(desk)
        self._desk = desk
        self._overlay = overlay
        self._position: tuple[float, float] | None = None
        self._then: Callable[[Any], object] = lambda _: None
        self._clicked_at: tuple[float, float] | None = None
        self._rest = QTimer(self, singleShot=True, interval=_REST)
        self._rest.timeout.connect(self._tell)
        self._taken = 0  # where this changes while a drag is under way, that ends in nothing
        self.tool = "select"
        desk.viewer.mouse_drag_callbacks.append(self._press)
        desk.viewer.mouse_move_callbacks.append(self._move)

    def remove(self) -> None:
        self.put_down()
        self._rest.stop()
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
        self._taken += 1
        self._overlay.show_drawing(None)
        self.tool, self._then = tool, then
        self._desk.view.camera.mouse_pan = tool != "rectangle"
        self._overlay.hint = hint
        self._overlay.tell()
        self.tool_changed.emit(tool)

    def _move(self, _viewer: Any, event: Any) -> None:
        self._position = tuple(event.pos)
        if self.tool == "select":
            self._feel_for_grip()
        QToolTip.hideText()
        self._rest.start()

    def _press(self, _viewer: Any, event: Any) -> Iterator[None]:
        self._position = tuple(event.pos)
        self._rest.stop()
        if event.button != 1:
            return
        if tuple(event.modifiers) == ("Shift",) and self.tool == "select":
            yield from self._gather(event)
            return
        if event.modifiers:
            return
        if self.tool == "select" and (grip := self._grip()) is not None:
            yield from self._reshape(event, grip)
            return
        start, still = self._position, True

        def moved() -> None:
            nonlocal still
            still = still and math.dist(start, self._position) <= _STILL
            if self.tool == "rectangle" and not still:
                self._overlay.show_drawing(self._rectangle(start))

        if not (yield from self._drag(event, moved)):
            return
        if self.tool == "rectangle":
            if not still:
                self._finish(self._rectangle(start))
        elif still and self.tool == "add":
            self._finish(self.position())
        elif still:
            self._select()

    def _drag(self, event: Any, moved: Callable[[], object]) -> Generator[None, None, bool]:
        """Call `moved` at every move while the button is held; return whether it was let go, not taken away."""
        taken = self._taken
        yield
        while event.type == "mouse_move" and taken == self._taken:
            self._position = tuple(event.pos)
            moved()
            yield
        if taken == self._taken:
            self._position = tuple(event.pos)
        return taken == self._taken

    def _gather(self, event: Any) -> Iterator[None]:
        """Draw a rectangle around cells while the button is held."""
        start = self._position
        if not (yield from self._drag(event, lambda: self._overlay.show_drawing(self._rectangle(start)))):
            return
        self._overlay.show_drawing(None)
        if math.dist(start, self._position) <= _STILL:
            self.gathered.emit(np.array(self._under()[:1], np.int64))
        else:
            self.gathered.emit(self._desk.session.visible(*self._rectangle(start)))

    # ------------------------------------------------------------------------------- the current cell's box

    def _grip(self) -> tuple[bool, bool, bool, bool] | None:
        """Return which sides (left, upper, right, lower) of the current cell's box the pointer would take along.

        At a corner the two that meet there, at a side all four: the box as it is; None elsewhere.
        """
        current, view = self._desk.session.current, self._desk.view
        if current is None or self._position is None or not self._overlay.visible:
            return None
        box = self._desk.session.cells.boxes[current]
        (x1, y1), (x2, y2) = view.to_canvas(*box[:2]), view.to_canvas(*box[2:])
        if min(x2 - x1, y2 - y1) < _LARGE_ENOUGH:
            return None
        x, y = self._position
        near = tuple(abs(a - b) <= _GRIP for a, b in ((x, x1), (y, y1), (x, x2), (y, y2)))
        inside = x1 - _GRIP <= x <= x2 + _GRIP and y1 - _GRIP <= y <= y2 + _GRIP
        if not inside or not any(near):
            return None
        return near if (near[0] or near[2]) and (near[1] or near[3]) else (True, True, True, True)

    def _feel_for_grip(self) -> None:
        """Show by the pointer what a drag from here would do, and let it not move the slide instead."""
        grip = self._grip()
        self._desk.view.camera.mouse_pan = grip is None
        canvas = self._desk.view.canvas.native
        if grip is None:
            canvas.unsetCursor()
        elif all(grip):
            canvas.setCursor(Qt.CursorShape.SizeAllCursor)
        else:
            falling = (grip[0] and grip[1]) or (grip[2] and grip[3])
            canvas.setCursor(Qt.CursorShape.SizeFDiagCursor if falling else Qt.CursorShape.SizeBDiagCursor)

    def _reshape(self, event: Any, grip: tuple[bool, bool, bool, bool]) -> Iterator[None]:
        """Move or resize the current cell's box while the button is held."""
        session = self._desk.session
        row, start = session.current, self.position()
        before = session.cells.boxes[row].copy()
        box = before

        def moved() -> None:
            nonlocal box
            by = np.array([*self.position(), *self.position()]) - [*start, *start]
            box = before + by * grip
            self._overlay.show_drawing(box)

        if not (yield from self._drag(event, moved)):
            return
        self._overlay.show_drawing(None)
        if np.abs(box - before).max() * self._desk.view.zoom > _STILL / 2:
            self._desk.do(session.reshape, row, box)
        else:
            self._select()

    # ----------------------------------------------------------------------------------- what is under it

    def _under(self) -> list[int]:
        """Return the rows of the cells under the pointer, the nearest first."""
        session = self._desk.session
        reach = max(_REACH / self._desk.view.zoom, session.usual_side / 2)
        return session.all_at(*self.position(), reach).tolist()

    def _select(self) -> None:
        """Select the nearest cell; a click at the same place again, the next one there."""
        rows, current = self._under(), self._desk.session.current
        again = self._clicked_at is not None and math.dist(self._clicked_at, self._position) <= _STILL
        self._clicked_at = self._position
        if again and current in rows:
            rows = rows[rows.index(current) + 1 :] + rows
        self.clicked.emit(next(iter(rows), None))

    def _tell(self) -> None:
        """Say what lies under the pointer, beside it."""
        if self.tool != "select" or self._position is None or not self._overlay.visible:
            return
        rows = self._under()
        canvas = self._desk.view.canvas.native
        text = describe(self._desk.session, self._desk.slide.mpp_xy, rows[0]) if rows else ""
        if rows and len(rows) > 1:
            text += f"\n{len(rows)} cells here: click again for the next"
        QToolTip.showText(canvas.mapToGlobal(QPoint(*(round(v) for v in self._position))), text, canvas)

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
