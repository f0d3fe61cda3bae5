"""The Review bar below the slide: the current cell, its neighbours in the queue, and a button for every verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QImage, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from ..review.figures_words import about_share, in_words
from .nuclei import in_words as nucleus_in_words
from .parts import Button, text_on, tool_button
from .pictures import Crop
from .queue_strip import QueueStrip
from .thumbnail import FIELD, Thumbnail
from .thumbnails import Thumbnails
from .words import STATES, scores_of, what_to_do

if TYPE_CHECKING:
    from ..cells import IntArray
    from ..review import ClassFigures
    from ..taxonomy import Taxonomy
    from .desk import Desk

__all__ = ["ReviewBar"]

_NONE = np.zeros(0, np.int64)
_SIDE = 110  # px of the current cell's picture
_WORDS = 146  # px at the least beside it
_NARROWEST = 500  # px of the bar
_IN_A_ROW = 3  # buttons of classes
_WIDEST = 150  # px that a class's name asks for at the most
_ICONS = {
    "redo": ("Say again what was taken back.", "ctrl+shift+z"),
    "place": ("Go to a place drawn at random: look through all of it, then press Checked.", "l"),
    "fly": ("Bring the current cell to the middle of the canvas.", "f"),
}
"""Buttons without words: what they do, and the usual key."""


class _ClassButton(Button):
    """Gives a cell a class, whose name is cut short where there is no room for it."""

    def sizeHint(self) -> QSize:
        hint = super().sizeHint()
        return QSize(min(hint.width(), _WIDEST), hint.height())

    def paintEvent(self, _event: object) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        within = self.style().subElementRect(QStyle.SubElement.SE_PushButtonContents, option, self)
        room = within.width() - self._room
        option.text = self.fontMetrics().elidedText(option.text, Qt.TextElideMode.ElideRight, room)
        QStylePainter(self).drawControl(QStyle.ControlElement.CE_PushButton, option)


class ReviewBar(QWidget):
    """Shows the session's current cell; the buttons call what the keys call.

    Parameters
    ----------
    desk : Desk
    actions : dict of str to callable
        What the buttons do: accept, reject, add, check, place, previous, next, undo, redo, fly.
    set_class : callable
        Takes a class index.
    go_to : callable
        Takes the session's row of a cell.
    """

    def __init__(
        self,
        desk: Desk,
        actions: dict[str, Callable[[], object]],
        set_class: Callable[[int], object],
        go_to: Callable[[int], object],
    ) -> None:
        super().__init__()
        self._desk = desk
        self._set_class = set_class
        self._pictures: Thumbnails | None = None
        self._figures: list[ClassFigures] = []
        self._selected = _NONE
        self.thumbnail = Thumbnail(_SIDE)
        self.name = QElidingLabel()
        self.name.setEllipsesWidth(22)  # the style puts space around the words
        self.scores = QLabel()
        self.scores.setWordWrap(True)
        self.scores.setToolTip("How sure the model is that there is a cell, and of its class")
        self.nucleus = QLabel()
        self.nucleus.setWordWrap(True)
        self.nucleus.setToolTip(
            "The nucleus that is outlined in white: its area, and its share of the area of the cell's box. "
            "A box is about as large as a usual cell."
        )
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.state.setToolTip("What has been said of this cell")
        self.strip = QueueStrip(desk, self._picture_of)
        self.strip.chosen.connect(go_to)
        self.reviewed = QLabel(" ")  # as high as with words
        self.reviewed.setToolTip("How far the review is")
        self.quality = QElidingLabel()

        checked = "Drag a rectangle, or look through a place first: all in it is reviewed, what is unmarked is no cell."
        self.buttons: dict[str, QAbstractButton] = {
            "accept": Button("Accept", "It is a cell, and of this class.", "accept", "space"),
            "reject": Button("Reject", "It is not a cell to be found.", "reject", "x"),
            "add": Button("Add cell", "Then click where the model missed a cell.", "add", "a"),
            "check": Button("Checked", checked, "region", "c"),
            "previous": Button("Back", "Back to the cell before.", "", "p"),
            "next": Button("Next", "On to the next cell in the queue.", "", "n"),
            "undo": Button("Undo", "Take back the last verdict.", "undo", "u"),
        }
        for name, (tip, _) in _ICONS.items():
            self.buttons[name] = tool_button(name, tip)
        for name, made in self.buttons.items():
            made.clicked.connect(lambda _=False, name=name: actions[name]())
        self.classes: list[_ClassButton] = []
        self._arrange()
        self._say("No cell selected", "", "")
        self.setEnabled(False)  # until a session has begun
        desk.opened.connect(self._opened)
        desk.closing.connect(self._closing)
        desk.detection.finished.connect(self.refresh)  # it may have found nothing
        desk.figures_changed.connect(self._take_figures)
        desk.nucleus.changed.connect(self._show_nucleus)

    def _arrange(self) -> None:
        self._row = row = QHBoxLayout()
        row.setSpacing(7)
        row.addWidget(self.thumbnail, 0, Qt.AlignmentFlag.AlignTop)
        self._parts = self._told(), self._verdicts(), self._tools(), self._queued()
        for part in self._parts:
            row.addWidget(part)
        below = QHBoxLayout()
        below.setSpacing(18)
        below.addWidget(self.reviewed)
        below.addWidget(self.quality, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 4)
        layout.setSpacing(3)
        layout.addLayout(row)
        layout.addLayout(below)
        self.setMinimumWidth(_NARROWEST)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def _told(self) -> QWidget:
        """Return what is said of the cell."""
        heading = QHBoxLayout()
        heading.setSpacing(4)
        heading.addWidget(self.name, 1)
        heading.addWidget(self.buttons["fly"])
        words = QWidget()
        column = QVBoxLayout(words)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(heading)
        self._words = [self.scores, self.nucleus, self.state]
        for label in self._words:
            column.addWidget(label)
        column.addStretch()
        words.setMinimumWidth(_WORDS)
        words.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for label in (self.name, *self._words):  # what they say shall not move what is beside them
            label.setSizePolicy(QSizePolicy.Policy.Ignored, label.sizePolicy().verticalPolicy())
        words.setFixedHeight(_SIDE)  # nothing moves, whatever the words
        return words

    def _verdicts(self) -> QWidget:
        """Return the buttons for what can be said, those of the classes yet to come."""
        verdicts = QWidget()
        self._grid = QGridLayout()
        self._grid.setSpacing(4)
        column = QVBoxLayout(verdicts)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(self._side_by_side("accept", "reject"))
        column.addLayout(self._grid)
        column.addStretch()
        return verdicts

    def _tools(self) -> QWidget:
        """Return the buttons to take back, to add and to check."""
        tools = QWidget()
        tools.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)  # more or less is for the verdicts
        column = QVBoxLayout(tools)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        again = self._side_by_side("undo", "redo")
        again.setStretch(0, 1)
        column.addLayout(again)
        column.addLayout(self._side_by_side("add", height=30))
        check = self._side_by_side("check", "place", height=30)
        check.setStretch(0, 1)
        column.addLayout(check)
        column.addStretch()
        return tools

    def _queued(self) -> QWidget:
        """Return the neighbours in the queue, and the ways to them."""
        self._queue = QWidget()
        column = QVBoxLayout(self._queue)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.strip)
        column.addLayout(self._side_by_side("previous", "next", height=0))
        column.addStretch()
        return self._queue

    def _side_by_side(self, *names: str, height: int = 36) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(4)
        for name in names:
            if height:
                self.buttons[name].setMinimumHeight(height)
            row.addWidget(self.buttons[name])
        return row

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._fit()

    def _fit(self) -> None:
        """Where there is little room, do without the neighbours, then the names of the keys, then the picture."""
        margins = self.layout().contentsMargins()
        room = self.width() - margins.left() - margins.right()
        for spared in range(4):
            self._queue.setVisible(spared < 1)
            for button in self.findChildren(Button):
                button.show_badge(spared < 2)
            self.thumbnail.setVisible(spared < 3)
            for part in (*self._parts, self):  # what a layout within another one is told, it tells when it is activated
                part.layout().activate()
            if self._row.sizeHint().width() <= room:
                break

    def sizeHint(self) -> QSize:
        return QSize(_NARROWEST, super().sizeHint().height())  # what is docked at the sides has its width first

    def show_keys(self, names: dict[str, str]) -> None:
        """Name the keys of the buttons without words; `names` are by the usual ones."""
        for name, (tip, key) in _ICONS.items():
            self.buttons[name].setToolTip(f"{tip} Key: {names[key]}")

    def _opened(self) -> None:
        session = self._desk.session
        self._figures = []
        self._pictures = Thumbnails(self._desk.slide, self)
        self._pictures.came.connect(self._show_pictures)
        self._make_class_buttons(session.taxonomy)
        self.setEnabled(True)
        self._selected = _NONE
        session.reloaded.connect(self._forget_selected)  # rows have other numbers
        session.current_changed.connect(self.refresh)
        session.counts_changed.connect(self.refresh)
        session.answers.changed.connect(self.refresh)
        self.refresh()

    def _closing(self) -> None:
        self._pictures.stop()
        self._pictures.deleteLater()
        self._pictures = None
        self.strip.clear()
        self.thumbnail.clear()
        self.setEnabled(False)

    def _make_class_buttons(self, taxonomy: Taxonomy) -> None:
        for button in self.classes:
            self._grid.removeWidget(button)
            button.deleteLater()
        self.classes = []
        columns = max(_IN_A_ROW, -(-len(taxonomy.offered) // _IN_A_ROW))
        for place, i in enumerate(taxonomy.offered):
            cell_class = taxonomy[i]
            button = _ClassButton(
                cell_class.name, f"The cell is {cell_class.name}.", "", cell_class.key, cell_class.color
            )
            button.setMinimumHeight(30)
            button.clicked.connect(lambda _=False, label=i: self._set_class(label))
            self._grid.addWidget(button, place // columns, place % columns)
            button.show()  # else it takes no room yet
            self.classes.append(button)
        for column in range(self._grid.columnCount()):  # many are all as wide
            self._grid.setColumnStretch(column, columns > _IN_A_ROW and column < columns)
        self._fit()

    def _forget_selected(self) -> None:
        self._selected = _NONE

    def show_selected(self, rows: IntArray) -> None:
        """Show what verdicts are for: the cells in `rows`, which are selected, or where none are the current one."""
        if not np.array_equal(rows, self._selected):
            self._selected = rows
            self.refresh()
            self._show_nucleus()

    def _subject(self) -> int | None:
        """Return the row of the cell that is shown: the one that is selected, or else the current one."""
        return int(self._selected[0]) if len(self._selected) == 1 else self._desk.session.current

    def _take_figures(self, figures: list[ClassFigures]) -> None:
        self._figures = figures
        self._show_quality()

    def _show_quality(self) -> None:
        """Say how good the class of the current cell is, by what was reviewed."""
        session = self._desk.session
        subject = self._subject()
        label = -1 if subject is None else int(session.cells.labels[subject])
        if label < 0 or not self._figures:
            self.quality.setText("")
            self.quality.setToolTip("How often the model is right, of the class of the current cell")
            return
        name, figures = session.taxonomy[label].name, self._figures[label]
        self.quality.setText(in_words(name, figures))
        self.quality.setToolTip(about_share(name, figures))

    def _show_nucleus(self) -> None:
        nucleus, session = self._desk.nucleus.nucleus, self._desk.session
        if session is None or len(self._selected) > 1 or self._subject() != session.current:
            nucleus = None  # it is the current cell's
        self.nucleus.setText("" if nucleus is None else nucleus_in_words(nucleus))
        self._make_room()
        outline = None
        if nucleus is not None and session is not None and session.current is not None:
            outline = (nucleus.outline - session.index.points[session.current]) * np.array(self._desk.slide.mpp_xy)
        self.thumbnail.show_outline(outline)

    def _make_room(self) -> None:
        """Give the room of words that say nothing to the others."""
        for label in self._words:
            label.setVisible(bool(label.text()))

    # ----------------------------------------------------------------------------------------------- pictures

    def _crop(self, row: int) -> Crop:
        # one picture for the strip and for the time when the cell is current, which then is there at once
        x, y = self._desk.session.index.points[row].tolist()
        return Crop(x, y, FIELD, round(_SIDE * self.devicePixelRatioF()))

    def _picture_of(self, row: int) -> QImage | None:
        return None if self._pictures is None else self._pictures.get(self._crop(row))

    def _show_pictures(self) -> None:
        session = self._desk.session
        self.strip.update()
        subject = None if session is None else self._subject()
        if subject is None:
            self.thumbnail.clear()
            return
        label, box = int(session.cells.labels[subject]), session.cells.boxes[subject]
        width, height = ((box[2:] - box[:2]) * self._desk.slide.mpp_xy).tolist()
        color = session.taxonomy[label].color if label >= 0 else "#808080"
        self.thumbnail.show_cell(self._picture_of(subject), (width, height), color)

    def refresh(self, *_: object) -> None:
        """Show the session's current cell and its neighbours."""
        session = self._desk.session
        if session is None:
            return
        self.buttons["undo"].setEnabled(session.case.can_undo)
        self.buttons["redo"].setEnabled(session.case.can_redo)
        counts = session.counts()
        left = sum(c.detected - c.reviewed for c in counts)
        self.reviewed.setText(f"{sum(c.reviewed + c.rejected for c in counts):,} reviewed · {left:,} still to see")
        self._show_quality()
        subject, chosen = self._subject(), len(self._selected)
        self.buttons["fly"].setVisible(subject is not None and subject == session.current and chosen < 2)
        for button in (self.buttons["accept"], self.buttons["reject"], *self.classes):
            button.setEnabled(subject is not None or chosen > 0)
        self.strip.show_cells()
        shown = [*([] if subject is None else [subject]), *self.strip.rows]
        self._pictures.want(self._crop(row) for row in shown)
        self._show_pictures()
        if chosen > 1:
            self._say(f"{chosen:,} selected", "", "A verdict is for all of them.")
        elif subject is not None:
            self._describe(subject)
        else:
            self._say("No cell selected", "", what_to_do(session))

    def _say(self, name: str, scores: str, state: str, style: str = "font-weight: bold;") -> None:
        self.name.setStyleSheet(style)  # first: by its font the name is cut where it is too long
        self.name.setText(name)
        self.name.setToolTip(name)
        self.scores.setText(scores)
        self.state.setText(state)
        self._make_room()

    def _describe(self, row: int) -> None:
        session = self._desk.session
        label = int(session.cells.labels[row])
        cell_class = session.taxonomy[label] if label >= 0 else None
        words = STATES[int(session.states[row])]
        if session.disagrees[row]:
            words += ". A newer model sees another class: look again."
        color = cell_class.color if cell_class else "#808080"
        self._say(
            f"{cell_class.letter}  {cell_class.name}" if cell_class else "no class",
            scores_of(session, row),
            words,
            f"background: {color}; color: {text_on(color)}; font-size: 16px; font-weight: bold; "
            "padding: 3px 8px; border-radius: 4px;",
        )
