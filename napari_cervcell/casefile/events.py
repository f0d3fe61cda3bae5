"""Who said what, when: an append-only list of events, and the state of the case as a fold of it.

One call of :meth:`ReviewRecord.record` is one group of events and one step of undo. Undo and redo are events too, so
they survive a restart, and nothing that was ever said is lost.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .store import CaseError, Record, Store, now

__all__ = ["Annotations", "Box", "Event", "Kind", "ReviewRecord", "State", "Verdict"]

Box = Sequence[float] | NDArray[np.floating]
Kind = Literal["accept", "reject", "class", "add"]

_COLUMNS = "time, reviewer, kind, cell, x1, y1, x2, y2, label, detected_label, score, model_id, group_id, target, drawn"
_FOLDED = np.dtype(
    [
        ("id", "i8"),
        ("kind", "U6"),
        ("cell", "i8"),
        ("box", "f4", (4,)),
        ("label", "i2"),
        ("detected_label", "i2"),
        ("score", "f4"),
        ("group", "i8"),
        ("model", "U12"),  # ids of models are 12 hex digits
        ("drawn", "?"),
    ]
)


class State(IntEnum):
    """What the reviewer has said of a cell."""

    ACCEPTED = 1
    """A cell, of the class that was detected."""
    CORRECTED = 2
    """A cell, of another class than was detected."""
    REJECTED = 3
    """Not a cell."""
    ADDED = 4
    """A cell that no model had found."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer says of one cell.

    Attributes
    ----------
    kind : {"accept", "reject", "class", "add"}
    box : sequence of 4 floats
        (x1, y1, x2, y2) in level-0 pixels.
    label : int
        The class given, an index in the taxonomy of the case; -1 where a rejected cell has none.
    cell : int, optional
        The id of the annotation that the verdict is about; a new annotation without.
    detected_label : int
        The class that the model gave; -1 where no model found the cell. With `cell` and -1, what is known of that
        cell stays.
    score : float
        The model's score; NaN without one.
    model_id : str
        The model that found the cell, or did not find the one added.
    drawn : bool
        Whether the cell was asked about because it was drawn at random.
    """

    kind: Kind
    box: Box
    label: int
    cell: int | None = None
    detected_label: int = -1
    score: float = math.nan
    model_id: str = ""
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit trail. `kind` is a verdict's, or "check", "undo", "redo", "round", "done", "reopen".

    `group` is the id of the first event of the same undo step (0: not to be undone); `target` the group that an undo
    or redo is about, or the round whose model is used from then on (0: the shipped model);
    `drawn` is 1 where a cell was asked about because it was drawn at random, and None from before that was noted.
    """

    id: int
    time: str
    reviewer: str
    kind: str
    cell: int
    box: tuple[float, float, float, float]
    label: int
    detected_label: int
    score: float
    model_id: str
    group: int
    target: int
    drawn: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """The cells that a reviewer has spoken of, as parallel read-only arrays in order of id.

    A case gives the same object until something is said: equal are only those that are one.

    Attributes
    ----------
    ids : int64 (n,)
        Never used twice in a case.
    boxes : float32 (n, 4)
        (x1, y1, x2, y2) in level-0 pixels.
    labels : int16 (n,)
        The class that counts; -1 possible where rejected.
    states : int8 (n,)
        :class:`State`.
    detected_labels : int16 (n,)
        The class that the model gave, -1 where none did.
    scores : float32 (n,)
        The model's score, NaN where there is none.
    model_ids : str (n,)
        The model that the first verdict on the cell put to the test; later ones may have learnt from that verdict.
        Empty where it is not known.
    drawn : bool (n,)
        Whether that verdict was asked for because the cell was drawn at random.
    answered : str (n,)
        The model that the newest verdict on the cell answered. Empty where it is not known.
    events : int64 (n,)
        The id of the event that is the newest verdict on the cell: the greater, the newer.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int16]
    states: NDArray[np.int8]
    detected_labels: NDArray[np.int16]
    scores: NDArray[np.float32]
    model_ids: NDArray[np.str_]
    drawn: NDArray[np.bool_]
    answered: NDArray[np.str_]
    events: NDArray[np.int64]

    def __getitem__(self, which: Any) -> Annotations:
        """Return the annotations picked by a slice, a mask or an index array."""
        return Annotations(*(getattr(self, f.name)[which] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.ids)


class Fold:
    """The state of a case after its events so far; never changed, :meth:`then` gives the next one."""

    def __init__(self, rows: NDArray[np.void], done: list[int], undone: list[int]) -> None:
        self.rows = rows
        self.done = done  # groups in force, oldest first
        self.undone = undone  # groups that redo brings back, the next one last

    @property
    def last(self) -> int:
        """The id of the newest event, 0 without any."""
        return int(self.rows["id"][-1]) if len(self.rows) else 0

    def then(self, events: list[tuple[object, ...]]) -> Fold:
        """Return the state after further `events`, tuples in the order of the fields of ``_FOLDED``."""
        rows = np.array(events, _FOLDED)
        done, undone = self.done.copy(), self.undone.copy()
        for kind, group in zip(rows["kind"].tolist(), rows["group"].tolist(), strict=True):
            if kind == "undo":
                undone.append(done.pop())
            elif kind == "redo":
                done.append(undone.pop())
            elif group and done[-1:] != [group]:
                done.append(group)
                undone.clear()
        return Fold(np.concatenate([self.rows, rows]), done, undone)

    @cached_property
    def _in_force(self) -> NDArray[np.void]:
        return self.rows[np.isin(self.rows["group"], self.done)]

    @cached_property
    def annotations(self) -> Annotations:
        verdicts = self._in_force[self._in_force["cell"] > 0]
        ids, oldest = np.unique(verdicts["cell"], return_index=True)  # takes the first of each
        _, newest = np.unique(verdicts["cell"][::-1], return_index=True)
        rows, first = verdicts[::-1][newest], verdicts[oldest]
        label, detected = rows["label"], rows["detected_label"]
        states = np.select(
            [rows["kind"] == "reject", detected < 0, label == detected],
            [State.REJECTED, State.ADDED, State.ACCEPTED],
            State.CORRECTED,
        )
        models = first["model"], first["drawn"], rows["model"]
        columns = (ids, rows["box"], label, states.astype(np.int8), detected, rows["score"], *models, rows["id"])
        arrays = [np.ascontiguousarray(column) for column in columns]
        for array in arrays:
            array.flags.writeable = False
        return Annotations(*arrays)

    def reviewed_after(self, event: int) -> int:
        cells = self._in_force["cell"][self._in_force["id"] > event]
        return len(np.unique(cells[cells > 0]))

    @cached_property
    def checked(self) -> NDArray[np.float32]:
        boxes = np.ascontiguousarray(self._checks["box"])
        boxes.flags.writeable = False
        return boxes

    @property
    def checked_models(self) -> NDArray[np.str_]:
        models: NDArray[np.str_] = self._checks["model"]
        return models

    @cached_property
    def _checks(self) -> NDArray[np.void]:
        checks: NDArray[np.void] = self._in_force[self._in_force["kind"] == "check"]
        return checks


class ReviewRecord(Record):
    """The part of a case that the reviewer writes."""

    def __init__(self, store: Store, reviewer: str) -> None:
        super().__init__(store, reviewer)
        self._forget()

    def _forget(self) -> None:
        """Fold all events anew at the next look: their classes may count as others now."""
        self._fold = Fold(np.zeros(0, _FOLDED), [], [])

    def record(self, verdicts: Sequence[Verdict]) -> list[int]:
        """Save `verdicts`, all or none and as one step of undo; they are on disk on return.

        Returns
        -------
        list of int
            The id of the annotation that each verdict made or changed.

        Raises
        ------
        CaseError
            Where it cannot be saved, or a verdict is about a cell that is no longer in the case.
        ValueError
            Where a box is not four finite numbers in order, or a class is not in the taxonomy.
        """
        boxes = [self._checked_box(v.box) for v in verdicts]
        for verdict in verdicts:
            least = -1 if verdict.kind == "reject" else 0
            classes = len(self._taxonomy)
            if not (least <= verdict.label < classes and -1 <= verdict.detected_label < classes):
                raise ValueError(f"not a class of this case, which has {classes}: {verdict}")
        if not verdicts:
            return []
        with self._store.transaction() as connection:
            fold = self._now(connection)
            group = fold.last + 1
            cells, rows = [], []
            for event, (verdict, box) in enumerate(zip(verdicts, boxes, strict=True), start=group):
                cell, detected, score = event, int(verdict.detected_label), float(verdict.score)
                if verdict.cell is not None:
                    known = fold.annotations
                    cell, row = int(verdict.cell), int(np.searchsorted(known.ids, verdict.cell))
                    if row == len(known) or known.ids[row] != cell:
                        raise CaseError(f"Cell {cell} is no longer in {self._store.path}. Nothing was saved; reload.")
                    if detected < 0:
                        detected, score = int(known.detected_labels[row]), float(known.scores[row])
                elif verdict.kind == "accept" and detected < 0:
                    detected = int(verdict.label)  # to accept is to say that it was detected as this
                label = int(verdict.label)
                rows.append(
                    (verdict.kind, cell, *box, label, detected, score, verdict.model_id, group, 0, int(verdict.drawn))
                )
                cells.append(cell)
            append_events(connection, self.reviewer, rows)
        return cells

    def check_region(self, box: Box, model_id: str = "") -> int:
        """Save that every cell in `box` (level-0 pixels) is marked; return the id of the region. Raises CaseError.

        `model_id` is the model whose detections the reviewer saw there.
        """
        region = self._checked_box(box)
        with self._store.transaction() as connection:
            group = self._now(connection).last + 1
            append_events(connection, self.reviewer, [("check", 0, *region, -1, -1, None, model_id, group, 0, 0)])
        return group

    @property
    def done(self) -> tuple[str, str] | None:
        """When the case was called done (UTC, ISO 8601) and by whom; None where it is not. Raises CaseError."""
        with self._store.access() as connection:
            newest = connection.execute(
                "SELECT kind, time, reviewer FROM events WHERE kind IN ('done', 'reopen') ORDER BY id DESC LIMIT 1"
            ).fetchone()
        return None if newest is None or newest[0] != "done" else (str(newest[1]), str(newest[2]))

    def set_done(self, done: bool) -> None:
        """Say that the case is done, or that it is not after all; undo passes this by. Raises CaseError."""
        with self._store.transaction() as connection:
            append_events(
                connection, self.reviewer, [("done" if done else "reopen", 0, 0, 0, 0, 0, -1, -1, None, "", 0, 0, 0)]
            )

    def undo(self) -> bool:
        """Take back the newest step; return whether there was one. Raises CaseError."""
        return self._step("undo")

    def redo(self) -> bool:
        """Bring back the step undone last; return whether there was one. Raises CaseError."""
        return self._step("redo")

    @property
    def can_undo(self) -> bool:
        return bool(self._present().done)

    @property
    def can_redo(self) -> bool:
        return bool(self._present().undone)

    def annotations(self) -> Annotations:
        """Return what the reviewers have said up to now, in this process or in another. Raises CaseError."""
        return self._present().annotations

    def checked_regions(self) -> NDArray[np.float32]:
        """Return float32 (m, 4), the boxes in which all that is not marked is no cell. Raises CaseError."""
        return self._present().checked

    def checked_models(self) -> NDArray[np.str_]:
        """Return str (m,), the model that each checked region put to the test, empty where not known."""
        return self._present().checked_models

    def events(self, after: int = 0) -> list[Event]:
        """Return the audit trail, oldest first, from behind the event with the id `after`. Raises CaseError."""
        sql = f"SELECT id, {_COLUMNS} FROM events WHERE id > ? ORDER BY id"
        with self._store.access() as connection:
            rows = connection.execute(sql, (after,)).fetchall()
        return [
            # SQLite has no NaN: it keeps NULL
            Event(
                i, time, who, kind, cell, (x1, y1, x2, y2), label, detected, math.nan if score is None else score, *rest
            )
            for i, time, who, kind, cell, x1, y1, x2, y2, label, detected, score, *rest in rows
        ]

    @property
    def newest_event(self) -> int:
        """The id of the newest event, 0 without any. Raises CaseError."""
        return self._present().last

    def reviewed_after(self, event: int) -> int:
        """Return of how many cells, new ones or not, something was said after the event with the id `event` that
        stands. Raises CaseError."""
        return self._present().reviewed_after(event)

    def _step(self, kind: Literal["undo", "redo"]) -> bool:
        with self._store.transaction() as connection:
            fold = self._now(connection)
            steps = fold.done if kind == "undo" else fold.undone
            if steps:
                append_events(connection, self.reviewer, [(kind, 0, 0, 0, 0, 0, -1, -1, None, "", 0, steps[-1], 0)])
            return bool(steps)

    def _present(self) -> Fold:
        with self._store.access() as connection:
            return self._now(connection)

    def _now(self, connection: sqlite3.Connection) -> Fold:
        """Bring the fold and the classes up to date, with what other processes wrote too. Only ever called before a
        write: what is folded has been committed."""
        new = connection.execute(
            "SELECT id, kind, cell, x1, y1, x2, y2, label, detected_label, score, group_id, model_id, "
            "drawn FROM events WHERE id > ? ORDER BY id",
            (self._fold.last,),
        ).fetchall()
        taxonomy = self._stored_taxonomy()  # after the events: those may speak of a class that was added just before
        if taxonomy != self._taxonomy:
            self._taxonomy = taxonomy
            self._forget()
            return self._now(connection)
        if new:
            labels = self._taxonomy.merged(np.array([row[7:9] for row in new])).tolist()
            self._fold = self._fold.then(
                [(*row[:3], row[3:7], *pair, *row[9:]) for row, pair in zip(new, labels, strict=True)]
            )
        return self._fold

    @staticmethod
    def _checked_box(box: Box) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = (float(v) for v in box)
        if not (math.isfinite(x1 + y1 + x2 + y2) and x1 <= x2 and y1 <= y2):
            raise ValueError(f"not a box (x1, y1, x2, y2): {(x1, y1, x2, y2)}")
        return x1, y1, x2, y2


def append_events(connection: sqlite3.Connection, reviewer: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Insert events inside the transaction that `connection` is in; `rows` start at the kind."""
    time = now()
    sql = f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    connection.executemany(sql, [(time, reviewer, *row) for row in rows])
