"""Rounds of learning, and which model is in use."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from napari_cervcell.casefile import Case, CaseError, Verdict
from napari_cervcell.casefile import store as store_module
from napari_cervcell.cells import Cells


def test_a_new_case_uses_the_shipped_model(case: Case) -> None:
    assert case.active_model() is None
    assert case.active_round is None
    assert case.rounds() == []


def test_a_round_is_kept_with_all_that_it_was(case: Case) -> None:
    number = case.start_round("parent", {"seconds": 60})
    assert case.rounds()[0].state == "running"
    case.finish_round(number, "promoted", {"ap": 0.5}, b"weights", "child", "Better.")
    with Case.open(case.path) as again:
        [done] = again.rounds()
        assert (done.id, done.parent_model_id, done.settings) == (number, "parent", {"seconds": 60})
        assert (done.state, done.metrics, done.model_id) == ("promoted", {"ap": 0.5}, "child")
        assert done.message == "Better. It is now in use."
        assert done.has_model
        assert done.started <= done.finished
        assert again.active_model() == ("child", b"weights")
        assert again.round_model(number) == b"weights"


def test_a_candidate_is_kept_but_not_used_until_chosen(case: Case) -> None:
    first = case.start_round("shipped", {})
    case.finish_round(first, "promoted", {}, b"1", "one")
    second = case.start_round("one", {})
    case.finish_round(second, "candidate", {}, b"2", "two")
    assert case.active_round == first
    case.use_round(second)
    assert case.active_model() == ("two", b"2")
    case.use_round(first)
    assert case.active_model() == ("one", b"1")
    case.use_round(None)
    assert case.active_model() is None
    assert [e.target for e in case.events() if e.kind == "round"] == [first, second, first, 0]


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_a_round_that_came_to_nothing_changes_nothing(case: Case, state) -> None:
    number = case.start_round("shipped", {})
    case.finish_round(number, state, message="why")
    assert case.active_model() is None
    assert case.rounds()[0].message == "why"
    with pytest.raises(CaseError, match="no model"):
        case.round_model(number)
    with pytest.raises(CaseError, match="no model"):
        case.use_round(number)
    with pytest.raises(CaseError, match="no model"):
        case.use_round(99)


def test_a_round_ends_once(case: Case) -> None:
    number = case.start_round("shipped", {})
    case.finish_round(number, "promoted", {}, b"1", "one")
    with pytest.raises(CaseError, match="ended before"):
        case.finish_round(number, "cancelled")
    assert case.rounds()[0].state == "promoted"
    assert case.active_round == number


def test_nonsense_is_refused(case: Case) -> None:
    number = case.start_round("shipped", {})
    with pytest.raises(ValueError, match="needs a model"):
        case.finish_round(number, "promoted")
    with pytest.raises(ValueError, match="paused"):
        case.finish_round(number, "paused")


def test_a_round_says_who_began_it_and_from_which(case: Case) -> None:
    first = case.start_round("shipped", {})
    case.finish_round(first, "promoted", {}, b"1", "one")
    case.reviewer = "ada"
    second = case.start_round("one", {})
    case.finish_round(second, "failed")
    third = case.start_round("one", {})
    case.finish_round(third, "candidate", {}, b"3", "three")
    assert [r.reviewer for r in case.rounds()][1:] == ["ada", "ada"]
    assert case.round_before(third) == case.round_before(second) == first
    assert case.round_before(first) is None


def test_the_detections_of_each_model_are_kept(case: Case) -> None:
    for model, x in (("one", 10), ("two", 20)):
        cells = Cells(np.array([[x, 0, x + 10, 10]]), [0], [0.9], [0.9])
        case.write_tile(case.start_run(model, model, "slide"), 0, 0, 1024, cells)
    assert case.detections().cells.boxes[0, 0] == 20
    assert case.detections("one").cells.boxes[0, 0] == 10
    assert len(case.detections("three")) == 0


def accepted(x: float, cell: int | None = None, label: int = 0) -> Verdict:
    return Verdict("accept", (x, 0, x + 60, 60), label, cell)


def unlearnt(case: Case) -> int:
    return case.reviewed_after(case.learnt_up_to)


def test_what_no_round_has_learnt_from_yet(case: Case) -> None:
    cells = case.record([accepted(100.0 * i) for i in range(30)])
    assert unlearnt(case) == 30
    number = case.start_round("shipped", {"events": case.newest_event})
    case.record([accepted(9000)])  # while the round is on its way
    assert unlearnt(case) == 31
    case.finish_round(number, "candidate", {}, b"m", "m1")
    assert unlearnt(case) == 1
    case.record([accepted(100.0 * i, cell, 3) for i, cell in enumerate(cells[:12])])
    case.record([accepted(0.0, cells[0], 4)])
    assert unlearnt(case) == 13  # each cell once
    case.check_region((0, 0, 90, 90))
    case.undo()
    case.undo()
    case.undo()
    assert unlearnt(case) == 1


def test_what_makes_no_model_from_the_case_leaves_that_as_it_is(case: Case) -> None:
    case.record([accepted(100.0 * i) for i in range(30)])
    failed = case.start_round("shipped", {"events": case.newest_event})
    case.finish_round(failed, "failed")
    imported = case.start_round("shipped", {"imported": "m.safetensors"})
    case.finish_round(imported, "candidate", {}, b"m", "m2")
    assert unlearnt(case) == 30


def test_a_clock_that_is_put_back_changes_nothing_in_that(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2020, 1, 1, tzinfo=UTC)

    number = case.start_round("shipped", {"events": case.newest_event})
    case.finish_round(number, "candidate", {}, b"m", "m1")
    monkeypatch.setattr(store_module, "datetime", Earlier)
    case.record([accepted(100.0 * i) for i in range(80)])
    assert unlearnt(case) == 80


def test_a_model_that_somebody_chose_meanwhile_stays_in_use(case: Case) -> None:
    first = case.start_round("shipped", {})
    assert case.finish_round(first, "promoted", {}, b"1", "one", "Good.") == ("promoted", "Good. It is now in use.")
    second = case.start_round("one", {})
    with Case.open(case.path) as window:
        window.use_round(None)
    state, message = case.finish_round(second, "promoted", {}, b"2", "two", "Good.")
    assert case.active_round is None
    assert (case.rounds()[-1].state, case.rounds()[-1].message) == (state, message)
    assert state == "candidate"
    assert "another model was chosen" in message
    third = case.start_round("shipped", {})
    case.use_round(second)
    assert case.finish_round(third, "promoted", {}, b"3", "three")[0] == "candidate"
    assert case.active_round == second


def test_a_choice_that_was_taken_back_is_none(case: Case) -> None:
    first = case.start_round("shipped", {})
    case.use_round(None)
    case.finish_round(first, "promoted", {}, b"1", "one")
    second = case.start_round("one", {})
    case.use_round(None)
    case.use_round(first)
    assert case.finish_round(second, "promoted", {}, b"2", "two")[0] == "promoted"
    assert case.active_round == second
