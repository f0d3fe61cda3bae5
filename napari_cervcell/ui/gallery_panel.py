"""The Gallery panel: the gallery and what it shows, in which order, how large."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import create_worker

from ..review.sheet import Choice, Sheet
from .gallery import Gallery
from .like_chip import LikeChip
from .parts import Button
from .words import score_of

if TYPE_CHECKING:
    from ..casefile import Annotations
    from .desk import Desk
    from .view import Rectangle

__all__ = ["GalleryPanel"]

_LIKENESS = "most alike first"
_ORDERS = {"surest first": "score", "worth asking first": "asking", "largest first": "size", _LIKENESS: "likeness"}
_NOBODY = "No cell is selected. Click the one that others shall be like."
_REVIEWED = {"all cells": "all", "new": "new", "reviewed": "reviewed", "to look at again": "second look"}
_FIELDS = {"30 µm": 30.0, "60 µm": 60.0, "120 µm": 120.0}
_PAUSE = 1000  # ms between looks for new cells while a detection runs
_STILL = 300  # ms that the canvas stays where it is before its cells are shown


class _Asked(NamedTuple):
    """What a sheet depends on: first the reviewer's wishes, which are met at once.

    Attributes
    ----------
    choice : Choice
        But for the region, which is `view`.
    threshold : float
    in_view : bool
    view : (x1, y1, x2, y2) or None
        What the canvas shows, level-0 px, where only its cells are wished for.
    rows : int
        How many the session has.
    answer : int
        The number of the instant answer by which they are in order.
    said : Annotations
    """

    choice: Choice
    threshold: float
    in_view: bool
    view: Rectangle | None
    rows: int
    answer: int
    said: Annotations

    @property
    def wishes(self) -> tuple[Any, ...]:
        return self[:3]

    def is_as(self, other: _Asked) -> bool:
        """Say whether the sheets of both are the same; a verdict takes no cell off one of all cells."""
        return self == (other._replace(said=self.said) if self.choice.reviewed == "all" else other)


class GalleryPanel(QWidget):
    """Chooses what the gallery shows. What is shown stays as it is under the hand: new cells are told of, and come in
    when the gallery is at its top and nothing is selected, or when the button is pressed."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._made: _Asked | None = None  # what the sheet was made from
        self._making = False
        self._like: int | None = None  # the row of the cell that the others are likened to
        self._before = next(iter(_ORDERS)), True  # order and split, to go back to
        self._refused = False
        self.gallery = Gallery(desk)
        self.order = self._choice(_ORDERS, "In which order the cells of a class come")
        self.reviewed = self._choice(
            _REVIEWED, "Which cells; to look at again: a newer model thinks otherwise, the surest first"
        )
        self.field = self._choice(_FIELDS, "How much of the slide each picture shows")
        self.split = QCheckBox("By class")
        self.split.setChecked(True)
        self.split.setToolTip("The most severe class first, each under its own heading; else one sheet in one order.")
        self.in_view = QCheckBox("In view")
        self.in_view.setToolTip("Only cells that the canvas shows.")
        self.find = Button("Find similar", "Put those cells first that look like the current one.", "similar", "s")
        self.find.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.find.clicked.connect(self.find_similar)
        self.chip = LikeChip()
        self.chip.closed.connect(self.leave_similar)
        self.size = QSlider(Qt.Orientation.Horizontal)
        self.size.setRange(64, 200)
        self.size.setValue(self.gallery.side)
        self.size.setToolTip("How large the pictures are")
        self.told = QLabel()
        self.fresh = QPushButton()
        self.fresh.setToolTip("Choose the cells and their order anew, by what was found, said and moved meanwhile.")
        self.fresh.hide()
        grid = QGridLayout()
        grid.setSpacing(4)
        for i, widget in enumerate((self.order, self.reviewed)):
            grid.addWidget(widget, 0, i)
        second = QHBoxLayout()
        for widget in (self.split, self.in_view, self.field):
            second.addWidget(widget)
        second.addWidget(self.size, 1)
        grid.addLayout(second, 1, 0, 1, 2)
        below = QHBoxLayout()
        below.addWidget(self.told, 1)
        below.addWidget(self.fresh)
        below.addWidget(self.find)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(4)
        layout.addLayout(grid)
        layout.addWidget(self.chip)
        layout.addWidget(self.gallery, 1)
        layout.addLayout(below)
        self.order.currentIndexChanged.connect(self._ordered)
        self.order.activated.connect(self._explain)
        self.reviewed.currentIndexChanged.connect(self.renew)
        for check in (self.split, self.in_view):
            check.toggled.connect(self.renew)
        self.field.setCurrentText("60 µm")
        self.field.currentIndexChanged.connect(self._resize)
        self.size.valueChanged.connect(self._resize)
        self.fresh.clicked.connect(self.renew)
        self.gallery.selection_changed.connect(self._tell)
        self.gallery.asked_for_similar.connect(self.find_similar)
        self._later = QTimer(self, singleShot=True, interval=_PAUSE)
        self._later.timeout.connect(self._look_again)
        self._still = QTimer(self, singleShot=True, interval=_STILL)
        self._still.timeout.connect(self._look_again)
        desk.viewer.scene.camera.events.connect(self._view_moved)
        desk.viewer.canvas.events.size.connect(self._view_moved)
        desk.opened.connect(self._opened)
        desk.closing.connect(self._closing)

    @staticmethod
    def _choice(options: dict[str, Any], tip: str) -> QComboBox:
        box = QComboBox()
        box.addItems(list(options))
        box.setToolTip(tip)
        return box

    def _opened(self) -> None:
        session = self._desk.session
        session.cells_changed.connect(self._changed)
        session.reloaded.connect(self._begin)
        session.answers.changed.connect(self._changed)
        self._begin()

    def _begin(self) -> None:
        self._made = None
        self._forget_like()  # its row has another number
        self.gallery.open(self._desk.session)
        self.renew()

    def _closing(self) -> None:
        self._later.stop()
        self._still.stop()
        self.gallery.close_slide()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        if self._desk.session is not None and self._made != self._asked():
            self.renew()  # nothing is under the hand yet

    def _view_moved(self, _event: Any = None) -> None:
        if self.in_view.isChecked():
            self._still.start()

    def _asked(self) -> _Asked:
        """Return what a sheet made now would depend on."""
        session = self._desk.session
        in_view = self.in_view.isChecked()
        order = _ORDERS[self.order.currentText()]
        choice = Choice(
            order=order,
            like=self._like,
            split=self.split.isChecked(),
            reviewed=_REVIEWED[self.reviewed.currentText()],
            classes=tuple(session.classes_shown.tolist()),
        )
        view = self._desk.view.rectangle() if in_view else None
        answer = session.answers.number if order in ("score", "asking") else 0
        return _Asked(choice, session.threshold, in_view, view, len(session.states), answer, session.annotations)

    # ------------------------------------------------------------------------------------------------- likeness

    @property
    def like(self) -> int | None:
        """The row of the cell to which the others are likened."""
        return self._like

    def find_similar(self) -> None:
        """Show all cells in the order of their likeness to the current one; if they are already, go back."""
        session = self._desk.session
        if session.current is not None and session.current == self._like:
            self.leave_similar()
        elif self._liken():
            self._set(_LIKENESS, False)
            self.renew()
        else:
            self._desk.failed.emit(_NOBODY)

    def leave_similar(self) -> None:
        """Go back to the order in which the cells were before."""
        if self._like is not None:
            self._forget_like()
            self.renew()

    def _forget_like(self) -> None:
        if self._like is not None:
            self._like = None
            self.chip.hide()
            self._set(*self._before)

    def _liken(self) -> bool:
        """From now on liken to the current cell; return whether there is one."""
        session = self._desk.session
        if session is None or session.current is None:
            return False
        self._like = session.current
        label = int(session.cells.labels[self._like])
        self.chip.show_cell(session.taxonomy[label] if label >= 0 else None, score_of(session, self._like, by=""))
        return True

    def _set(self, order: str, split: bool) -> None:
        for widget in (self.order, self.split):
            widget.blockSignals(True)
        self.order.setCurrentText(order)
        self.split.setChecked(split)
        for widget in (self.order, self.split):
            widget.blockSignals(False)

    def _ordered(self) -> None:
        """Follow the reviewer's choice of an order."""
        order = self.order.currentText()
        self._refused = order == _LIKENESS and not self._liken()
        if order != _LIKENESS and self._like is not None:
            self._forget_like()
            self._set(order, self._before[1])
        elif self._refused:
            self._set(*self._before)
        self.renew()

    def _explain(self) -> None:
        """Tell a reviewer who has chosen likeness by hand why it could not be."""
        if self._refused:
            self._desk.failed.emit(_NOBODY)
        self._refused = False

    # ------------------------------------------------------------------------------------------------ the sheet

    def renew(self) -> None:
        """Make the sheet anew; large ones take their time, in a thread."""
        session = self._desk.session
        if self.order.currentText() != _LIKENESS:
            self._before = self.order.currentText(), self.split.isChecked()
        if session is None or not self.isVisible():
            self._made = None
            return
        if self._making:
            self._later.start()
            return
        asked = self._asked()
        snapshot, choice = session.snapshot(), replace(asked.choice, region=asked.view)
        self._making = True

        def done(sheet: Sheet) -> None:
            self._making = False
            if self._desk.session is not session or asked.rows > len(session.states):
                return
            if asked.wishes != self._asked().wishes:
                self.renew()  # other cells were wished for meanwhile
            else:
                before, self._made = self._made, asked
                self.gallery.set_sheet(sheet)
                is_liked_anew = choice.like is not None and (before is None or before.choice.like != choice.like)
                is_wished_anew = before is None or before.wishes != asked.wishes
                if is_liked_anew or (is_wished_anew and not len(self.gallery.selection)):
                    self.gallery.verticalScrollBar().setValue(0)
                self._tell()

        def failed(error: Exception) -> None:
            self._making = False
            if self._desk.session is session:
                self.leave_similar()
                self._desk.report(error)

        connect = {"returned": done, "errored": failed}
        create_worker(Sheet.of, snapshot, choice, _connect=connect, _ignore_errors=True)

    def _changed(self) -> None:
        self.gallery.viewport().update()
        if self._made is not None and self._made.wishes != self._asked().wishes:
            self.renew()  # the reviewer wants to see other cells
        elif not self._later.isActive():
            self._later.start()

    def _look_again(self) -> None:
        if self._desk.session is None or not self.isVisible():
            return
        asked = self._asked()
        wished = self._made is None or self._made.wishes != asked.wishes
        if wished or (not self._made.is_as(asked) and self._is_at_rest()):
            self.renew()
        else:
            self._tell()

    def _is_at_rest(self) -> bool:
        gallery = self.gallery
        return gallery.verticalScrollBar().value() == 0 and not len(gallery.selection) and not gallery.underMouse()

    def _resize(self) -> None:
        self.gallery.set_size(self.size.value(), _FIELDS[self.field.currentText()])

    def _tell(self) -> None:
        if self._desk.session is None or self._made is None:
            return
        shown, chosen = self.gallery.count, len(self.gallery.selection)
        self.told.setText(f"{chosen:,} of {shown:,} selected" if chosen else f"{shown:,} cells")
        asked = self._asked()
        new = asked.rows - self._made.rows
        self.fresh.setVisible(not self._made.is_as(asked))
        self.fresh.setText(f"{new:,} new: show" if new > 0 else "Show anew")
