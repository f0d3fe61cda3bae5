"""The rounds of learning of a case: what each made, and which model is in use."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .events import append_events
from .store import CaseError, Record, now

__all__ = ["Round", "RoundRecord", "RoundState"]

RoundState = Literal["promoted", "candidate", "cancelled", "failed"]

_IN_USE = "It is now in use."
_OTHER_CHOSEN = (
    "Meanwhile another model was chosen, and stays in use. This one can be put in use from the list of rounds."
)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of learning, without its model; `state` is a :data:`RoundState`, or "running" until it is finished.

    `reviewer` is who began it, empty where that was not yet noted.
    """

    id: int
    started: str
    finished: str | None
    parent_model_id: str
    settings: dict[str, Any]
    state: str
    metrics: dict[str, Any]
    model_id: str
    message: str
    reviewer: str
    has_model: bool

    @property
    def brought_in(self) -> bool:
        """Whether its model came from a file, and nothing was learnt here."""
        return "imported" in self.settings


class RoundRecord(Record):
    """The part of a case that learning writes."""

    def start_round(self, parent_model_id: str, settings: Mapping[str, Any]) -> int:
        """Begin a round from the model `parent_model_id`; return its id. Raises CaseError.

        One that learns from the case says in its `settings` up to which event, by its id: ``"events"``.
        """
        with self._store.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO rounds (started, parent_model_id, settings, reviewer) VALUES (?, ?, ?, ?)",
                (now(), parent_model_id, json.dumps(dict(settings)), self.reviewer),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def finish_round(
        self,
        round_id: int,
        state: RoundState,
        metrics: Mapping[str, Any] | None = None,
        model: bytes | None = None,
        model_id: str = "",
        message: str = "",
    ) -> tuple[RoundState, str]:
        """Note how a round ended, with the model that it made; return the state and the message that were noted.

        A promoted model is in use from then on, as the message then says: unless somebody chose another model while the
        round was on its way. What a person chose stays, and the new model is a candidate.

        A round ends once: raises CaseError where it has ended already (say that it was cancelled just as it was done),
        and where it cannot be saved.
        """
        if state not in get_args(RoundState):
            raise ValueError(f"a round cannot end as {state!r}")
        if state == "promoted" and model is None:
            raise ValueError("a promoted round needs a model")
        with self._store.transaction() as connection:
            if state == "promoted":
                if not self._parent_in_use(connection, round_id):
                    state = "candidate"
                message = f"{message} {_IN_USE if state == 'promoted' else _OTHER_CHOSEN}".strip()
            changed = connection.execute(
                "UPDATE rounds SET finished = ?, state = ?, metrics = ?, model = ?, model_id = ?, message = ? "
                "WHERE id = ? AND state = 'running'",
                (now(), state, json.dumps(dict(metrics or {})), model, model_id, message, round_id),
            )
            if not changed.rowcount:
                raise CaseError(f"Round {round_id} of {self._store.path} is not running: it has ended before.")
            if state == "promoted":
                append_events(connection, self.reviewer, [_in_use(round_id)])
        return state, message

    def rounds(self) -> list[Round]:
        """Return all rounds, oldest first. Raises CaseError."""
        with self._store.access() as connection:
            rows = connection.execute(
                "SELECT id, started, finished, parent_model_id, settings, state, metrics, model_id, message, "
                "COALESCE(reviewer, ''), model IS NOT NULL FROM rounds ORDER BY id"
            ).fetchall()
        return [
            Round(
                i,
                started,
                finished,
                parent,
                json.loads(settings),
                state,
                json.loads(metrics),
                name,
                text,
                who,
                bool(has),
            )
            for i, started, finished, parent, settings, state, metrics, name, text, who, has in rows
        ]

    @property
    def learnt_up_to(self) -> int:
        """The id of the newest event that the last round to learn a model from the case knew, 0 before the first one.

        Raises CaseError.
        """
        learnt = [r.settings["events"] for r in self.rounds() if r.has_model and "events" in r.settings]
        return int(learnt[-1]) if learnt else 0

    def round_model(self, round_id: int) -> bytes:
        """Return the model file that a round made. Raises CaseError where it made none."""
        return self._round(round_id)[1]

    @property
    def active_round(self) -> int | None:
        """The round whose model is in use: the one promoted or chosen last; None for the shipped model."""
        with self._store.access() as connection:
            return _active(connection) or None

    def active_model(self) -> tuple[str, bytes] | None:
        """Return (model_id, model file) of the model in use, None for the shipped one. Raises CaseError."""
        active = self.active_round
        return None if active is None else self._round(active)

    def use_round(self, round_id: int | None) -> None:
        """Use the model of a round from now on, or the shipped model (None).

        Raises CaseError where the round made no model.
        """
        if round_id is not None:
            self._round(round_id)
        with self._store.transaction() as connection:
            append_events(connection, self.reviewer, [_in_use(round_id or 0)])

    def round_before(self, round_id: int) -> int | None:
        """Return the round whose model the given one began from; None where that was the shipped model."""
        earlier = [r for r in self.rounds() if r.id <= round_id]
        parent = earlier[-1].parent_model_id
        return next((r.id for r in reversed(earlier[:-1]) if r.has_model and r.model_id == parent), None)

    @staticmethod
    def _parent_in_use(connection: sqlite3.Connection, round_id: int) -> bool:
        """Say whether the model in use is the one that a round began from."""
        made = connection.execute(
            "SELECT m.id FROM rounds r JOIN rounds m ON m.model_id = r.parent_model_id AND m.model IS NOT NULL "
            "WHERE r.id = ?",
            (round_id,),
        ).fetchall()
        return (_active(connection),) in (made or [(0,)])  # made by no round: the shipped one

    def _round(self, round_id: int) -> tuple[str, bytes]:
        with self._store.access() as connection:
            row = connection.execute("SELECT model_id, model FROM rounds WHERE id = ?", (round_id,)).fetchone()
        if row is None or row[1] is None:
            raise CaseError(f"Round {round_id} of {self._store.path} has no model. Choose another round.")
        return str(row[0]), bytes(row[1])


def _active(connection: sqlite3.Connection) -> int:
    """Return the round whose model is in use, 0 for the shipped model."""
    row = connection.execute("SELECT target FROM events WHERE kind = 'round' ORDER BY id DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 0


def _in_use(round_id: int) -> tuple[object, ...]:
    return ("round", 0, 0, 0, 0, 0, -1, -1, None, "", 0, round_id, 0)
