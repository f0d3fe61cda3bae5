"""The cells on the slide: of a million, only those in view are ever given to napari."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points, Shapes
from napari.layers.utils.string_encoding import ConstantStringEncoding, ManualStringEncoding
from qtpy.QtCore import QObject
from superqt.utils import QSignalThrottler

from ..casefile import State

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["CAP", "Overlay"]

CAP = 20_000
"""So many cells are drawn one by one; with more in view their number is told instead."""

_CLOSE_UP_FROM = 24.0  # canvas px of a box from which its class letter is drawn in its corner
_CLOSE_UP_UP_TO = 500  # napari lays out text slowly
_TAG = 14.0  # canvas px
_LINE = 2.0  # canvas px
_SMALLEST = 5.0  # canvas px: cells of a whole slide stay visible as dots
_SYMBOLS = {
    0: "square",
    State.ACCEPTED: "disc",
    State.CORRECTED: "diamond",
    State.REJECTED: "x",
    State.ADDED: "triangle_up",
}
_SYMBOL = np.array([_SYMBOLS[i] for i in range(len(_SYMBOLS))])
_GREY = (0.35, 0.35, 0.35, 1.0)
_RIM = (0.0, 0.0, 0.0, 0.55)
_BLACK, _WHITE = np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.9])
_TEAL = "#0b7f7a"


class _Marks:
    """Markers in the order of drawing, gathered to be given to a Points layer all at once."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(
        self,
        centres: np.ndarray,
        sides: np.ndarray,
        lines: np.ndarray,
        symbols: np.ndarray,
        colors: np.ndarray,
        letters: np.ndarray | None = None,
    ) -> None:
        """Add n markers: centres (n, 2) as level-0 (x, y), sides and lines in px along x; with letters, filled."""
        faces = np.zeros_like(colors) if letters is None else colors
        texts = np.full(len(centres), "") if letters is None else letters
        self._parts.append((centres, sides, lines, symbols, colors, faces, texts))

    def give_to(self, layer: Points) -> None:
        centres, sides, lines, symbols, colors, faces, letters = (
            np.concatenate(c) for c in zip(*self._parts, strict=True)
        )
        written = bool((letters != "").any())
        # lengths differ between the setters: nobody may look before all of them are through
        with layer.events.blocker_all(), layer.text.events.blocker_all():
            layer.selected_data = set()
            layer.data = (centres - 0.5)[:, ::-1]
            layer.size = sides
            layer.border_width = lines
            layer.symbol = symbols
            string = ManualStringEncoding(array=letters, default="") if written else ConstantStringEncoding(constant="")
            layer.text = {"string": string, "color": "black", "size": 8, "anchor": "center"}
            if len(centres):
                layer.face_color = faces
                layer.border_color = colors
        layer.refresh()
        layer.editable = False


class Overlay(QObject):
    """Draws the session's cells that are in view, the current one marked, and the checked regions.

    The shape says the state (square: new, ring: accepted, diamond: corrected, x: rejected, triangle: added), the
    colour and the letter say the class.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._desk = desk
        session = desk.session
        assert session is not None
        self._palette = np.array(
            [[int(c.color[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0] for c in session.taxonomy]
        )
        self._letters = np.array([c.letter for c in session.taxonomy])
        self._drawn_at = 1e-9
        self.in_view = 0
        self.hint = ""
        place = {"scale": desk.layer.scale, "translate": desk.layer.translate, "units": desk.layer.units}
        self.regions = Shapes(ndim=2, name="Checked regions", **place)
        self.points = Points(
            ndim=2, name="Cells", border_width_is_relative=False, face_color="transparent", antialiasing=1, **place
        )
        for layer in (self.regions, self.points):
            desk.viewer.add_layer(layer)
            layer.locked = True
            layer.editable = False
        # napari makes a new layer the active one; the slide stays what the layer controls speak of
        desk.viewer.layers.selection.active = desk.layer
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(40)
        self._later.triggered.connect(self.update)
        desk.viewer.scene.camera.events.connect(self.update_later)
        desk.viewer.canvas.events.size.connect(self.update_later)
        session.cells_changed.connect(self.update_later)
        session.current_changed.connect(self.update_later)

    def remove(self) -> None:
        """Take the layers away and stop listening."""
        viewer = self._desk.viewer
        viewer.scene.camera.events.disconnect(self.update_later)
        viewer.canvas.events.size.disconnect(self.update_later)
        self._say("")
        for layer in (self.points, self.regions):
            layer.locked = False
            if layer in viewer.layers:
                viewer.layers.remove(layer)
        self.deleteLater()

    @property
    def visible(self) -> bool:
        return bool(self.points.visible)

    @visible.setter
    def visible(self, visible: bool) -> None:
        self.points.visible = self.regions.visible = visible
        self.update()

    def update_later(self, _event: Any = None) -> None:
        """Draw soon, and not more often than every 40 ms."""
        self._later.throttle()

    def update(self) -> None:
        """Draw what is in view now."""
        session, view = self._desk.session, self._desk.view
        if session is None or view is None:
            return
        shown = session.visible(*view.rectangle()) if self.visible else np.zeros(0, np.int64)
        self.in_view = len(shown)
        too_many = len(shown) > CAP
        self._draw_cells(shown[:0] if too_many else shown)
        self._draw_regions()
        if too_many:
            self._say(f"{len(shown):,} cells in view. Zoom in to see them one by one.")
        else:
            self._say("" if self.visible else "Cells are hidden: h shows them.")

    def _draw_cells(self, which: np.ndarray) -> None:
        session, view = self._desk.session, self._desk.view
        px = 1 / view.zoom  # a canvas px in level-0 px
        boxes, states, labels = session.cells.boxes[which], session.states[which], session.cells.labels[which]
        marks = _Marks()
        shape = np.array([1.0, view.aspect])  # sizes of markers count along x
        sides = np.maximum(((boxes[:, 2:] - boxes[:, :2]) * shape).mean(axis=1), _SMALLEST * px)
        colors = self._palette[labels]
        rejected = states == State.REJECTED
        colors[rejected] = _GREY
        close_up = len(which) <= _CLOSE_UP_UP_TO and len(which) > 0 and np.median(sides) * view.zoom >= _CLOSE_UP_FROM
        centres, symbols, line = (boxes[:, :2] + boxes[:, 2:]) / 2, _SYMBOL[states], np.minimum(_LINE * px, sides / 4)
        if close_up:  # a dark rim, for the stain has all the colours that classes have
            marks.add(centres, sides + 2 * px, line + 2 * px, symbols, np.tile(_RIM, (len(which), 1)))
        marks.add(centres, sides, line, symbols, colors)
        if (current := session.current) is not None and self.visible:
            box = session.cells.boxes[current]
            side = max(1.3 * float(((box[2:] - box[:2]) * shape).mean()), 16 * px)
            middle = ((box[:2] + box[2:]) / 2)[None]
            marks.add(middle, np.array([side + 4 * px]), np.array([5 * px]), np.array(["square"]), _WHITE[None])
            marks.add(middle, np.array([side]), np.array([2.5 * px]), np.array(["square"]), _BLACK[None])
        if close_up:
            told, tag = ~rejected, np.full((~rejected).sum(), _TAG * px)
            corners = boxes[told, :2] + (_TAG / 2 - 1) * px / shape
            marks.add(corners, tag, 0 * tag, np.full(len(tag), "square"), colors[told], self._letters[labels[told]])
        marks.give_to(self.points)

    def _draw_regions(self, drawing: Any = None) -> None:
        session, view = self._desk.session, self._desk.view
        boxes = [*session.checked_regions, *([] if drawing is None else [drawing])]
        same = len(boxes) == self.regions.nshapes and drawing is None
        if same and (not boxes or 0.8 < view.zoom / self._drawn_at < 1.25):
            return
        self._drawn_at = view.zoom
        corners = [np.array([[b[1], b[0]], [b[1], b[2]], [b[3], b[2]], [b[3], b[0]]]) - 0.5 for b in boxes]
        self.regions.data = []
        if corners:
            self.regions.add_rectangles(
                corners, edge_width=1.5 * _LINE / view.zoom, edge_color=_TEAL, face_color="transparent"
            )
        self.regions.editable = False

    def show_drawing(self, box: Any) -> None:
        """Show a rectangle that is being dragged, level-0 px; None when it is done."""
        self._drawn_at = 1e-9
        self._draw_regions(box)

    def _say(self, text: str) -> None:
        overlay = self._desk.viewer.canvas.overlays.text
        text = self.hint or text
        if overlay.text != text or overlay.visible != bool(text):
            overlay.text = text
            overlay.visible = bool(text)
