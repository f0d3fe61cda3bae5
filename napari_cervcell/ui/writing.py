"""Files that are made of the open case: written in the background, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from ..casefile import Case, export_case
from ..review import Report

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["Writing"]


class Writing(QObject):
    """Writes what the case holds by now; the reviewer goes on meanwhile, also to another slide.

    Attributes
    ----------
    running : str
        Which file is being written, in words; empty where none is.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._desk = desk
        self.running = ""

    def report(self, path: Path) -> None:
        """Write what the case has come to, for people, to `path`."""
        slide = self._desk.slide
        with self._desk.guard():
            report = Report.of(self._desk.session)
            self._write(path, lambda: report.write(slide, path), f"The report is in {path}.")

    def export(self, path: Path, form: str) -> None:
        """Write all cells to `path`; `form` is one of those that :func:`export_case` knows."""
        place = self._desk.case.path

        def write() -> int:
            with Case.open(place) as case:  # a connection of its own: the slide may be closed meanwhile
                return export_case(case, path, form)

        self._write(path, write, f"Exported to {path}.")

    def _write(self, path: Path, write: Callable[[], Any], words: str) -> None:
        """Call `write`, which makes the file `path`, and say `words` when it is there."""
        if self.running:
            self._desk.failed.emit(f"{self.running}. Wait for it to end, then write {path.name}.")
            return
        self.running = f"{path.name} is still being written"
        self.changed.emit()
        self._desk.said.emit(f"{path} is being written. You can go on meanwhile.")
        self._desk.in_background(write, lambda _: self._desk.said.emit(words), self._end)

    def _end(self) -> None:
        self.running = ""
        self.changed.emit()
