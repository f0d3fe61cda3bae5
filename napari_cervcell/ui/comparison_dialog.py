"""What appeared and what vanished from one model to the next, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from superqt.utils import create_worker

from ..review.comparison import Comparison, compare
from ..review.models import name_of
from .cell_list import CellList
from .view import CLOSE_UP

if TYPE_CHECKING:
    from ..casefile import Round
    from ..cells import Cells
    from .desk import Desk

__all__ = ["ComparisonDialog"]


class ComparisonDialog(QDialog):
    """Compares a round with the model that it began from; a click on a cell leads to it. The window goes on."""

    def __init__(self, desk: Desk, round_: Round, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"{name_of(round_)} and the model before")
        self._desk = desk
        self.told = QLabel("Comparing …")
        self.told.setWordWrap(True)
        lists = QHBoxLayout()
        self.lists: dict[str, CellList] = {}
        for name, tip in (("appeared", "Only this round finds them"), ("vanished", "Only the model before found them")):
            column = QVBoxLayout()
            self.lists[name] = made = CellList(desk.slide, desk.session.taxonomy)
            made.setToolTip(f"{tip}; the surest first. A click leads to the cell.")
            column.addWidget(QLabel(name.capitalize()))
            column.addWidget(made)
            lists.addLayout(column)
        layout = QVBoxLayout(self)
        layout.addWidget(self.told)
        layout.addLayout(lists, 1)
        self.resize(460, 560)
        desk.closing.connect(self.close)
        threshold = desk.session.threshold
        case = desk.case
        worker = create_worker(
            lambda: compare(case, round_.parent_model_id, round_.model_id, threshold),
            _start_thread=False,
            _ignore_errors=True,
        )
        worker.returned.connect(self._show)
        worker.errored.connect(self._fail)
        worker.start()

    def _fail(self, error: Exception) -> None:
        self.told.setText(str(error))

    def _show(self, found: Comparison) -> None:
        self.told.setText(
            f"Where both have looked, of those shown: {len(found.appeared):,} new, {len(found.vanished):,} gone."
        )
        for name, cells in (("appeared", found.appeared), ("vanished", found.vanished)):
            made = self.lists[name]
            made.show_cells(cells)
            made.currentRowChanged.connect(lambda row, cells=cells: self._go_to(cells, row))

    def _go_to(self, cells: Cells, row: int) -> None:
        box = cells.boxes[row]
        self._desk.view.go_to(box, CLOSE_UP)
        x, y = cells.centres[row].tolist()
        session = self._desk.session
        session.select(session.at(x, y, float(box[2] - box[0]) / 2))
