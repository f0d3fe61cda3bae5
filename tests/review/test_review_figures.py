from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.casefile import Case, State
from napari_cervcell.review import Session
from napari_cervcell.review.counts import counts_of, tally
from napari_cervcell.review.estimates import wilson
from napari_cervcell.taxonomy import BETHESDA


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (0, 0, 0, 1)]
)
def test_wilson_interval(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right / max(n, 1), n) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_interval_holds_the_share(n: int, share: float) -> None:
    right = round(share * n)
    low, high = wilson(right / n, n)
    assert 0 <= low <= right / n + 1e-9
    assert right / n - 1e-9 <= high <= 1


def test_counts_leave_out_what_is_gone_below_the_threshold_or_of_no_class() -> None:
    labels = np.array([0, 0, 0, 0, 1, -1, 1], np.int16)
    states = np.array([0, 0, -1, State.ADDED, State.REJECTED, State.REJECTED, State.CORRECTED], np.int8)
    scores = np.array([0.9, 0.2, -1, np.nan, 0.9, np.nan, 0.1], np.float32)
    assert counts_of(tally(labels, states, scores, 0.5, 3)) == [(2, 1, 0), (1, 1, 1), (0, 0, 0)]


def test_figures_rest_on_the_random_draws(case: Case, scan) -> None:
    scan("one", [(60 * i + 30, 100, 0, 0.9, 0.9) for i in range(30)], size=2000)
    session = Session(None, case, strategy="random")
    assert math.isnan(session.figures()[0].precision.value)
    session.reject([0, 1])  # chosen by hand: they tell nothing of the others
    assert session.figures()[0].precision.asked == 0
    session.next()
    while session.current is not None:
        session.accept()
    precision, _, total, _ = session.figures()[0]
    assert (precision.value, precision.low, precision.high) == (28 / 30, 28 / 30, 28 / 30)
    assert (total.value, total.low, total.high, total.asked) == (28, 28, 28, 30)
    assert session.figures()[0].enough()
    assert session.figures()[1].total.value == 0


def test_a_model_is_not_judged_by_what_it_has_learnt_from(case: Case, scan) -> None:
    cells = [(60 * i + 30, 100, 0, 0.9, 0.9) for i in range(30)]
    scan("one", cells, size=2000)
    session = Session(None, case, strategy="random")
    session.next()
    for _ in range(10):
        session.accept()
    assert session.figures()[0].precision.asked == 10
    session.add_cells(scan("two", cells, size=2000))
    figures = session.figures()[0]
    assert figures.precision.asked == 0
    assert figures.total.low == 10  # these are known
    session.select(None)
    session.next()
    for _ in range(20):
        session.reject()
    precision, _, total, _ = session.figures()[0]
    assert (precision.value, precision.asked) == (0, 20)
    assert (total.value, total.low, total.high) == (10, 10, 10)


def test_precision_is_of_what_is_shown_the_number_of_all(case: Case, scan) -> None:
    scan("one", [(60 * i + 30, 100, 0, 0.9 if i < 10 else 0.3, 0.9) for i in range(30)], size=2000)
    session = Session(None, case, strategy="random")
    session.next()
    while session.current is not None:
        session.set_class(0) if session.current % 2 else session.reject()
    assert session.figures()[0].precision.value == 0.5
    assert session.figures()[0].precision.asked == 10
    assert session.figures()[0].total.value == 15


def test_checked_regions_tell_how_many_are_missed(case: Case, scan) -> None:
    scan("one", [(100 * i + 50, y, 0, 0.9, 0.9) for i in range(10) for y in (100, 700)], size=2000)
    session = Session(None, case, strategy="random")
    session.next()
    while session.current is not None:
        session.accept()
    assert session.figures()[0].total.value == 20
    for x in range(5):
        session.add(100 * x + 50, 300, 0)
    assert session.figures()[0].recall.asked == 0
    assert session.figures()[0].total.value == 25
    session.check_region((0, 0, 1000, 400))
    _, recall, total, with_missed = session.figures()[0]
    assert with_missed
    assert recall.value == pytest.approx(10 / 15)
    assert total.value == pytest.approx(30)
    assert total.low == 25
    assert total.high > 35
    session.add_cells(scan("two", [(50, 100, 0, 0.9, 0.9)], size=2000))
    assert session.figures()[0].recall.asked == 0  # nobody has checked what this one finds
    assert session.figures()[0].total.value == 25


def test_a_cell_added_where_the_model_had_doubts_is_found_though_not_shown(case: Case, scan) -> None:
    scan("one", [(100, 100, 0, 0.9, 0.9), (300, 100, 0, 0.2, 0.9)])
    session = Session(None, case)
    session.accept(0)
    session.add(300, 100, 0)
    session.check_region((0, 0, 500, 500))
    assert (session.figures()[0].recall.value, session.figures()[0].recall.asked) == (1, 2)


def test_who_has_reviewed_all_knows_without_a_draw(case: Case, scan) -> None:
    scan("one", [(100 * i + 50, 100, i % 2, 0.9, 0.9) for i in range(10)])
    session = Session(None, case)
    session.accept(list(range(0, 10, 2)))
    assert [f.precision.asked for f in session.figures()[:2]] == [5, 0]
    session.reject(list(range(1, 10, 2)))
    assert [(f.total.low, f.total.high) for f in session.figures()[:2]] == [(5, 5), (0, 0)]
    assert all(f.enough() for f in session.figures()[:2])


def many(left: float, right: float, label: int = 0, columns: range = range(20)) -> list[tuple[float, ...]]:
    """400 cells on a lattice between two columns of the slide."""
    step = (right - left) / 20
    return [(left + step * (i + 0.5), 25 + 48 * j, label, 0.9, 0.9) for i in columns for j in range(20)]


def sit(session: Session, n: int, is_cell: Callable[[float, float], bool]) -> None:
    """Answer `n` questions truly."""
    for _ in range(n):
        if session.current is None:
            session.next()
        x, y = session.cells.centres[session.current]
        session.accept() if is_cell(x, y) else session.reject()


def test_cells_that_are_found_during_the_sitting_do_not_bend_the_figures(case: Case, scan) -> None:
    scan("one", many(0, 1000))
    session = Session(None, case, strategy="random")
    sit(session, 60, lambda x, y: True)
    assert session.figures()[0].precision.value == 1
    session.add_cells(scan("one", many(1000, 2000), place=(1000, 0)))  # of which none is one
    assert session.figures()[0].precision.asked < 5  # the others have to wait for those of the new ones
    for _ in range(3):
        sit(session, 40, lambda x, y: x < 1000)
        precision, _, total, _ = session.figures()[0]
        assert precision.low < 0.5 < precision.high
        assert total.low < 400 < total.high
    assert precision.asked > 100  # and those drawn before count again


def test_a_cell_passed_over_holds_the_figures_back_and_comes_again(case: Case, scan) -> None:
    scan("one", many(0, 1000))
    session = Session(None, case, strategy="random")
    sit(session, 5, lambda x, y: True)
    doubtful = session.current
    session.next()
    sit(session, 10, lambda x, y: True)
    assert session.figures()[0].precision.asked == 5  # not 15, all right, of 16 that were drawn
    while session.current != doubtful:
        sit(session, 1, lambda x, y: True)
    assert len(case.annotations()) < 40
    session.reject()
    assert session.figures()[0].precision.asked == len(case.annotations())
    assert session.figures()[0].precision.value < 1


def test_a_reviewer_who_cannot_say_is_not_led_in_circles(case: Case, scan) -> None:
    scan("one", many(0, 1000))
    session = Session(None, case, strategy="random")
    seen = set()
    for _ in range(400):
        seen.add(session.next())
    assert len(seen) > 80


def test_a_rare_class_merged_into_a_common_one_does_not_count_double(case: Case, scan) -> None:
    scan("one", [*many(0, 1000, 0), *many(1000, 2000, 1, range(1))], size=2000)
    session = Session(None, case, strategy="random")
    sit(session, 80, lambda x, y: x < 1000)
    rare, common = (session.figures()[i].precision for i in (1, 0))
    assert rare.asked / 20 > 1.5 * common.asked / 400  # drawn more often than its share
    case.taxonomy = BETHESDA.edited([replace(c, into=0) if i == 1 else c for i, c in enumerate(BETHESDA.classes)])
    merged = Session(None, case).figures()[0]
    assert merged.precision.asked < 80
    assert merged.precision.low < 400 / 420 < merged.precision.high


def test_recall_is_of_the_model_whose_cells_are_there(case: Case, scan) -> None:
    first, second = (many(x, x + 1000, columns=range(3)) for x in (0, 1000))
    scan("one", first)
    scan("one", second, place=(1000, 0))
    session = Session(None, case)
    session.add_cells(scan("two", first))  # the place in view, as after a round
    session.accept(session.visible(1000, 0, 2000, 1000))
    missed = [(1300 + 60 * i, 500) for i in range(10)]
    for x, y in missed:
        session.add(x, y, 0)
    session.check_region((1000, 0, 2000, 1000))
    recall = session.figures()[0].recall
    assert (recall.value, recall.asked) == (60 / 70, 70)  # of "one", which has found what is there
    session.add_cells(scan("two", [*second, *((x, y, 0, 0.9, 0.9) for x, y in missed[:5])], place=(1000, 0)))
    session.accept(session.visible(0, 0, 1000, 1000))
    recall, total = session.figures()[0][1:3]
    assert math.isnan(recall.value)  # nobody has put "two" to the test
    assert (total.low, total.high) == (130, 130)


def test_gone_back_to_a_model_what_was_reviewed_under_a_later_one_tests_it_too(case: Case, scan) -> None:
    """Half of the cells are right. Of the wrong ones many are rejected under a later model, then it is taken back."""
    session = Session(None, case, strategy="random")
    session.add_cells(scan("one", many(0, 2000)))
    sit(session, 60, lambda x, y: x < 1000)
    number = case.start_round("one", {})
    case.finish_round(number, "promoted", {}, b"later", "later", "")
    session.add_cells(scan("later", [(x + 0.5, *rest) for x, *rest in many(0, 2000)]))
    wrong = np.flatnonzero((session.states == 0) & (session.cells.centres[:, 0] > 1000))
    session.reject(wrong[:120])
    session.add_cells(scan("one", many(0, 2000)))
    precision, _, total, _ = session.figures()[0]
    assert precision.low < 0.5 < precision.high
    assert total.low < 200 < total.high
    assert precision.asked >= 60


def test_where_no_model_has_looked_nothing_is_known_of_the_slide(case: Case) -> None:
    session = Session(None, case)
    session.add(500, 500, 4)
    assert not any(f.enough() for f in session.figures())
    assert all(math.isnan(f.total.value) for f in session.figures())
    assert session.figures()[4].total.low == 1
