from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.casefile import Case, State
from napari_cervcell.review import Session
from napari_cervcell.review.counts import counts_of, tally
from napari_cervcell.review.estimates import wilson


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
