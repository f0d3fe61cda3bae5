"""The cells on the slide: one by one where there are few, as a map of their number where there are many."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer
from superqt.utils import QSignalDebouncer
from vispy.scene.visuals import Image, Line
from vispy.visuals.transforms import STTransform

from ..casefile import State
from .caption import Caption
from .marks import Outlines, Shape, Signs, Tags

if TYPE_CHECKING:
    from ..cells import FloatArray, IntArray
    from ..review.density import Density
    from .desk import Desk
    from .view import Rectangle

__all__ = ["CAP", "Overlay"]

CAP = 3_000
"""So many cells are drawn one by one; more are drawn as a map of how many lie where. In a usual window they would be
some 18 px apart: no one can tell their boxes any more."""

_ABOVE = 1_000_000  # among what is drawn: over all layers of napari's
_LETTER_FROM = 24.0  # canvas px of a box from which its class letter is drawn in its corner
_SQUARE = 8.0  # canvas px, at the least, of the map's squares
_REST_MS = 100  # after which a view that does not move is at rest
_SHARE = 0.1  # of the window's time that counting may take while cells keep coming
_SHAPES = {
    State.ACCEPTED: Shape.RING,
    State.CORRECTED: Shape.DIAMOND,
    State.REJECTED: Shape.CROSS,
    State.ADDED: Shape.TRIANGLE,
}
_SHAPE = np.array([0, *(_SHAPES[State(i)] for i in range(1, len(_SHAPES) + 1))])  # by state
_GREY = (0.78, 0.78, 0.78, 1.0)
_BLACK = np.array([[0.0, 0.0, 0.0, 1.0]], np.float32)
_LOOK_THROUGH = (
    "Drawn at random. Look through all of it, put right what is\nwrong, add what is missing, then press Checked.\n"
    "Esc: leave it."
)
_LOOK_AGAIN = "A place waits to be looked through:\nthe button beside Checked leads there."
_TEAL = (0x0B / 255, 0x7F / 255, 0x7A / 255, 1.0)


class Overlay(QObject):
    """Draws the session's cells, the current one or those selected marked, and the checked regions.

    On the map the squares are outlined in which cells are selected.

    The shape says the state (box: new, ring: accepted, diamond: corrected, x: rejected, triangle: added; a second line
    around: look again), the colour and the letter say the class. What is drawn once stays right wherever the camera
    goes, until it leaves the surroundings that were drawn with it.

    Attributes
    ----------
    rows : int64 (n,)
        The session's rows that are drawn one by one.
    caption : Caption
        What is said in words of what is drawn.
    in_view : int
        Cells in view, drawn one by one or in the map; hidden ones are not in view.
    map_shown : Density or None
        The counts that are drawn where there are too many cells in view.
    place : float32 (4,) or None
        The place that is to be looked through, level-0 px.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._desk = desk
        session = desk.session
        assert session is not None
        self.caption = Caption(desk.view.canvas.native)
        self._palette = np.array(
            [[int(c.color[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0] for c in session.taxonomy] + [_GREY],
            np.float32,
        )  # the last one, which is -1 too, for cells of no class
        self.rows = np.zeros(0, np.int64)
        self.hint = ""  # said in place of what is in view
        self.map_shown: Density | None = None
        self.place: FloatArray | None = None
        self._visible = True
        self._drawn: Rectangle | None = None  # within this nothing needs to be drawn anew
        self._density: Density | None = None
        self._mapped: Density | None = None  # whose picture the map shows
        self._stale = False  # whether cells have changed since they were counted
        self._asked: tuple[Any, ...] = ()  # what was to be seen then
        self._rows_counted = 0
        self._next_count = 0.0  # when it may be done again
        self._drawing: Any = None
        self._marked = False  # whether the current cell and the regions are drawn as they are
        self._make_nodes([c.letter for c in session.taxonomy])
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self.update)
        self._recount = QTimer(self, singleShot=True)
        self._recount.timeout.connect(self.update)
        self._tell_soon = QSignalDebouncer(parent=self)
        self._tell_soon.setTimeout(_REST_MS)
        self._tell_soon.triggered.connect(self.tell)
        # before the frame that the camera's move brings about, not in one of its own after it
        desk.viewer.scene.camera.events.connect(self.update)
        desk.viewer.canvas.events.size.connect(self.update)
        session.cells_changed.connect(self._cells_changed)
        session.current_changed.connect(self._current_changed)
        desk.nucleus.changed.connect(self._nucleus_changed)
        desk.selected_changed.connect(self._current_changed)

    def _make_nodes(self, letters: list[str]) -> None:
        layer = self._desk.layer
        self._step = np.array([layer.scale[-1], layer.scale[-2]])
        # napari has the middle of the first pixel at 0, here it is at 0.5
        self._origin = np.array([layer.translate[-1], layer.translate[-2]]) - self._step / 2
        scene = self._desk.view.canvas.view.scene  # napari's own layers take 30 times longer, and Points are square
        place = STTransform(scale=self._step, translate=self._origin)
        self._map = Image(np.zeros((1, 1, 4), np.uint8), interpolation="nearest", parent=scene)
        self._map.set_gl_state("translucent", depth_test=False)
        self._map.transform = STTransform(translate=self._origin)
        self.regions = Outlines(parent=scene)
        self._new = Outlines(parent=scene)
        self._reviewed = Signs(parent=scene)
        self._tags = Tags([*letters, ""], _LETTER_FROM, parent=scene)
        self._current, self._selected = Signs(parent=scene), Signs(parent=scene)
        self._selected_squares = Outlines(parent=scene)
        # a dark rim parts it from pale cytoplasm
        self._nucleus = [
            Line(color=color, width=width, antialias=True, parent=scene)
            for color, width in (((0, 0, 0, 0.55), 3.5), ((1, 1, 1, 1), 1.5))
        ]
        for line in self._nucleus:
            line.set_gl_state("translucent", depth_test=False)
        marks = [*self._nucleus, self._current, self._selected, self._selected_squares]
        self._nodes = [self._map, self.regions, self._new, self._reviewed, self._tags, *marks]
        for i, node in enumerate(self._nodes):
            node.order = _ABOVE + i
            if node is not self._map:
                node.transform = place

    def remove(self) -> None:
        """Take everything away and stop listening."""
        viewer = self._desk.viewer
        viewer.scene.camera.events.disconnect(self.update)
        viewer.canvas.events.size.disconnect(self.update)
        self._desk.nucleus.changed.disconnect(self._nucleus_changed)
        self._desk.selected_changed.disconnect(self._current_changed)
        self._soon.stop()
        self._recount.stop()
        self._tell_soon.cancel()
        self.caption.deleteLater()
        for node in self._nodes:
            node.parent = None
        self.deleteLater()

    @property
    def visible(self) -> bool:
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        self._drawn = None
        self._marked = False
        self.update()
        self.tell()

    @property
    def in_view(self) -> int:
        if not self.visible:
            return 0
        x1, y1, x2, y2 = rectangle = self._desk.view.rectangle()
        if self.map_shown is not None:
            return sum(self._counts_in(rectangle))
        centres = self._desk.session.index.points[self.rows]
        return int(((centres >= (x1, y1)) & (centres <= (x2, y2))).all(axis=1).sum())

    def _cells_changed(self) -> None:
        self._drawn = None
        self._marked = False
        self._stale = True
        self._soon.start()  # once for all that a verdict changes

    def _current_changed(self, _row: int | None = None) -> None:
        self._drawn = None
        self._marked = False
        self._soon.start()

    def _nucleus_changed(self) -> None:
        self._marked = False
        self._soon.start()

    def update(self, _event: Any = None) -> None:
        """Draw what is in view now."""
        session, view = self._desk.session, self._desk.view
        if session is None or view is None:
            return
        rectangle = view.rectangle()
        if self.visible:
            if self._are_many(rectangle):
                self._draw_map()
            else:
                self._draw_each(rectangle)
            if not self._marked:
                self._draw_current()
                self._draw_regions()
                self._marked = True
        else:
            self._show()
            self._drawn = None
        self._tell_soon.throttle()

    def _show(self, *nodes: Any) -> None:
        """Show these nodes and no others; to be told so again asks for no new frame."""
        for node in self._nodes:
            if node.visible != (node in nodes):
                node.visible = node in nodes

    def tell(self) -> None:
        """Say what the hand is to do, or else what is in view."""
        if self._desk.session is not None:
            self.caption.say(self.hint or self._about_place() or self._in_words())

    def _about_place(self) -> str:
        if self.place is None:
            return ""
        return _LOOK_THROUGH if self._desk.view.is_about(self.place) else _LOOK_AGAIN

    def _in_words(self) -> str:
        if not self.visible:
            return "Cells are hidden: press Show to see them."
        if self.map_shown is None:
            return ""
        counts = self._counts_in(self._desk.view.rectangle())
        told = [f"{c.name} {n:,}" for c, n in zip(self._desk.session.taxonomy, counts, strict=True) if n]
        lines = [" · ".join(told[i : i + 3]) for i in range(0, len(told), 3)]
        return "\n".join([f"{sum(counts):,} cells in view, too many to show one by one", *lines])

    # ------------------------------------------------------------------------------------------- few or many

    def _asking(self) -> tuple[Any, ...]:
        """Return what the reviewer wants to see."""
        session = self._desk.session
        return session.threshold, *session.classes_shown.tolist()

    def _at_most(self, rectangle: Rectangle) -> int:
        """Return a number that the cells to be seen in a rectangle do not exceed, by what costs nothing to know."""
        most = self._desk.session.index.at_most(*rectangle)
        if self._density is not None and self._asked == self._asking():
            most = min(most, self._density.about(*rectangle))
        return most

    def _count(self, rectangle: Rectangle) -> None:
        """Count anew where it matters: for the map, or where there may be too many cells in view without it.

        With a million cells that takes its time, so not always at once, but where the reviewer wants to see others.
        """
        session, asked = self._desk.session, self._asking()
        if self._density is not None and asked == self._asked:
            many = self._density.about(*rectangle) + len(session.states) - self._rows_counted > CAP / 2
            if not self._stale or not many:
                return
            if (wait := self._next_count - time.monotonic()) > 0:
                self._recount.start(round(1000 * wait) + 1)
                return
        start = time.monotonic()
        self._density = session.density()
        self._asked, self._rows_counted, self._stale = asked, len(session.states), False
        now = time.monotonic()
        self._next_count = now + (now - start) / _SHARE

    def _are_many(self, rectangle: Rectangle) -> bool:
        """Whether more than `CAP` cells are in view; mostly the index, or the squares wholly in view, tell."""
        if self._desk.session.index.at_most(*rectangle) <= CAP:
            return False
        self._count(rectangle)
        if self._density.about(*rectangle) <= CAP:
            return False
        left, top, right, bottom = self._whole_squares(rectangle)
        return self._density.counts[top:bottom, left:right].sum() > CAP or sum(self._counts_in(rectangle)) > CAP

    def _whole_squares(self, rectangle: Rectangle) -> tuple[int, int, int, int]:
        """Return (left, top, right, bottom) of the map's squares of which all cells are in view."""
        case, s = self._desk.session.case, self._density.square
        x1, y1, x2, y2 = rectangle
        rows, columns = self._density.counts.shape[:2]
        # of the squares at the slide's right and lower edge all cells are in view, wherever beyond it the view ends
        left, top = max(0, int(np.ceil(x1 / s))), max(0, int(np.ceil(y1 / s)))
        right = columns if x2 >= case.width else max(left, int(x2 // s))
        bottom = rows if y2 >= case.height else max(top, int(y2 // s))
        return left, top, right, bottom

    def _counts_in(self, rectangle: Rectangle) -> list[int]:
        """Return the number of cells of each class in view: whole squares from the map, the others one by one."""
        session, density = self._desk.session, self._density
        x1, y1, x2, y2 = rectangle
        s = density.square
        rows, columns = density.counts.shape[:2]
        left, top, right, bottom = self._whole_squares(rectangle)
        counts = density.of_block(left, top, right, bottom)
        for part in (
            (x1, y1, x2, min(top * s, y2)),
            (x1, max(bottom * s, y1), x2, y2) if bottom < rows else None,
            (x1, top * s, min(left * s, x2), bottom * s),
            (max(right * s, x1), top * s, x2, bottom * s) if right < columns else None,
        ):
            if part is not None and part[0] < part[2] and part[1] < part[3]:
                seen = session.visible(*part)
                seen = seen[session.states[seen] != State.REJECTED]
                counts += np.bincount(session.cells.labels[seen], minlength=len(counts))[: len(counts)]
        return [int(n) for n in counts]

    # ---------------------------------------------------------------------------------------------- drawing

    def _draw_each(self, rectangle: Rectangle) -> None:
        session = self._desk.session
        if self._drawn is None or not _holds(self._drawn, rectangle):
            x1, y1, x2, y2 = rectangle
            around = (1.5 * x1 - 0.5 * x2, 1.5 * y1 - 0.5 * y2, 1.5 * x2 - 0.5 * x1, 1.5 * y2 - 0.5 * y1)
            self._drawn = around if self._at_most(around) <= CAP else rectangle
            self._marked = False
            self.rows = session.visible(*self._drawn)
            boxes, states, labels = (a[self.rows] for a in (session.cells.boxes, session.states, session.cells.labels))
            rejected = states == State.REJECTED
            colors = self._palette[np.where(rejected, -1, labels)]
            new = states == 0
            self._new.set_data(boxes[new], colors[new])
            self._reviewed.set_data(boxes[~new], colors[~new], _SHAPE[states[~new]], session.disagrees[self.rows[~new]])
            self._tags.set_data(boxes[~rejected], colors[~rejected], labels[~rejected])
        self.map_shown = None
        nucleus = [] if self._desk.nucleus.nucleus is None else self._nucleus
        marked = self._selected if len(self._desk.selected) else self._current
        self._show(self.regions, self._new, self._reviewed, self._tags, *nucleus, marked)

    def _draw_map(self) -> None:
        session, density = self._desk.session, self._density
        smallest = _SQUARE / self._desk.view.zoom
        shown = self.map_shown
        if shown is None or self._mapped is not density or not _is_right(shown, density, smallest):
            shown = density.coarser(smallest)
            self._marked = False
            self._map.set_data(_picture(shown, self._palette, [c.rank for c in session.taxonomy]))
            self._map.transform.scale = self._step * shown.square  # another transform would be a program to be compiled
        self._mapped, self._drawn = density, None
        self.map_shown = shown
        self.rows = np.zeros(0, np.int64)
        self._show(self._map, self.regions, self._selected_squares if len(self._desk.selected) else self._current)

    def _draw_current(self) -> None:
        session, selected = self._desk.session, self._desk.selected
        self._mark(self._current, np.array([] if session.current is None else [session.current], np.int64))
        if self.map_shown is None:
            self._mark(self._selected, selected[np.isin(selected, self.rows)])
        else:
            lines = _outline(self.map_shown, session.index.points[selected])
            self._selected_squares.set_data(lines, _BLACK.repeat(len(lines), axis=0))
        nucleus = self._desk.nucleus.nucleus
        if nucleus is not None:
            for line in self._nucleus:
                line.set_data(np.concatenate([nucleus.outline, nucleus.outline[:1]]))

    def _mark(self, signs: Any, rows: IntArray) -> None:
        boxes = self._desk.session.cells.boxes[rows]
        signs.set_data(boxes, _BLACK.repeat(len(boxes), axis=0), np.full(len(boxes), Shape.CORNERS))

    def _draw_regions(self) -> None:
        drawn = [box for box in (self._drawing, self.place) if box is not None]
        boxes = [*self._desk.session.checked_regions, *drawn]
        sides = [
            side
            for x1, y1, x2, y2 in boxes
            for side in ((x1, y1, x2, y1), (x1, y2, x2, y2), (x1, y1, x1, y2), (x2, y1, x2, y2))
        ]
        n = len(sides)
        self.regions.set_data(np.array(sides, np.float32).reshape(-1, 4), np.tile(np.float32(_TEAL), (n, 1)))

    def show_drawing(self, box: Any) -> None:
        """Show a rectangle that is being dragged, level-0 px; None when it is done."""
        self._drawing = box
        self._marked = False
        self.update()

    def show_place(self, box: FloatArray | None) -> None:
        """Show a place that is to be looked through, and say so; None when it is done."""
        self.place = box
        self._marked = False
        self.update()
        self.tell()


def _holds(outer: Rectangle, inner: Rectangle) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def _is_right(shown: Density, finest: Density, smallest: float) -> bool:
    """Whether the squares shown are what `finest` would be made into, for squares of at least `smallest`."""
    return smallest <= shown.square and (shown.square == finest.square or shown.square / 2 < smallest)


def _outline(density: Density, points: FloatArray) -> FloatArray:
    """Return float32 (n, 4): the lines, level-0 px, around the squares in which any of `points` (m, 2) lie."""
    rows, columns = density.counts.shape[:2]
    within = np.zeros((rows + 2, columns + 2), bool)  # with a rim of squares beyond the slide
    x, y = 1 + np.clip(points // density.square, 0, (columns - 1, rows - 1)).astype(np.int64).T
    within[y, x] = True
    below, beside = np.nonzero(within[1:] != within[:-1]), np.nonzero(within[:, 1:] != within[:, :-1])
    (y, x), (bottom, left) = below, beside
    lines = np.hstack([[x - 1, y, x, y], [left, bottom - 1, left, bottom]]).T
    return np.float32(density.square) * lines.astype(np.float32)


def _picture(density: Density, palette: np.ndarray, ranks: list[int]) -> np.ndarray:
    """Return uint8 (rows, columns, 4): the classes over each other, the most severe on top, the more the stronger."""
    shape = density.counts.shape[:2]
    color, total = np.zeros((3, *shape), np.float32), np.zeros(shape, np.float32)  # by what they cover
    for label in np.argsort(ranks, kind="stable"):
        counts = density.counts[..., label].astype(np.float32)
        if not (most := counts.max()):
            continue
        # the few of a severe class must be seen among the many that are nothing
        weakest, strongest = (0.12, 0.5) if ranks[label] == min(ranks) else (0.55, 0.9)
        steepness = np.float32((strongest - weakest) / np.log1p(most))
        alpha = np.float32(weakest) * (counts > 0) + steepness * np.log1p(counts)
        color += alpha * (palette[label, :3, None, None] - color)
        total += alpha * (1 - total)
    color /= np.maximum(total, 1e-6)
    return np.stack([np.rint(255 * plane).astype(np.uint8) for plane in (*color, total)], axis=-1)
