"""Verdicts, undo and redo, alone and against a model that is plain enough to be believed."""

from __future__ import annotations

import math
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_cervcell.casefile import Case, CaseError, State, Verdict

BOX = (10.0, 20.0, 50.0, 60.0)


def states(case: Case) -> list[int]:
    return case.annotations().states.tolist()


def test_each_kind_of_verdict_gives_its_state(case: Case) -> None:
    ids = case.record(
        [
            Verdict("accept", BOX, 2, detected_label=2, score=0.75, model_id="m"),
            Verdict("class", BOX, 4, detected_label=2, score=0.5),
            Verdict("reject", BOX, 1, detected_label=1, score=0.25),
            Verdict("add", BOX, 5),
        ]
    )
    known = case.annotations()
    assert known.ids.tolist() == ids == sorted(set(ids))
    assert known.states.tolist() == [State.ACCEPTED, State.CORRECTED, State.REJECTED, State.ADDED]
    assert known.labels.tolist() == [2, 4, 1, 5]
    assert known.detected_labels.tolist() == [2, 2, 1, -1]
    np.testing.assert_array_equal(known.scores, np.array([0.75, 0.5, 0.25, np.nan], np.float32))
    np.testing.assert_array_equal(known.boxes, np.array([BOX] * 4, np.float32))
    dtypes = [a.dtype for a in (known.ids, known.boxes, known.labels, known.states, known.detected_labels)]
    assert dtypes == [np.int64, np.float32, np.int16, np.int8, np.int16]


def test_a_second_verdict_on_a_cell_replaces_the_first_and_keeps_what_the_model_said(case: Case) -> None:
    [cell] = case.record([Verdict("accept", BOX, 2, detected_label=2, score=0.75)])
    moved = (0.0, 0.0, 8.0, 8.0)
    assert case.record([Verdict("class", moved, 3, cell=cell)]) == [cell]
    known = case.annotations()
    assert (known.states.tolist(), known.labels.tolist()) == ([State.CORRECTED], [3])
    assert (known.detected_labels.tolist(), known.scores.tolist()) == ([2], [0.75])
    assert known.boxes.tolist() == [list(moved)]
    case.record([Verdict("class", moved, 2, cell=cell)])
    assert states(case) == [State.ACCEPTED]
    case.record([Verdict("add", BOX, 1)])
    assert case.annotations().events.tolist() == [e.id for e in case.events()][-2:]


def test_the_later_verdict_counts_though_the_clock_was_set_back(case: Case) -> None:
    [cell] = case.record([Verdict("accept", BOX, 2, detected_label=2)])
    with sqlite3.connect(case.path) as other:  # in a year that is yet to come
        other.execute(
            "INSERT INTO events (time, reviewer, kind, cell, x1, y1, x2, y2, label, detected_label, group_id) "
            "VALUES ('2999-01-01T00:00:00.000+00:00', 'early', 'reject', ?, 10, 20, 50, 60, -1, 2, 2)",
            (cell,),
        )
    assert states(case) == [State.REJECTED]
    case.record([Verdict("class", BOX, 4, cell=cell, detected_label=2)])
    assert states(case) == [State.CORRECTED]
    assert [e.kind for e in case.events()] == ["accept", "reject", "class"]
    case.undo()
    assert states(case) == [State.REJECTED]


def test_an_added_cell_stays_added_whatever_class_it_gets(case: Case) -> None:
    [cell] = case.record([Verdict("add", BOX, 2)])
    case.record([Verdict("class", BOX, 3, cell=cell)])
    assert states(case) == [State.ADDED]
    case.record([Verdict("reject", BOX, 3, cell=cell)])
    assert states(case) == [State.REJECTED]


def test_many_verdicts_at_once_are_one_step(case: Case) -> None:
    case.record([Verdict("add", BOX, 1)])
    case.record([Verdict("add", BOX, 2), Verdict("add", BOX, 3)])
    assert case.undo()
    assert case.annotations().labels.tolist() == [1]
    assert case.redo()
    assert case.annotations().labels.tolist() == [1, 2, 3]


def test_checked_regions_are_undone_with_the_rest(case: Case) -> None:
    case.check_region((0, 0, 100, 100))
    case.check_region((200, 0, 300, 100))
    case.undo()
    assert case.checked_regions().tolist() == [[0, 0, 100, 100]]
    assert len(case.annotations()) == 0
    case.redo()
    assert len(case.checked_regions()) == 2


def test_nothing_to_undo_and_nothing_to_save(case: Case) -> None:
    assert not case.undo()
    assert not case.redo()
    assert case.record([]) == []
    assert case.events() == []


def test_a_cell_that_is_gone_is_refused_and_nothing_of_the_group_is_saved(case: Case) -> None:
    [cell] = case.record([Verdict("add", BOX, 1)])
    case.undo()
    with pytest.raises(CaseError, match="no longer"):
        case.record([Verdict("add", BOX, 2), Verdict("reject", BOX, 1, cell=cell)])
    assert len(case.annotations()) == 0
    assert case.can_redo


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict("add", (0, 0, math.nan, 1), 1),
        Verdict("add", (5, 0, 1, 1), 1),
        Verdict("add", BOX, 6),
        Verdict("add", BOX, -1),
        Verdict("accept", BOX, 1, detected_label=9),
    ],
)
def test_nonsense_is_refused(case: Case, verdict: Verdict) -> None:
    with pytest.raises(ValueError, match="not a"):
        case.record([verdict])
    assert case.events() == []


def test_the_audit_trail_says_who_what_when(case: Case) -> None:
    case.record([Verdict("accept", BOX, 2, detected_label=2, score=0.75, model_id="m")])
    with Case.open(case.path, reviewer="grace") as other:
        other.undo()
    accepted, undone = case.events()
    assert (accepted.reviewer, accepted.kind, accepted.box, accepted.model_id) == ("ada lovelace", "accept", BOX, "m")
    assert (undone.reviewer, undone.kind, undone.target) == ("grace", "undo", accepted.group)
    assert math.isnan(undone.score)
    assert accepted.time <= undone.time
    assert accepted.time.endswith("+00:00")


def test_events_cannot_be_changed_even_by_hand(case: Case) -> None:
    case.record([Verdict("add", BOX, 1)])
    connection = sqlite3.connect(case.path)
    for statement in ("UPDATE events SET label = 2", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
            connection.execute(statement)
    connection.close()


def test_the_arrays_given_out_cannot_spoil_the_case(case: Case) -> None:
    case.record([Verdict("add", BOX, 1)])
    with pytest.raises(ValueError, match="read-only"):
        case.annotations().labels[0] = 3


class Review(RuleBasedStateMachine):
    """The case against lists of snapshots: what is now, what undo leads back to, what redo leads forward to."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "case.cervcell"
        self.case = Case.create(path, slide_name="s", fingerprint="f", width=9, height=9, mpp=None, reviewer="r")
        self.now: tuple[dict[int, tuple[int, int]], int] = ({}, 0)
        self.past: list[tuple[dict[int, tuple[int, int]], int]] = []
        self.future: list[tuple[dict[int, tuple[int, int]], int]] = []

    def step(self, cells: dict[int, tuple[int, int]], checked: int) -> None:
        self.past.append(self.now)
        self.future.clear()
        self.now = (cells, checked)

    @rule(labels=st.lists(st.integers(0, 5), min_size=1, max_size=3))
    def add(self, labels: list[int]) -> None:
        ids = self.case.record([Verdict("add", BOX, label) for label in labels])
        self.step(
            {**self.now[0], **{i: (label, State.ADDED) for i, label in zip(ids, labels, strict=True)}}, self.now[1]
        )

    @rule(detected=st.integers(0, 5), label=st.integers(0, 5))
    def judge(self, detected: int, label: int) -> None:
        [cell] = self.case.record([Verdict("class", BOX, label, detected_label=detected)])
        state = State.ACCEPTED if detected == label else State.CORRECTED
        self.step({**self.now[0], cell: (label, state)}, self.now[1])

    @precondition(lambda self: self.now[0])
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        cell = data.draw(st.sampled_from(sorted(self.now[0])))
        label = self.now[0][cell][0]
        self.case.record([Verdict("reject", BOX, label, cell=cell)])
        self.step({**self.now[0], cell: (label, State.REJECTED)}, self.now[1])

    @rule()
    def check(self) -> None:
        self.case.check_region(BOX)
        self.step(self.now[0], self.now[1] + 1)

    @rule()
    def undo(self) -> None:
        assert self.case.undo() == bool(self.past)
        if self.past:
            self.future.append(self.now)
            self.now = self.past.pop()

    @rule()
    def redo(self) -> None:
        assert self.case.redo() == bool(self.future)
        if self.future:
            self.past.append(self.now)
            self.now = self.future.pop()

    @rule()
    def choose_a_model(self) -> None:
        self.case.use_round(None)  # an event too, but no step of the review

    @rule()
    def reopen(self) -> None:
        self.case.close()
        self.case = Case.open(self.case.path)

    @invariant()
    def agrees(self) -> None:
        known = self.case.annotations()
        cells = zip(known.ids.tolist(), known.labels.tolist(), known.states.tolist(), strict=True)
        assert {i: (label, state) for i, label, state in cells} == self.now[0]
        assert len(self.case.checked_regions()) == self.now[1]
        assert (self.case.can_undo, self.case.can_redo) == (bool(self.past), bool(self.future))

    def teardown(self) -> None:
        if hasattr(self, "case"):
            self.case.close()
            self.folder.cleanup()


TestReview = Review.TestCase
TestReview.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
