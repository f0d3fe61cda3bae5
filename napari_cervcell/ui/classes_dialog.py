"""Adding, renaming, merging and hiding classes of cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
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
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from ..taxonomy import CellClass, Taxonomy
from .parts import let_shrink

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ClassesDialog"]

_GROUPS = ("negative", "low grade", "high grade")
# told apart from those of the Bethesda classes and from each other by colour-blind readers too
_COLORS = ("#3b4cc0", "#e8a7c9", "#5e4b32", "#2f8f4e", "#a6a6a6", "#c9b037")
_FRAME = 48  # px that the window's own frame may take
_SHOWN, _HIDDEN = "shown", "hidden"


class _Row:
    """One class as it is being edited, with a number that no other row of the dialog has, or had before it."""

    def __init__(self, cell_class: CellClass, number: int) -> None:
        self._before = cell_class
        self.number = number
        self.name = QLineEdit(cell_class.name)
        self.name.setMinimumWidth(190)
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
        let_shrink(self.state, 14)
        self.state.setToolTip("Hidden classes are not offered; the cells of a merged class count as the other's")
        self.drop = QPushButton("Remove")
        self.drop.setToolTip("Take this class out again, which was only added just now")
        self.widgets = self.name, self.letter, self.color, self.key, self.group, self.state, self.drop

    def offer(self, others: list[tuple[int, str]]) -> None:
        """Let the class be shown, be hidden, or be merged into any of `others`: their numbers and names."""
        chosen = self.state.currentData() if self.state.count() else self._state_before()
        self.state.clear()
        self.state.addItem(_SHOWN, _SHOWN)
        self.state.addItem(_HIDDEN, _HIDDEN)
        for number, name in others:
            self.state.addItem(f"merged into {name}", number)
        self.state.setCurrentIndex(max(0, self.state.findData(chosen)))
        self.state.view().setMinimumWidth(self.state.view().sizeHintForColumn(0))  # names are whole there

    def _state_before(self) -> str | int:
        return self._before.into if self._before.into >= 0 else _HIDDEN if self._before.hidden else _SHOWN

    def edited(self, rank: Callable[[str], int], places: dict[int, int]) -> CellClass:
        """Return the class as it is now; `rank` gives the severity of a group, `places` where each row's class is."""
        chosen, group = self.state.currentData(), self.group.currentText()
        return replace(
            self._before,
            name=self.name.text(),
            letter=self.letter.text().strip(),
            color=self.hue,
            key=self.key.text().strip(),
            group=group,
            rank=self._before.rank if group == self._before.group else rank(group),
            hidden=chosen == _HIDDEN,
            into=places[chosen] if isinstance(chosen, int) else -1,
        )

    def _ask_color(self) -> None:
        color = QColorDialog.getColor(QColor(self.hue), self.color)
        if color.isValid():
            self._paint(color.name())

    def _paint(self, color: str) -> None:
        self.hue = color
        self.color.setStyleSheet(f"background: {color}; border-radius: 3px;")


class _Rows(QScrollArea):
    """Asks for room for all of its content, and scrolls up and down where there is less."""

    grown = Signal()
    """the content has been laid out anew"""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidgetResizable(True)
        self.setWidget(content)

    def eventFilter(self, target: QObject, event: QEvent) -> bool:
        taken = super().eventFilter(target, event)
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
            self.grown.emit()
        return taken

    def sizeHint(self) -> QSize:
        around = self.size() - self.maximumViewportSize()  # by the style
        return self.widget().sizeHint() + around + QSize(self.verticalScrollBar().sizeHint().width(), 0)

    def minimumSizeHint(self) -> QSize:
        return QSize(self.sizeHint().width(), super().minimumSizeHint().height())


class ClassesDialog(QDialog):
    """Edits the classes of a case; `edited` gives what continues them when the user is done."""

    edited = Signal(object)

    def __init__(self, taxonomy: Taxonomy, parent: QWidget, what_hinders: Callable[[], str]) -> None:
        super().__init__(parent)
        self.setWindowTitle("Classes of cells")
        self._taxonomy, self._what_hinders = taxonomy, what_hinders
        self.rows: list[_Row] = []
        self._made = 0  # rows, also those that were taken out again
        content = QWidget()
        self._grid = QGridLayout(content)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setColumnStretch(0, 1)  # the names have what room there is
        self.scroll = _Rows(content)
        self.scroll.grown.connect(self._fit)
        for column, text in enumerate(("Name", "Letter", "Colour", "Key", "Severity", "")):
            self._grid.addWidget(QLabel(f"<b>{text}</b>"), 0, column)
        for cell_class in taxonomy:
            self._add(cell_class).drop.hide()
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
        layout.addWidget(self.scroll, 1)
        layout.addWidget(self.add_button, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.problem)
        layout.addWidget(buttons)
        self._offer()

    def _add(self, cell_class: CellClass) -> _Row:
        row = _Row(cell_class, self._made)
        self._made += 1
        row.name.editingFinished.connect(self._offer)
        row.drop.clicked.connect(lambda: self._drop(row))
        self.rows.append(row)
        for column, widget in enumerate(row.widgets):
            self._grid.addWidget(widget, self._made, column)
            widget.show()  # else it takes no room yet
        return row

    def _add_new(self) -> None:
        keys, colors = {row.key.text() for row in self.rows}, {row.hue for row in self.rows}
        key = next((key for key in "123456789" if key not in keys), "")
        color = next((color for color in _COLORS if color not in colors), _COLORS[self._made % len(_COLORS)])
        row = self._add(CellClass("", "", color, key, _GROUPS[0], self._rank(_GROUPS[0])))
        self._offer()
        row.name.setFocus()

    def _drop(self, row: _Row) -> None:
        """Take out a class that was added here."""
        self.rows.remove(row)
        for widget in row.widgets:
            self._grid.removeWidget(widget)
            widget.deleteLater()
        self._offer()

    def _fit(self) -> None:
        """Be as large as the classes need, as far as the screen goes, with the field in sight that is written in."""
        room = self.screen().availableGeometry().adjusted(0, 0, 0, -_FRAME)
        width = max(self.width(), self.sizeHint().width())
        height = max(self.height(), self.layout().totalHeightForWidth(width))
        self.resize(QSize(width, height).boundedTo(room.size()))
        self.move(self.x(), max(room.top(), min(self.y(), room.bottom() - self.height())))
        self.scroll.ensureWidgetVisible(self.focusWidget() or self)

    def _offer(self) -> None:
        named = [(row.number, row.name.text().strip()) for row in self.rows]
        for row in self.rows:
            row.offer([(number, name) for number, name in named if number != row.number and name])

    def _rank(self, group: str) -> int:
        return max((c.rank for c in self._taxonomy if c.group == group), default=_GROUPS.index(group))

    def _finish(self) -> None:
        places = {row.number: place for place, row in enumerate(self.rows)}
        try:
            taxonomy = self._taxonomy.edited([row.edited(self._rank, places) for row in self.rows])
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
