"""A reviewer's verdicts from a file, for scripts: where, and which class or "reject"."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..casefile import State
from ..errors import CervcellError
from ..files import refuse_database

if TYPE_CHECKING:
    from .session import Session

__all__ = ["REJECT", "ClassesChanged", "Imported", "ReviewError", "assign", "read_verdicts", "resolve"]

REJECT = "reject"


class ReviewError(CervcellError):
    """Something that a reviewer asked for cannot be done."""


class ClassesChanged(ReviewError):
    """Another process has changed the classes of the case; what was asked for was not done.

    :meth:`Session.reload` goes on with the new ones.
    """

    def __init__(self) -> None:
        super().__init__(
            "Another window has changed the classes of this case: they are shown as they are now. "
            "A verdict that you were just giving is not saved: give it again."
        )


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: how many cells it accepted, corrected, rejected and added; `same` said nothing new."""

    accepted: int
    corrected: int
    rejected: int
    added: int
    same: int

    @classmethod
    def of(cls, states: NDArray[np.int8], same: int) -> Imported:
        """Count the states that the cells have now of which something new was said."""
        accepted, corrected, rejected, added = np.bincount(states, minlength=len(State) + 1)[1:].tolist()
        return cls(accepted, corrected, rejected, added, same)


def read_verdicts(path: str | Path) -> list[tuple[float, float, str]]:
    """Read (x, y, class or ``"reject"``) from a CSV file with the columns x, y and class; other columns do not matter,
    but for "state", which what was exported from a case has: what of it is a verdict only an import can tell.

    Raises
    ------
    ReviewError
        Names the file and the line.
    """
    refuse_database(Path(path))
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = {str(name).strip().casefold(): name for name in reader.fieldnames or ()}
            missing = [name for name in ("x", "y", "class") if name not in names]
            if missing:
                raise ReviewError(
                    f"{path} has no column {', '.join(missing)}. Its first line must name x, y and class."
                )
            if "state" in names:
                raise ReviewError(
                    f"{path} has a column state, as cells exported from a case have: not all of them are verdicts. "
                    "Bring it in with cervcell import, or leave that column out. Nothing was imported."
                )
            rows = []
            for row in reader:
                x, y, what = (str(row[names[name]] or "").strip() for name in ("x", "y", "class"))
                try:
                    rows.append((float(x), float(y), what))
                except ValueError:
                    raise ReviewError(
                        f"{path}, line {reader.line_num}: x and y must be numbers, not {x!r} and {y!r}. "
                        "Nothing was imported."
                    ) from None
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReviewError(
            f"Cannot read {path}: {error}. It must be a CSV file with the columns x, y and class."
        ) from None


def resolve(session: Session, rows: Iterable[tuple[float, float, str]]) -> dict[tuple[float, float], int | None]:
    """Return for each place the class index, None for a rejection; of two rows on one place the later one counts.

    Raises ReviewError where a place is outside the slide or a class is not in the taxonomy of the case.
    """
    case = session.case
    verdicts: dict[tuple[float, float], int | None] = {}
    for number, (x, y, what) in enumerate(rows, start=1):
        if not (math.isfinite(x + y) and 0 <= x < case.width and 0 <= y < case.height):
            raise ReviewError(
                f"Verdict {number} is at ({x:g}, {y:g}), outside the slide, which is {case.width} x {case.height} px. "
                "Nothing was imported."
            )
        try:
            label = None if what.strip().casefold() == REJECT else case.taxonomy.index(what)
        except KeyError as error:
            raise ReviewError(f"Verdict {number}: {error.args[0]} (or {REJECT}). Nothing was imported.") from None
        verdicts[x, y] = label
    return verdicts


def assign(session: Session, places: Iterable[tuple[float, float]], reach: float) -> list[int | None]:
    """Return for each place the row of the present cell that it is about: one to one, the nearest pairs first."""
    points = list(places)
    pairs: list[tuple[float, int, int]] = []
    for i, (x, y) in enumerate(points):
        near = session.index.within(x - reach, y - reach, x + reach, y + reach)
        near = near[session.states[near] >= 0]
        distances = np.hypot(*(session.index.points[near] - np.array([x, y], np.float32)).T)
        pairs += [(d, i, row) for d, row in zip(distances.tolist(), near.tolist(), strict=True) if d <= reach]
    rows: list[int | None] = [None] * len(points)
    taken: set[int] = set()
    for _, i, row in sorted(pairs):
        if rows[i] is None and row not in taken:
            rows[i] = row
            taken.add(row)
    return rows
