"""The Case panel: what was found and reviewed, who reviews, and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import Container, LineEdit, TextEdit
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from ..review.figures_words import ENOUGH, about_number, about_share, checked, number, share
from ..review.pace import PAUSE, Pace, Stopwatch
from .classes_dialog import ClassesDialog
from .desk import close_with_slide
from .parts import Button, line_up, text_on

if TYPE_CHECKING:
    from ..review import ClassFigures
    from .desk import Desk

__all__ = ["CasePanel"]

_FORMATS = {
    "QuPath GeoJSON": ("geojson", ".geojson"),
    "COCO": ("coco", ".json"),
    "Table (CSV)": ("csv", ".csv"),
    "Report to read (HTML)": ("report", ".html"),
}
_LABEL_WIDTH = 76
_NOTES_HEIGHT = 58  # px: three lines
_REST = 1000  # ms without a key after which notes are saved

_CHIP = 64  # px of a class's chip, at the least


class CasePanel(QWidget):
    """Counts and figures per class, what was checked, the reviewer's name and notes, the way out, and where the case
    file is."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._stopwatch = Stopwatch()
        self._counts = QGridLayout()
        self._counts.setVerticalSpacing(2)
        self._counts.setHorizontalSpacing(2)
        self._counts.setColumnStretch(0, 1)
        self._cells: dict[int, tuple[QLabel, QLabel]] = {}
        self.figures: dict[int, tuple[QLabel, QLabel]] = {}
        self.chips: dict[int, QToolButton] = {}
        self.reviewer = LineEdit(label="Reviewer", tooltip="Your name; it is noted with every verdict")
        self.reviewer.native.editingFinished.connect(self._set_reviewer)
        self.done = Button("Done", "You are through with this case; press again to go on with it.", "accept", "e")
        self.done.setCheckable(True)
        self.done.clicked.connect(desk.set_done)
        self.pace = QElidingLabel()
        self.pace.setToolTip(f"Your time at this case; pauses of over {PAUSE:.0f} s are left out")
        self.notes = TextEdit(label="Notes", tooltip="What should be known of this case; saved while you type")
        self.notes.native.setFixedHeight(_NOTES_HEIGHT)
        self.notes.native.setTabChangesFocus(True)
        self._rest = QTimer(self, singleShot=True, interval=_REST)
        self._rest.timeout.connect(self._save_notes)
        self.notes.changed.connect(lambda: self._rest.start())
        self.checked = QElidingLabel()
        self.checked.setToolTip(
            "What you marked as checked: only that tells what the model has missed.\n"
            "The button beside Checked leads to places drawn at random."
        )
        form = Container(widgets=[self.reviewer, self.notes], labels=True)
        form.margins = (0, 0, 0, 0)
        line_up(form.native, _LABEL_WIDTH)
        self.format = QComboBox()
        self.format.addItems(list(_FORMATS))
        self.format.setToolTip("What to write: all cells for other programs, or what the case came to for people")
        self.export_button = Button("Export …", "Write all cells, or the report, to a file.", "export")
        self.export_button.clicked.connect(self.ask_and_export)
        desk.writing.changed.connect(self._show_writing)
        out = QHBoxLayout()
        out.addWidget(self.format, 1)
        out.addWidget(self.export_button, 1)
        end = QHBoxLayout()
        end.addWidget(self.pace, 1)
        end.addWidget(self.done, 1)
        self.path = QElidingLabel()
        self.path.setElideMode(Qt.TextElideMode.ElideMiddle)
        for label in (self.path, self.pace, self.checked):
            label.setEllipsesWidth(16)  # napari's style puts space around the words of a label
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._counts)
        layout.addWidget(self.checked)
        layout.addWidget(form.native)
        layout.addLayout(end)
        layout.addLayout(out)
        layout.addWidget(self.path)
        desk.opened.connect(self._opened)
        desk.closing.connect(self._save_notes)
        desk.figures_changed.connect(self._show_figures)
        desk.figures_changed.connect(self._show_pace)
        desk.done_changed.connect(self._show_done)
        desk.reviewer_changed.connect(self._show_pace)

    def _opened(self) -> None:
        session, case = self._desk.session, self._desk.case
        self._stopwatch = Stopwatch(case.reviewer)
        self.reviewer.value = case.reviewer
        with self.notes.changed.blocked():
            self.notes.value = case.notes
        self.path.setText(f"Saved in {case.path}")
        self.path.setToolTip(f"Every verdict is saved at once in {case.path}")
        while (item := self._counts.takeAt(0)) is not None:
            item.widget().deleteLater()
        for column, (text, tip) in enumerate(
            [
                ("Detected", "Cells shown at the present threshold"),
                ("Reviewed", "Of these, cells that a reviewer has accepted, corrected or added"),
                ("Right %", "Which share of the cells shown as a class is of that class: the 95 % interval"),
                ("On slide", "How many cells of a class there are: the 95 % interval. ✓: enough reviewed"),
            ],
            1,
        ):
            head = _small(QLabel(text))
            head.setToolTip(tip)
            self._counts.addWidget(head, 0, column, Qt.AlignmentFlag.AlignRight)
        self.classes_button = QToolButton()
        self.classes_button.setText("Classes …")
        self.classes_button.setToolTip("Add, rename, merge or hide classes of cells.")
        self.classes_button.setStyleSheet(
            "font-size: 11px; border: 1px solid palette(mid); border-radius: 3px; padding: 1px 4px;"
        )
        self.classes_button.clicked.connect(self._edit_classes)
        self._counts.addWidget(self.classes_button, 0, 0, Qt.AlignmentFlag.AlignLeft)
        self._cells, self.figures, self.chips = {}, {}, {}
        for i, cell_class in enumerate(session.taxonomy):
            if cell_class.into >= 0:
                continue
            row = i + 1
            chip = QToolButton()
            chip.setText(cell_class.name)
            chip.setCheckable(True)
            chip.setChecked(bool(session.classes_shown[i]))
            chip.setFixedHeight(20)
            chip.setSizePolicy(
                QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed
            )  # a long name is cut, not the panel
            chip.setMinimumWidth(_CHIP)
            chip.setToolTip(f"Show or hide {cell_class.name} cells on the slide.")
            chip.setStyleSheet(
                "QToolButton { font-size: 11px; font-weight: bold; border-radius: 3px; padding: 0px 4px; "
                f"border: 2px solid {cell_class.color}; background: transparent; }} "
                f"QToolButton:checked {{ background: {cell_class.color}; color: {text_on(cell_class.color)}; }}"
            )
            chip.toggled.connect(lambda shown, label=i: self._show_class(label, shown))
            self.chips[i] = chip
            counts, figures = (QLabel(), QLabel()), (QLabel(), QLabel())
            self._counts.addWidget(chip, row, 0)
            for column, label in enumerate([*counts, *figures], 1):
                self._counts.addWidget(_small(label), row, column, Qt.AlignmentFlag.AlignRight)
            self._cells[i] = counts
            self.figures[i] = figures
        session.counts_changed.connect(self.refresh)
        self.refresh()
        self._show_done()

    def refresh(self) -> None:
        """Count again."""
        if self._desk.session is not None:
            counts = self._desk.session.counts()
            for label, (detected, reviewed) in self._cells.items():
                detected.setText(f"{counts[label].detected:,}")
                reviewed.setText(f"{counts[label].reviewed:,}")

    def _show_figures(self, all_figures: list[ClassFigures]) -> None:
        self.checked.setText(f"Checked: {checked(self._desk.session)}")
        for label, (right, on_slide) in self.figures.items():
            name, figures = self._desk.session.taxonomy[label].name, all_figures[label]
            right.setText(share(figures.precision))
            right.setToolTip(about_share(name, figures))
            on_slide.setText(f"{'✓ ' * figures.enough(ENOUGH)}{number(figures.total)}")
            on_slide.setToolTip(about_number(name, figures))

    def _edit_classes(self) -> None:
        dialog = ClassesDialog(self._desk.session.taxonomy, self, lambda: self._desk.what_hinders("The classes"))
        dialog.edited.connect(self._desk.change_classes)
        close_with_slide(dialog, self._desk)
        dialog.open()

    def _show_done(self) -> None:
        done = self._desk.case.done
        self.done.setChecked(done is not None)
        self._show_pace()

    def _show_pace(self, _figures: object = None) -> None:
        case = self._desk.case
        if case is not None:
            if self._stopwatch.reviewer != case.reviewer:
                self._stopwatch = Stopwatch(case.reviewer)
            self._stopwatch.hear(case.events(self._stopwatch.newest))
            done = case.done
            words = in_words(self._stopwatch.pace), f"done by {done[1]}" if done else ""
            self.pace.setText(" · ".join(filter(None, words)))

    def _show_class(self, label: int, shown: bool) -> None:
        if self._desk.session is not None:
            self._desk.session.show_class(label, shown)

    def _save_notes(self) -> None:
        self._rest.stop()
        self._desk.do(self._desk.case.set_notes, self.notes.value)

    def _set_reviewer(self) -> None:
        name = self.reviewer.value.strip()
        if name:
            self._desk.set_reviewer(name)

    def _show_writing(self) -> None:
        busy = bool(self._desk.writing.running)
        self.export_button.setDisabled(busy)
        self.export_button.setText("Exporting …" if busy else "Export …")

    def ask_and_export(self) -> None:
        _, suffix = _FORMATS[self.format.currentText()]
        suggestion = self._desk.slide.path.with_suffix(suffix).name
        path, _ = QFileDialog.getSaveFileName(self, "Export the case", suggestion)
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Write the cells, or the report, to `path`, as chosen."""
        form, _ = _FORMATS[self.format.currentText()]
        if form == "report":
            self._save_notes()
            self._desk.writing.report(path)
        else:
            self._desk.writing.export(path, form)


def in_words(pace: Pace) -> str:
    """Return "12 min · 3.4 s a cell"; empty where nothing was said yet."""
    if not pace.cells:
        return ""
    return pace.spent if pace.per_cell is None else f"{pace.spent} · {pace.per_cell:.1f} s a cell"


def _small(label: QLabel) -> QLabel:
    # all columns side by side in the narrowest dock
    label.setStyleSheet("font-size: 11px;")
    return label
