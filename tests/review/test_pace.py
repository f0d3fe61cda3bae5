"""How long a case took, from the times of what was said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from napari_cervcell.casefile import Event
from napari_cervcell.review.pace import PAUSE, Pace

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def said(at: float, cell: int, kind: str = "accept", reviewer: str = "ada") -> Event:
    time = (START + timedelta(seconds=at)).isoformat(timespec="milliseconds")
    return Event(0, time, reviewer, kind, cell, (0, 0, 0, 0), 0, 0, 0.9, "abc", 1, 0, 0)


def test_nothing_said_took_no_time() -> None:
    assert Pace.of([]) == Pace(0.0, 0, None)
    assert Pace.of([said(0, 1)]) == Pace(0.0, 1, None)


def test_a_steady_hand_has_its_pace() -> None:
    pace = Pace.of([said(3.0 * i, i + 1) for i in range(11)])
    assert pace.seconds == pytest.approx(30)
    assert pace.cells == 11
    assert pace.per_cell == pytest.approx(3)


def test_a_pause_is_left_out_and_so_is_the_first_word_after_it() -> None:
    pace = Pace.of([said(0, 1), said(4, 2), said(4 + PAUSE, 3), said(10 + PAUSE, 4)])
    assert pace.seconds == pytest.approx(10)
    assert pace.cells == 4
    assert pace.per_cell == pytest.approx(5)


def test_a_changed_mind_takes_time_but_is_no_new_cell() -> None:
    pace = Pace.of([said(0, 1), said(2, 2), said(5, 2, "class"), said(6, 0, "undo")])
    assert pace.seconds == pytest.approx(6)
    assert pace.cells == 2
    assert pace.per_cell == pytest.approx(5)


def test_ten_cells_with_one_verdict_share_its_time() -> None:
    pace = Pace.of([said(0, 1), *(said(10, i) for i in range(2, 12))])
    assert pace.per_cell == pytest.approx(1)


def test_two_reviewers_have_a_clock_each() -> None:
    events = [said(0, 1), said(1, 2, reviewer="bob"), said(4, 3), said(5, 4, reviewer="bob")]
    assert Pace.of(events, "ada") == Pace(4.0, 2, 4.0)
    assert Pace.of(events).seconds == pytest.approx(8)


def test_a_clock_that_is_set_back_takes_no_time_away() -> None:
    pace = Pace.of([said(100, 1), said(103, 2), said(-500, 3), said(-497, 4)])
    assert pace == Pace(6.0, 4, 3.0)
