"""The Review panel: the current cell, and a button for every verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget
from superqt import QElidingLabel, QLabeledDoubleSlider

from ..review.figures_words import about_share, in_words
from .ask_about import AskAbout
from .instant import InstantAnswer
from .nuclei import in_words as nucleus_in_words
from .parts import Button, text_on
from .thumbnail import Thumbnail
from .words import STATES, scores_of, what_to_do

if TYPE_CHECKING:
    from ..review import ClassFigures
    from ..taxonomy import Taxonomy
    from .desk import Desk

__all__ = ["ReviewPanel"]


class ReviewPanel(QWidget):
    """Shows the session's current cell; the buttons call what the keys call.

    Parameters
    ----------
    desk : Desk
    actions : dict of str to callable
        What the buttons do: accept, reject, add, check, previous, next, undo, redo, fly, hide.
    set_class : callable
        Takes a class index.
    """

    def __init__(
        self, desk: Desk, actions: dict[str, Callable[[], object]], set_class: Callable[[int], object]
    ) -> None:
        super().__init__()
        self._desk = desk
        self._set_class = set_class
        self.thumbnail = Thumbnail()
        self.name = QLabel()
        self.name.setToolTip("Class of the current cell")
        self.scores = QLabel()
        self.scores.setWordWrap(True)
        self.scores.setToolTip("How sure the model is that there is a cell, and of its class")
        self.nucleus = QLabel()
        self.nucleus.setToolTip(
            "The nucleus that is outlined in white: its area, and its share of the area of the cell's box. "
            "A box is about as large as a usual cell."
        )
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.state.setToolTip("What has been said of this cell")
        self.place = QLabel()
        self.place.setWordWrap(True)
        self.place.setToolTip("Where this cell stands in the queue: what is most worth asking comes first")
        beside = QWidget()
        beside.setFixedHeight(self.thumbnail.height())  # the buttons below stay where they are, whatever the words
        words = QVBoxLayout(beside)
        words.setContentsMargins(0, 0, 0, 0)
        words.setSpacing(2)
        self._words = [self.name, self.scores, self.nucleus, self.state, self.place]
        for label in self._words:
            words.addWidget(label)
        words.addStretch()
        top = QHBoxLayout()
        top.addWidget(self.thumbnail, 0, Qt.AlignmentFlag.AlignTop)
        top.addWidget(beside, 1)

        def button(name: str, text: str, tip: str, key: str) -> Button:
            made = Button(text, tip, name if name != "check" else "region", key)
            made.clicked.connect(lambda: actions[name]())
            return made

        self.buttons = {
            "accept": button("accept", "Accept", "It is a cell, and of this class.", "space"),
            "reject": button("reject", "Reject", "It is not a cell to be found.", "x"),
            "add": button("add", "Add cell", "Then click where the model missed a cell.", "a"),
            "check": button(
                "check", "Checked", "Drag a rectangle: all in it is reviewed, what is unmarked is no cell.", "c"
            ),
            "previous": button("previous", "Previous", "Back to the cell before.", "p"),
            "next": button("next", "Next", "On to the next cell in the queue.", "n"),
            "undo": button("undo", "Undo", "Take back the last verdict.", "u"),
            "redo": button("redo", "Redo", "Say it again.", "ctrl+shift+z"),
            "fly": button("fly", "Go to cell", "Bring the current cell to the middle of the canvas.", "f"),
            "hide": button("hide", "Hide", "Hide or show all marks.", "h"),
        }
        self.buttons["hide"].icon_name = "show"
        self.buttons["fly"].setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.buttons["hide"].setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        words.addWidget(self.buttons["fly"], 0, Qt.AlignmentFlag.AlignLeft)
        self.classes: list[Button] = []
        self._grid = QGridLayout()
        self._grid.setSpacing(4)
        pairs = [("accept", "reject"), (), ("add", "check"), ("previous", "next"), ("undo", "redo")]
        self._pairs = QGridLayout()
        self._pairs.setSpacing(4)
        for row, pair in enumerate(pairs):
            for column, name in enumerate(pair):
                self._pairs.addWidget(self.buttons[name], row, column)
        self._pairs.addLayout(self._grid, 1, 0, 1, 2)
        for name in ("accept", "reject"):
            self.buttons[name].setMinimumHeight(36)
        self.threshold = QLabeledDoubleSlider()
        self.threshold.setRange(0.1, 0.99)
        self.threshold.setDecimals(2)
        self.threshold.setSingleStep(0.05)
        self.threshold.valueChanged.connect(self._set_threshold)
        slider = QHBoxLayout()
        slider.addWidget(QLabel("Show from"))
        slider.addWidget(self.threshold, 1)
        slider.addWidget(self.buttons["hide"])
        self.instant = InstantAnswer(desk)
        self.ask_about = AskAbout(desk)
        order = QHBoxLayout()
        order.addWidget(self.instant)
        order.addStretch()
        order.addWidget(self.ask_about)
        self.reviewed = QLabel()
        self.reviewed.setToolTip("How far the review is")
        self.quality = QElidingLabel()
        self._figures: list[ClassFigures] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addLayout(self._pairs)
        layout.addLayout(slider)
        layout.addLayout(order)
        layout.addWidget(self.reviewed)
        layout.addWidget(self.quality)
        desk.opened.connect(self._opened)
        desk.detection.finished.connect(self.refresh)  # it may have found nothing
        desk.figures_changed.connect(self._take_figures)
        desk.nucleus.changed.connect(self._show_nucleus)

    def _opened(self) -> None:
        session = self._desk.session
        self._figures = []
        self._make_class_buttons(session.taxonomy)
        self.threshold.blockSignals(True)
        self.threshold.setValue(session.threshold)
        self.threshold.blockSignals(False)
        session.current_changed.connect(self.refresh)
        session.counts_changed.connect(self.refresh)
        session.answers.changed.connect(self.refresh)
        self.refresh()

    def _make_class_buttons(self, taxonomy: Taxonomy) -> None:
        for button in self.classes:
            self._grid.removeWidget(button)
            button.deleteLater()
        self.classes = []
        for place, i in enumerate(taxonomy.offered):
            cell_class = taxonomy[i]
            button = Button(cell_class.name, f"The cell is {cell_class.name}.", "", cell_class.key, cell_class.color)
            button.clicked.connect(lambda _=False, label=i: self._set_class(label))
            self._grid.addWidget(button, place // 3, place % 3)
            self.classes.append(button)

    def show_threshold_keys(self, lower: str, higher: str) -> None:
        """Name the keys that do the same as the slider."""
        self.threshold.setToolTip(
            f"Detections that the model is less sure of than this are not shown. Keys: {lower} and {higher}"
        )

    def _set_threshold(self, value: float) -> None:
        if self._desk.session is not None:
            self._desk.session.threshold = value

    def _take_figures(self, figures: list[ClassFigures]) -> None:
        self._figures = figures
        self._show_quality()

    def _show_quality(self) -> None:
        """Say how good the class of the current cell is, by what was reviewed."""
        session = self._desk.session
        label = -1 if session.current is None else int(session.cells.labels[session.current])
        if label < 0 or not self._figures:
            self.quality.setText("")
            self.quality.setToolTip("How often the model is right, of the class of the current cell")
            return
        name, figures = session.taxonomy[label].name, self._figures[label]
        self.quality.setText(in_words(name, figures))
        self.quality.setToolTip(about_share(name, figures))

    def _make_room(self) -> None:
        """Give the room of words that say nothing to the others."""
        for label in self._words:
            label.setVisible(bool(label.text()))

    def _show_nucleus(self) -> None:
        nucleus = self._desk.nucleus.nucleus
        self.nucleus.setText("" if nucleus is None else nucleus_in_words(nucleus))
        self._make_room()
        self.thumbnail.show_outline(None if nucleus is None else nucleus.outline)

    def refresh(self, *_: object) -> None:
        """Show the session's current cell."""
        session = self._desk.session
        if session is None:
            return
        self.buttons["undo"].setEnabled(session.case.can_undo)
        self.buttons["redo"].setEnabled(session.case.can_redo)
        counts = session.counts()
        left = sum(c.detected - c.reviewed for c in counts)
        self.reviewed.setText(f"{sum(c.reviewed + c.rejected for c in counts):,} reviewed · {left:,} still to see")
        self._show_quality()
        current = session.current
        for name in ("accept", "reject", "fly"):
            self.buttons[name].setEnabled(current is not None)
        for button in self.classes:
            button.setEnabled(current is not None)
        if current is None:
            self.thumbnail.clear()
            self.name.setText("<b>No cell selected</b>")
            self.name.setStyleSheet("")
            self.scores.setText("")
            self.state.setText(what_to_do(session))
            self.place.setText("")
            self._make_room()
            return
        label = int(session.cells.labels[current])
        state = int(session.states[current])
        cell_class = session.taxonomy[label] if label >= 0 else None
        color = cell_class.color if cell_class else "#808080"
        self.thumbnail.show_cell(self._desk.slide, session.cells.boxes[current], color)
        self.name.setText(f"{cell_class.letter}  {cell_class.name}" if cell_class else "no class")
        self.name.setStyleSheet(
            f"background: {color}; color: {text_on(color)}; font-size: 16px; font-weight: bold; "
            "padding: 3px 8px; border-radius: 4px;"
        )
        self.scores.setText(scores_of(session, current))
        words = STATES[state]
        if session.disagrees[current]:
            words += ". A newer model sees another class: look again."
        self.state.setText(words)
        self.place.setText(f"{left:,} in the queue" if state == 0 else "")
        self._make_room()
