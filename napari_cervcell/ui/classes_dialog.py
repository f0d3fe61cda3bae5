"""Adding, renaming, merging and hiding classes of cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..taxonomy import CellClass, Taxonomy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ClassesDialog"]

_GROUPS = ("negative", "low grade", "high grade")
# told apart from those of the Bethesda classes and from each other by colour-blind readers too
_COLORS = ("#3b4cc0", "#e8a7c9", "#5e4b32", "#2f8f4e", "#a6a6a6", "#c9b037")
_SHOWN, _HIDDEN = "shown", "hidden"


class _Row:
    """One class as it is being edited."""

    def __init__(self, cell_class: CellClass) -> None:
        self._before = cell_class
        self.name = QLineEdit(cell_class.name)
        self.name.setMinimumWidth(120)
        self.name.setToolTip("What the class is called; what was said under an older name stays with it")
        self.letter = QLineEdit(cell_class.letter)
        self.letter.setMaxLength(2)
        self.letter.setFixedWidth(44)
        self.letter.setToolTip("One or two letters that stand for the class on the slide")
        self.color = QPushButton()
        self.color.setFixedWidth(44)
        self.color.setToolTip("Its colour on the slide")
        self.color.clicked.connect(self._ask_color)
        self._paint(cell_class.color)
        self.key = QLineEdit(cell_class.key)
        self.key.setMaxLength(1)
        self.key.setFixedWidth(44)
        self.key.setToolTip("The key that gives this class to a cell: 1 to 9, or none")
        self.group = QComboBox()
        self.group.addItems(_GROUPS)
        self.group.setCurrentText(cell_class.group)
        self.group.setToolTip("How severe it is: the severe ones come first")
        self.state = QComboBox()
        self.state.setToolTip("Hidden classes are not offered; the cells of a merged class count as the other's")

    def offer(self, others: list[tuple[int, str]]) -> None:
        """Let the class be shown, be hidden, or be merged into any of `others`: their numbers and names."""
        chosen = self.state.currentData() if self.state.count() else self._state_before()
        self.state.clear()
        self.state.addItem(_SHOWN, _SHOWN)
        self.state.addItem(_HIDDEN, _HIDDEN)
        for number, name in others:
            self.state.addItem(f"merged into {name}", number)
        self.state.setCurrentIndex(max(0, self.state.findData(chosen)))

    def _state_before(self) -> str | int:
        return self._before.into if self._before.into >= 0 else _HIDDEN if self._before.hidden else _SHOWN

    def edited(self, rank: Callable[[str], int]) -> CellClass:
        """Return the class as it is now; `rank` gives the severity of a group."""
        chosen, group = self.state.currentData(), self.group.currentText()
        return replace(
            self._before,
            name=self.name.text(),
            letter=self.letter.text().strip(),
            color=self._color,
            key=self.key.text().strip(),
            group=group,
            rank=self._before.rank if group == self._before.group else rank(group),
            hidden=chosen == _HIDDEN,
            into=chosen if isinstance(chosen, int) else -1,
        )

    def _ask_color(self) -> None:
        color = QColorDialog.getColor(QColor(self._color), self.color)
        if color.isValid():
            self._paint(color.name())

    def _paint(self, color: str) -> None:
        self._color = color
        self.color.setStyleSheet(f"background: {color}; border-radius: 3px;")


class ClassesDialog(QDialog):
    """Edits the classes of a case; `edited` gives what continues them when the user is done."""

    edited = Signal(object)

    def __init__(self, taxonomy: Taxonomy, parent: QWidget, what_hinders: Callable[[], str]) -> None:
        super().__init__(parent)
        self.setWindowTitle("Classes of cells")
        self._taxonomy, self._what_hinders = taxonomy, what_hinders
        self.rows: list[_Row] = []
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(6)
        for column, text in enumerate(("Name", "Letter", "Colour", "Key", "Severity", "")):
            self._grid.addWidget(QLabel(f"<b>{text}</b>"), 0, column)
        for cell_class in taxonomy:
            self._add(cell_class)
        self.add_button = QPushButton("Add a class")
        self.add_button.setToolTip("Give the new class to a few cells and train: the model then finds more of them.")
        self.add_button.clicked.connect(self._add_new)
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.setStyleSheet("color: #e2574c;")
        self.problem.hide()
        about = QLabel(
            "The cells that have a class keep it, whatever it is called. Nothing is lost by merging or hiding: both "
            "can be taken back here. A new class is learnt in the next round of training."
        )
        about.setWordWrap(True)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self._finish)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(about)
        layout.addLayout(self._grid)
        layout.addWidget(self.add_button, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.problem)
        layout.addWidget(buttons)
        self._offer()

    def _add(self, cell_class: CellClass) -> None:
        row = _Row(cell_class)
        row.name.editingFinished.connect(self._offer)
        self.rows.append(row)
        for column, widget in enumerate((row.name, row.letter, row.color, row.key, row.group, row.state)):
            self._grid.addWidget(widget, len(self.rows), column)

    def _add_new(self) -> None:
        used = {row.key.text() for row in self.rows}
        key = next((key for key in "123456789" if key not in used), "")
        color = _COLORS[(len(self.rows) - len(self._taxonomy)) % len(_COLORS)]
        self._add(CellClass("", "", color, key, _GROUPS[0], self._rank(_GROUPS[0])))
        self._offer()
        self.rows[-1].name.setFocus()

    def _offer(self) -> None:
        names = [row.name.text().strip() for row in self.rows]
        for i, row in enumerate(self.rows):
            row.offer([(j, name) for j, name in enumerate(names) if j != i and name])

    def _rank(self, group: str) -> int:
        return max((c.rank for c in self._taxonomy if c.group == group), default=_GROUPS.index(group))

    def _finish(self) -> None:
        try:
            taxonomy = self._taxonomy.edited([row.edited(self._rank) for row in self.rows])
            problem = self._what_hinders()
        except ValueError as error:
            problem = str(error)
        if problem:  # what was entered stays
            self.problem.setText(problem)
            self.problem.show()
            return
        self.accept()
        if taxonomy != self._taxonomy:
            self.edited.emit(taxonomy)
