"""Many slides, each with its own case: a folder, or a list of slides as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..casefile import Case
from ..errors import CervcellError
from ..files import refuse_database
from ..slides.layers import get_reader
from .models import left_threshold
from .places import known_case
from .session import Session

__all__ = ["Item", "Standing", "Worklist", "WorklistError"]

State = Literal["new", "detected", "in review", "done", "missing", "unreadable"]


class WorklistError(CervcellError):
    """A worklist cannot be read, or there is nothing in it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One slide to review.

    Attributes
    ----------
    slide : Path
    case : Path or None
        Its case file where the list names one; else the case is where cases usually are.
    """

    slide: Path
    case: Path | None = None

    def case_path(self) -> Path | None:
        """Return the case file if there is one yet. Raises SlideError."""
        path = known_case(self.slide) if self.case is None else self.case
        return path if path is not None and os.path.exists(path) else None

    def is_done(self) -> bool:
        """Whether a reviewer has called the case done; not so where it cannot be read."""
        try:
            path = self.case_path()
            if path is None:
                return False
            with Case.open(path) as case:
                return case.done is not None
        except CervcellError:
            return False

    def standing(self) -> Standing:
        """Return how far the case is; a large one takes some seconds."""
        if not os.path.exists(self.slide):
            return Standing("missing", message=f"There is no file {self.slide}.")
        try:
            path = self.case_path()
            if path is None:
                return Standing("new")
            with Case.open(path) as case:
                return Standing.of(Session(None, case, threshold=left_threshold(case)))
        except CervcellError as error:
            return Standing("unreadable", message=str(error))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a case is.

    Attributes
    ----------
    state : str
        "new", "detected", "in review", "done"; "missing" without the slide, "unreadable" where it or the case is bad.
    reviewed, cells : int
        On how many of how many cells something was said.
    opened : str
        When it was last opened for review, UTC, ISO 8601; empty where it never was.
    who : str
        Who has called it done, or else has opened it last.
    message : str
        What is wrong, in words.
    """

    state: State
    reviewed: int = 0
    cells: int = 0
    opened: str = ""
    who: str = ""
    message: str = ""

    @classmethod
    def of(cls, session: Session) -> Standing:
        """Return how far the case of an open session is."""
        counts, case = session.counts(), session.case
        reviewed = sum(count.reviewed + count.rejected for count in counts)
        cells = sum(count.detected + count.rejected for count in counts)
        opened, done = case.opened or ("", ""), case.done
        state: State = "done" if done else "in review" if reviewed else "detected" if case.runs() or cells else "new"
        return cls(state, reviewed, cells, opened[0], done[1] if done else opened[1])


class Worklist:
    """Slides in the order in which they are to be reviewed.

    Parameters
    ----------
    path : Path
        The folder or the CSV file that it was made from.
    items : sequence of Item
    """

    def __init__(self, path: Path, items: Sequence[Item]) -> None:
        self.path = path
        self.items = tuple(items)

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def open(cls, path: str | Path) -> Worklist:
        """Read a worklist: all slides right in a folder, by name, or those that a CSV file names.

        The CSV file has a column ``slide``, and may have a column ``case``; paths count from where it lies. A slide
        that is not there stays on the list, and is said to be missing.

        Raises
        ------
        WorklistError
            Where it cannot be read, or names no slide.
        """
        path = Path(path).absolute()
        try:
            items = _in_folder(path) if path.is_dir() else _in_table(path)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise WorklistError(f"Cannot read the worklist {path}: {error}. Choose a folder or a CSV file.") from None
        if not items:
            raise WorklistError(
                f"There is no slide in {path}. Choose a folder with slides, or a CSV file that names some."
            )
        return cls(path, items)

    def index(self, slide: Path) -> int | None:
        """Return where a slide is on the list, None if it is not."""
        wanted = os.path.abspath(slide)  # links stay what they are: two of them may lead to one file
        return next((i for i, item in enumerate(self.items) if os.path.abspath(item.slide) == wanted), None)

    def next_to_do(self, at: int | None, without: Container[int] = ()) -> int | None:
        """Return the first item after `at` that is there and not done, round again at the end; None where all are.

        The item `at` itself is not one of them, nor are those of `without`.
        """
        start = -1 if at is None else at
        order = [(start + step) % len(self) for step in range(1, len(self) + (at is None))]
        left = (i for i in order if i not in without and os.path.exists(self.items[i].slide))
        return next((i for i in left if not self.items[i].is_done()), None)

    def before(self, at: int | None) -> int | None:
        """Return the item before `at` that is there, done or not; None at the top."""
        return next((i for i in reversed(range(at or 0)) if os.path.exists(self.items[i].slide)), None)


def _in_folder(folder: Path) -> list[Item]:
    files = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name.casefold())
    return [Item(path) for path in files if get_reader(str(path)) is not None]


def _in_table(path: Path) -> list[Item]:
    refuse_database(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = {str(name).strip().casefold(): name for name in reader.fieldnames or ()}
        if "slide" not in names:
            raise WorklistError(f"{path} has no column slide. Its first line must name it, and may name case.")
        items: dict[Path, Item] = {}
        for row in reader:
            slide, case = (str(row[names[n]] or "").strip() if n in names else "" for n in ("slide", "case"))
            if slide:
                where = path.parent / slide
                items.setdefault(where, Item(where, path.parent / case if case else None))
        return list(items.values())
