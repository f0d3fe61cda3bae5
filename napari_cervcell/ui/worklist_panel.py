"""The Worklist panel: many slides, how far each is, and the way from one to the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QHBoxLayout, QHeaderView, QTableView, QVBoxLayout, QWidget
from superqt import QElidingLabel
from superqt.utils import create_worker

from ..review.worklist import Item, Standing, Worklist
from .parts import Button

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["WorklistPanel"]

_SIGNS = {"new": "○", "detected": "◔", "in review": "◑", "done": "✓", "missing": "!", "unreadable": "!"}
_HEADS = ("", "Slide", "Cells", "Opened")
_NONE = 'No worklist yet. Open a folder of slides, or a CSV file with a column "slide".'


class WorklistPanel(QWidget):
    """Lists slides, and asks for one of them to be opened. How far each is, is looked up in a thread."""

    wanted = Signal(object)
    """the :class:`Item` to open"""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._worker: Any = None
        self._asked: int | None = None  # the row that was asked for last
        self._failed: set[int] = set()  # rows that could not be opened
        self.worklist: Worklist | None = None
        self.table = _Table()
        self.view = QTableView()
        self.view.setModel(self.table)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.view.setShowGrid(False)
        self.view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.view.setWordWrap(False)
        self.view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.view.verticalHeader().hide()
        self.view.verticalHeader().setDefaultSectionSize(26)
        header = self.view.horizontalHeader()
        header.setHighlightSections(False)
        header.setMinimumSectionSize(20)
        for column, mode in enumerate("FSCC"):
            header.setSectionResizeMode(column, _MODES[mode])
        self.view.setColumnWidth(0, 22)
        self.view.setToolTip("Double-click a slide, or press enter, to open it with its own case.")
        self.view.activated.connect(lambda index: self.go_to(index.row()))
        self.told = QElidingLabel(_NONE)
        self.told.setWordWrap(True)
        self.previous = Button("Previous case", "The slide before on the list.", "previous", "<")
        self.next = Button("Next case", "The next slide on the list that is not done.", "next", ">")
        self.previous.clicked.connect(self.go_back)
        self.next.clicked.connect(self.go_on)
        self.open_folder = Button("Open a folder …", "All slides in a folder become the worklist.", "open")
        self.open_list = Button("Open a list …", 'A CSV file whose column "slide" names the slides.', "open")
        self.open_folder.clicked.connect(self.ask_for_folder)
        self.open_list.clicked.connect(self._ask_for_list)
        ways, opens = QHBoxLayout(), QHBoxLayout()
        for row, buttons in ((ways, (self.previous, self.next)), (opens, (self.open_folder, self.open_list))):
            for button in buttons:
                row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addWidget(self.told)
        layout.addLayout(ways)
        layout.addWidget(self.view, 1)
        layout.addLayout(opens)
        desk.opened.connect(self._opened)
        desk.done_changed.connect(self.refresh)
        desk.closed.connect(self._show_place)
        self._show_place()

    # ----------------------------------------------------------------------------------------------- the list

    def ask_for_folder(self) -> None:
        """Let the user choose a folder."""
        self._open_chosen(QFileDialog.getExistingDirectory(self, "Open a folder of slides"))

    def _ask_for_list(self) -> None:
        self._open_chosen(QFileDialog.getOpenFileName(self, "Open a worklist", "", "Worklists (*.csv)")[0])

    def _open_chosen(self, path: str) -> None:
        if path:
            self.open(Path(path))

    def open(self, path: Path) -> None:
        """Show a worklist, and ask for its first slide that is not done, unless one of its slides is open."""
        with self._desk.guard():
            self.show_list(Worklist.open(path))

    def show_list(self, worklist: Worklist) -> None:
        """Show a worklist that was read, as :meth:`open` does."""
        self.worklist = worklist
        self._asked, self._failed = None, set()
        self.table.set_items(worklist.items)
        self._look_up()
        self._show_place()
        self.refresh()
        if self.at is None:
            self.go_on()

    def _look_up(self) -> None:
        """Look up how far every case is."""
        self.stop()
        items = self.worklist.items

        def look() -> Iterator[tuple[int, Standing]]:
            for i, item in enumerate(items):
                yield i, item.standing()

        self._worker = create_worker(look, _start_thread=False)
        self._worker.yielded.connect(self._take)
        self._worker.start()

    def _take(self, found: tuple[int, Standing]) -> None:
        row, _ = found
        # of the case that is open, the session knows better; who has tried to open one, too
        if row not in self._failed and (self._desk.session is None or row != self.at):
            self.table.set_standing(*found)
            self._tell()

    def stop(self) -> None:
        """Look nothing up any more."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.yielded.disconnect()
            worker.quit()

    # ----------------------------------------------------------------------------------------- where one is

    @property
    def at(self) -> int | None:
        """Where the slide that is open is on the list."""
        slide = self._desk.slide
        return None if slide is None or self.worklist is None else self.worklist.index(slide.path)

    def go_on(self) -> None:
        """Ask for the next slide that is not done."""
        if self.worklist is not None:
            following = self.worklist.next_to_do(self._asked if self.at is None else self.at, self._failed)
            if following is not None:
                self.go_to(following)
            elif self.table.lost:
                self._desk.said.emit("All other cases are done, but for those marked !, which cannot be opened.")
            else:
                self._desk.said.emit("All other cases of the worklist are done.")

    def go_back(self) -> None:
        """Ask for the slide before."""
        if self.worklist is not None and (before := self.worklist.before(self.at)) is not None:
            self.go_to(before)

    def go_to(self, row: int) -> None:
        """Ask for one of the slides, and mark it where that fails."""
        if row == self.at:
            return
        item, told = self.worklist.items[row], list[str]()
        self._asked = row
        self._desk.failed.connect(told.append)
        self.wanted.emit(item)
        self._desk.failed.disconnect(told.append)
        if told and row != self.at:
            self._failed.add(row)
            what = "unreadable" if os.path.exists(item.slide) else "missing"
            self.table.set_standing(row, Standing(what, message=told[0]))
            self._tell()

    def _opened(self) -> None:
        self._failed.discard(self.at)
        self._desk.session.counts_changed.connect(self.refresh)
        self._show_place()
        self.refresh()

    def refresh(self) -> None:
        """Show how far the case that is open is now."""
        session = self._desk.session
        if session is not None and (at := self.at) is not None:
            self.table.set_standing(at, Standing.of(session))
            self._tell()

    def _show_place(self) -> None:
        at = self.at
        self.table.set_open(at)
        if at is None:
            self.view.clearSelection()
        else:
            self.view.selectRow(at)
        self.previous.setEnabled(self.worklist is not None and self.worklist.before(at) is not None)
        self.next.setEnabled(self.worklist is not None)
        self._tell()

    def _tell(self) -> None:
        if self.worklist is None:
            return
        done, there = self.table.done, len(self.worklist)
        place = "" if self.at is None else f"{self.at + 1} of {there:,} · "
        self.told.setText(f"{self.worklist.path.name}: {place}{done:,} of {there:,} done")
        self.told.setToolTip(str(self.worklist.path))


_MODES = {
    "F": QHeaderView.ResizeMode.Fixed,
    "S": QHeaderView.ResizeMode.Stretch,
    "C": QHeaderView.ResizeMode.ResizeToContents,
}


class _Table(QAbstractTableModel):
    """The items of a worklist and how far each is, as rows."""

    def __init__(self) -> None:
        super().__init__()
        self._items: tuple[Item, ...] = ()
        self._standings: dict[int, Standing] = {}
        self._open: int | None = None

    def set_items(self, items: tuple[Item, ...]) -> None:
        self.beginResetModel()
        self._items, self._standings, self._open = items, {}, None
        self.endResetModel()

    def set_standing(self, row: int, standing: Standing) -> None:
        self._standings[row] = standing
        self.dataChanged.emit(self.index(row, 0), self.index(row, len(_HEADS) - 1))

    def set_open(self, row: int | None) -> None:
        """Note which slide is the open one."""
        self._open = row
        if self._items:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._items) - 1, len(_HEADS) - 1))

    def standing(self, row: int) -> Standing | None:
        """Return how far a case is, None while that is not known."""
        return self._standings.get(row)

    @property
    def lost(self) -> bool:
        """Whether any slide or case is known to be missing or unreadable."""
        return any(_SIGNS[standing.state] == "!" for standing in self._standings.values())

    @property
    def done(self) -> int:
        """How many cases are known to be done."""
        return sum(standing.state == "done" for standing in self._standings.values())

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._items)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return len(_HEADS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _HEADS[section]
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        item, standing = self._items[index.row()], self._standings.get(index.row())
        if role == Qt.ItemDataRole.DisplayRole:
            return _texts(item, standing)[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return _tip(item, standing)
        if role == Qt.ItemDataRole.FontRole and index.row() == self._open:
            bold = QFont()
            bold.setBold(True)
            return bold
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 0:
            return Qt.AlignmentFlag.AlignCenter
        return None


def _texts(item: Item, standing: Standing | None) -> tuple[str, str, str, str]:
    if standing is None:
        return "…", item.slide.name, "", ""
    cells = {
        "detected": f"{standing.cells:,}",
        "in review": f"{standing.reviewed:,} of {standing.cells:,}",
        "done": f"{standing.reviewed:,} of {standing.cells:,}",
    }.get(standing.state, standing.state)
    opened = f"{datetime.fromisoformat(standing.opened).astimezone():%d %b %H:%M}" if standing.opened else ""
    return _SIGNS[standing.state], item.slide.name, cells, opened


def _tip(item: Item, standing: Standing | None) -> str:
    if standing is None:
        return str(item.slide)
    words = {
        "new": "Nobody has looked for cells yet.",
        "detected": f"{standing.cells:,} cells were found, none is reviewed.",
        "in review": f"{standing.reviewed:,} of {standing.cells:,} cells are reviewed.",
        "done": f"{standing.who} has called it done; {standing.reviewed:,} of {standing.cells:,} cells are reviewed.",
    }.get(standing.state, standing.message)
    return f"{item.slide}\n{words}"
