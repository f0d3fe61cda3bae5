"""What buttons and keys do: verdicts, the way through the cells, and what is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .keys import Key, changed
from .overlay import CAP
from .overview_panel import FIT, JUMPS
from .parts import confirm
from .streaming import stream_of
from .view import CLOSE_UP
from .words import what_to_do

if TYPE_CHECKING:
    from ..cells import IntArray
    from .widget import ReviewWidget

__all__ = ["Commands"]


class Commands:
    """What a reviewer does while a slide is open.

    Parameters
    ----------
    widget : ReviewWidget
        Whose panels they work on.
    """

    def __init__(self, widget: ReviewWidget) -> None:
        self._widget = widget
        self.desk = widget.desk
        self._led_by_click = False

    def of_buttons(self) -> dict[str, Callable[[], object]]:
        """Return what the buttons of the Review bar do, by their names."""
        return {
            "accept": self.accept,
            "reject": self.reject,
            "add": self.add_at_next_click,
            "check": self.check_region,
            "place": self.look_through,
            "previous": self.previous,
            "next": self.next,
            "undo": self.undo,
            "redo": self.redo,
            "fly": self.fly,
        }

    # ------------------------------------------------------------------------------------------------- verdicts

    def accept(self) -> None:
        self._judge(lambda which: self.desk.session.accept(which), "Accept")

    def reject(self) -> None:
        self._judge(lambda which: self.desk.session.reject(which), "Reject")

    def set_class(self, label: int) -> None:
        name = self.desk.session.taxonomy[label].name
        self._judge(lambda which: self.desk.session.set_class(label, which), "Call", name)

    def selected(self) -> IntArray:
        """Return the rows of the cells that are selected, in the gallery while it is open or else on the slide."""
        panel = self._widget.gallery_panel
        in_gallery = panel.gallery.selection if self._widget.tabs.currentWidget() is panel else ()
        return in_gallery if len(in_gallery) else self.desk.selected

    def _judge(self, say: Callable[[Any], object], verb: str, what: str = "") -> None:
        """Say something of the cells that are selected, else of the current cell."""
        rows = self.selected()
        if len(rows) > CAP:  # nobody has seen them all
            words = f"{verb} {len(rows):,} cells {what}".strip()
            yes = f"{verb} all {what}".strip()
            if not confirm(self._widget, f"{words}? Undo takes them back in one step.", yes):
                return
            rows = self.selected()  # a scan that is running may have taken some away meanwhile
            if not len(rows):
                return
        if len(rows):
            on_slide = rows is self.desk.selected
            self.desk.do(say, rows)
            if len(rows) == 1 and not on_slide:
                self._widget.gallery_panel.gallery.step(1)
        elif (current := self.desk.session.current) is None:
            self.desk.said.emit(self._widget.looking.what_to_do() or what_to_do(self.desk.session))
        elif self._widget.looking.holds(current):  # one after the other there, before the queue goes on
            self.desk.do(say, [current])
            session, looking = self.desk.session, self._widget.looking
            if looking.place is not None and session.states[current] != 0:  # it was said, of the same classes
                self._lead(session.select, looking.next_cell())
        else:
            self.desk.do(say, None)

    def next(self) -> None:
        if self._lead(self.desk.session.next) is None:
            self.desk.said.emit(what_to_do(self.desk.session))

    def previous(self) -> None:
        self._lead(self.desk.session.previous)

    def go_to(self, row: int) -> None:
        """Make a cell current that need not be in sight."""
        self._lead(self.desk.session.select, row)

    def _lead(self, go: Callable[..., object], *to: object) -> object:
        """Go to one cell: verdicts then speak of that one, also where it is among those selected."""
        self.deselect()
        return self.desk.do(go, *to)

    def select_too(self, rows: IntArray) -> None:
        """Select those of `rows` that have no verdict beside what is selected on the slide, or no more if all are."""
        rows, before = self.desk.session.waiting(rows), self.desk.selected
        is_new = len(np.setdiff1d(rows, before)) > 0
        self.deselect()
        self.desk.select(np.union1d(before, rows) if is_new else np.setdiff1d(before, rows))

    def deselect(self) -> None:
        """Select no cells, on the slide or in the gallery."""
        self._widget.gallery_panel.gallery.clear_selection()
        self.desk.select()

    def undo(self) -> None:
        self.desk.select()
        self.desk.do(self.desk.session.undo)

    def redo(self) -> None:
        self.desk.select()
        self.desk.do(self.desk.session.redo)

    def add_here(self) -> None:
        """Add a cell under the pointer."""
        position = self._widget.pointer.position()
        if position is None or not self.desk.viewer.mouse_over_canvas:
            self.add_at_next_click()
        else:
            self._add(position)

    def add_at_next_click(self) -> None:
        self._widget.pointer.take_add(self._add)

    def _add(self, position: tuple[float, float]) -> None:
        slide = self.desk.slide
        if 0 <= position[0] < slide.width and 0 <= position[1] < slide.height:
            self.desk.do(self.desk.session.add, *position)

    def draw_box(self) -> None:
        """Let the next drag draw the box of a cell."""
        self._widget.pointer.take_rectangle(
            lambda box: self.desk.do(self.desk.session.add_box, box), "Drag a box around a cell that was missed."
        )

    def look_through(self) -> None:
        """Go to a place drawn at random that is to be looked through, or back to the one that waits for it."""
        self.deselect()
        if not self._widget.overlay.visible:
            self.toggle_overlay()
        self._widget.looking.begin()

    def check_region(self) -> None:
        """Mark the place that was looked through as checked; without one, let the next drag mark a region."""
        self._widget.pointer.put_down()
        place = self._widget.looking.place
        if place is None:
            self._widget.pointer.take_rectangle(
                self._check,
                "Drag a rectangle over what you have checked.\nWhat is unmarked in it counts as no cell.",
            )
        elif self.desk.view.is_about(place):
            self._check(place)
        else:  # what is not in sight is not checked
            self.look_through()

    def _check(self, box: Any) -> None:
        self.deselect()
        left = self.desk.do(self.desk.session.check_region, box)
        if left is None:
            return
        self._widget.looking.leave()
        if not len(left):
            return
        for label in np.unique(self.desk.session.cells.labels[left]).tolist():
            if label >= 0:
                self._widget.case_panel.chips[label].setChecked(True)  # what is checked is checked for all classes
        self.desk.select(left)
        cells, it = ("1 cell", "it has") if len(left) == 1 else (f"{len(left):,} cells", "they have")
        self.desk.said.emit(
            f"{cells} in the region had no verdict: until {it} one, nothing there counts as a cell. "
            "While they are selected, Accept, Reject or a class is for all of them. Esc leaves them as they are."
        )

    def put_down(self) -> None:
        """Leave a tool, and the cells that are selected; without any, the place that was to be looked through."""
        holds_nothing = self._widget.pointer.tool == "select" and not len(self.selected())
        self._widget.pointer.put_down()
        self.deselect()
        if holds_nothing:
            self._widget.looking.leave()

    # ------------------------------------------------------------------------------------------------- looking

    def click(self, index: int | None) -> None:
        self._led_by_click = True  # what is clicked is in sight: the canvas stays where it is
        try:
            self._lead(self.desk.session.select, index)
        finally:
            self._led_by_click = False

    def follow(self, index: int | None) -> None:
        """Bring the current cell into view if it is not, without moving the canvas for nothing."""
        if index is None or self._led_by_click:
            return
        box, view = self.desk.session.cells.boxes[index], self.desk.view
        if not view.shows(box) or (box[2] - box[0]) * view.zoom < CLOSE_UP / 3:
            view.go_to(box, CLOSE_UP)

    def foresee(self) -> None:
        """Have the slide read where the queue is about to lead."""
        session = self.desk.session
        if session is None or not len(coming := session.neighbours.coming):
            return
        box, view, stream = session.cells.boxes[coming[0]], self.desk.view, stream_of(self.desk.layer.data)
        if stream is not None and not view.shows(box):
            stream.foresee(*view.rectangle_about(box))

    def fly(self) -> None:
        """Bring the current cell to the middle of the canvas."""
        session = self.desk.session
        if session.current is not None:
            self.desk.view.go_to(session.cells.boxes[session.current], CLOSE_UP)

    def find_similar(self) -> None:
        """Go to the gallery, in the order of likeness to the current cell."""
        panel = self._widget.gallery_panel
        if panel.isVisible() or panel.like is None or panel.like != self.desk.session.current:
            panel.find_similar()
        self.show_gallery()

    def magnify(self, power: float) -> None:
        """Go to a magnification; what is under the mouse stays there, as it does with the wheel."""
        over = self.desk.viewer.mouse_over_canvas
        self._widget.overview.jump(power, self._widget.pointer.position() if over else None)

    def toggle_gallery(self) -> None:
        """Go to the gallery, or from there back to the single cell."""
        if self._widget.tabs.currentWidget() is self._widget.gallery_panel:
            self._widget.tabs.setCurrentIndex(0)
            self.desk.view.canvas.native.setFocus()
        else:
            self.show_gallery()

    def show_gallery(self) -> None:
        panel = self._widget.gallery_panel
        self._widget.tabs.setCurrentWidget(panel)
        panel.gallery.setFocus()

    def toggle_done(self) -> None:
        """Call the case done, or not done after all."""
        self.desk.set_done(self.desk.case.done is None)

    def toggle_overlay(self) -> None:
        self._widget.overlay.visible = not self._widget.overlay.visible
        self._widget.queue_panel.show_marks(self._widget.overlay.visible)

    def change_threshold(self, by: float) -> None:
        slider = self._widget.queue_panel.threshold
        slider.setValue(round(slider.value() + by, 2))

    # ---------------------------------------------------------------------------------------------------- keys

    def key_table(self) -> list[Key]:
        """Return all keys of a sitting, as the user has changed them."""
        classes = self.desk.session.taxonomy
        keys = [
            Key(("space", "enter"), "accept the current cell as it is", self.accept),
            Key(("x",), "reject it: not a cell", self.reject),
            *(
                Key((classes[i].key,), f"it is {classes[i].name}", lambda label=i: self.set_class(label), fixed=True)
                for i in classes.offered
                if classes[i].key
            ),
            Key(("n",), "next cell, most worth asking first", self.next, repeats=True),
            Key(("p",), "previous cell", self.previous, repeats=True),
            Key(("a",), "add a cell under the pointer", self.add_here),
            Key(("b",), "draw a box around a cell", self.draw_box),
            Key(("c",), "mark the place, or a region that you drag, as checked", self.check_region),
            Key(("l",), "look through a place drawn at random, then mark it as checked", self.look_through),
            Key(("u", "ctrl+z"), "undo", self.undo, repeats=True),
            Key(("ctrl+shift+z",), "redo", self.redo, repeats=True),
            Key(("f",), "go to the current cell", self.fly),
            *(
                Key((key,), f"{power}x, about what is under the mouse", lambda p=power: self.magnify(p), fixed=True)
                for power, key in JUMPS.items()
            ),
            Key((FIT,), "the whole slide", self._widget.overview.show_all, fixed=True),
            Key(("g",), "gallery: all cells side by side, and back", self.toggle_gallery),
            Key(("s",), "find similar: all cells, those like the current one first, and back", self.find_similar),
            Key(("h",), "hide or show the cells", self.toggle_overlay),
            Key(("[",), "show less sure detections too", lambda: self.change_threshold(-0.05), repeats=True),
            Key(("]",), "show surer detections only", lambda: self.change_threshold(+0.05), repeats=True),
            Key(("d",), "pause looking for cells, and go on", self._widget.detect_panel.toggle_pause),
            Key(("t",), "learn now: a quick round", self._widget.learn_panel.begin),
            Key(("e",), "this case is done, or not after all", self.toggle_done),
            Key((">",), "next case of the worklist", self._widget.worklist_panel.go_on),
            Key(("<",), "case before", self._widget.worklist_panel.go_back),
            Key(("esc",), "leave a tool, and the cells that are selected", self.put_down, fixed=True),
            Key(("?",), "this list", self._widget.show_keys),
        ]
        return changed(keys)
