"""What each strategy asks first, and what the random share is for."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cervcell.casefile import Case
from napari_cervcell.cells import Cells
from napari_cervcell.review import Session
from napari_cervcell.review.committee import NOTHING_FOUND, opinions
from napari_cervcell.review.strategies import STRATEGIES


def many(rng: np.random.Generator, n: int = 300) -> list[tuple[float, ...]]:
    """Cells on a lattice, two thirds of class 0."""
    labels = rng.choice(6, n, p=[0.67, 0.1, 0.1, 0.05, 0.05, 0.03])
    return [
        (30 + 63 * (i % 30), 30 + 63 * (i // 30), labels[i], s, c)
        for i, (s, c) in enumerate(zip(rng.random(n), rng.random(n), strict=True))
    ]


@pytest.fixture
def cells() -> list[tuple[float, ...]]:
    return many(np.random.default_rng(0))


def asked(session: Session, n: int) -> list[int]:
    return [row for row in (session.next() for _ in range(n)) if row is not None]


def answered(session: Session, n: int) -> list[int]:
    """Return the rows that are asked about where each gets its answer."""
    rows: list[int] = []
    while len(rows) < n and (row := session.next()) is not None:
        rows.append(row)
        session.accept(row)
    return rows


@pytest.mark.parametrize("strategy", ["mix", *STRATEGIES])
def test_every_strategy_asks_no_cell_twice_and_none_that_is_answered(case: Case, scan, cells, strategy) -> None:
    scan("one", cells, size=2000)
    session = Session(None, case, strategy=strategy)
    session.reject([0, 1, 2])
    seen = []
    while (row := session.next()) is not None and len(seen) < 60:
        seen.append(row)
        session.accept(row)
    assert len(set(seen)) == len(seen)
    assert not {0, 1, 2} & set(seen)


def test_the_mix_asks_all_in_the_end(case: Case, scan, cells) -> None:
    scan("one", cells, size=2000)
    assert sorted(answered(Session(None, case), 300)) == list(range(300))


def test_missed_asks_probable_cells_below_the_threshold(case: Case, scan) -> None:
    scan("one", [(100, 100, 0, 0.9, 0.9), (300, 100, 1, 0.45, 0.9), (500, 100, 4, 0.3, 0.9), (700, 100, 0, 0.1, 0.9)])
    assert Session(None, case, strategy="missed").queue.tolist() == [1, 2]


def test_the_committee_asks_where_an_earlier_model_was_of_another_mind(case: Case, scan) -> None:
    scan("one", [(100, 100, 0, 0.9, 0.9), (300, 100, 1, 0.8, 0.9), (700, 100, 0, 0.6, 0.9)])
    now = [(100, 100, 0, 0.9, 0.9), (304, 100, 4, 0.8, 0.9), (500, 100, 2, 0.95, 0.9), (700, 100, 0, 0.8, 0.9)]
    session = Session(None, case, strategy="committee")
    assert len(session.queue) == 0  # there is but one model
    session.add_cells(scan("two", now))
    asked_live = [session.cells.centres[row, 0] for row in session.queue]
    again = Session(None, case, strategy="committee")
    assert [again.cells.centres[row, 0] for row in again.queue] == asked_live == [500, 304, 700]


def test_opinions_are_those_of_the_nearest_cell_in_reach() -> None:
    earlier = Cells(np.array([[0, 0, 60, 60], [40, 0, 100, 60]]), [1, 2], [0.5, 0.25], [1, 1])
    labels, scores = opinions(np.float32([[20, 30], [65, 30], [30, 61]]), earlier)
    assert labels.tolist() == [1, 2, NOTHING_FOUND]
    assert scores.tolist() == [0.5, 0.25, 0]
    assert opinions(np.zeros((1, 2), np.float32), Cells())[0].tolist() == [NOTHING_FOUND]


def test_diverse_goes_through_the_parts_of_the_slide_and_the_classes(case: Case, scan) -> None:
    crowd = [(100 + 2 * i, 100, 0, 0.9, 0.9) for i in range(40)]
    scan("one", [*crowd, (1900, 900, 0, 0.6, 0.9), (120, 104, 3, 0.6, 0.9), (1000, 500, 0, 0.6, 0.9)], size=2000)
    assert {40, 41, 42} < set(asked(Session(None, case, strategy="diverse"), 5))


def test_rare_asks_the_rarest_class_first(case: Case, scan) -> None:
    common = [(100 + 80 * i, 800, 0, 0.97, 0.99) for i in range(15)]
    scan("one", [*common, (100, 100, 5, 0.6, 0.9), (300, 100, 5, 0.9, 0.9), (500, 100, 3, 0.7, 0.9)])
    assert asked(Session(None, case, strategy="rare"), 3)[0] in (16, 17)
    assert set(asked(Session(None, case, strategy="rare"), 3)) == {15, 16, 17}


def test_negatives_asks_sure_detections_of_what_was_rejected(case: Case, scan) -> None:
    kind_a = [(100 + 80 * i, 100, 1, 0.9, 0.9) for i in range(10)]
    kind_b = [(100 + 80 * i, 500, 2, 0.95, 0.9) for i in range(10)]
    scan("one", kind_a + kind_b)
    session = Session(None, case, strategy="negatives")
    assert len(session.queue) == 0
    session.reject([0, 1])
    session.accept([10, 11])
    session.refresh()
    session.select(None)
    assert set(asked(session, 8)) == set(range(2, 10))


def test_the_mix_keeps_a_random_share_and_the_case_says_who_that_was(case: Case, scan, cells) -> None:
    scan("one", cells, size=2000)
    session = Session(None, case)
    session.next()
    for _ in range(50):
        session.accept()
    drawn = case.annotations().drawn
    assert 10 <= drawn.sum() <= 20
    by_lot = Session(None, case, strategy="random")
    by_lot.next()
    by_lot.accept()
    assert case.annotations().drawn[-1]
    with Case.open(case.path) as again:
        np.testing.assert_array_equal(again.annotations().drawn[:50], drawn)


def test_the_mix_keeps_all_its_shares_where_every_verdict_puts_the_queue_in_order_anew(case: Case, scan, cells) -> None:
    """As the instant answer does."""
    scan("one", cells, size=2000)
    session = Session(None, case)
    session.next()
    for _ in range(30):
        session.accept()
        session.refresh()
    assert 6 <= case.annotations().drawn.sum() <= 12


def test_a_cell_that_somebody_clicks_is_no_random_draw(case: Case, scan, cells) -> None:
    scan("one", cells, size=2000)
    session = Session(None, case, strategy="random")
    for row in session.queue[:10].tolist():
        session.accept(row)
    assert not case.annotations().drawn.any()


def test_random_draws_rare_strata_more_often_than_their_share(case: Case, scan) -> None:
    rng = np.random.default_rng(0)
    places = rng.permutation(400)
    scan(
        "one", [(30 + 60 * (p % 32), 30 + 60 * (p // 32), i >= 380, 0.9, 0.9) for i, p in enumerate(places)], size=2000
    )
    first = answered(Session(None, case, strategy="random"), 60)
    assert sum(row >= 380 for row in first) > 6


def test_a_verdict_said_again_stays_what_it_first_was(case: Case, scan) -> None:
    session_cells = [(100, 100, 0, 0.9, 0.9), (300, 100, 1, 0.8, 0.6)]
    scan("one", session_cells)
    session = Session(None, case, strategy="random")
    row = session.next()
    session.accept()
    session.add_cells(scan("two", [(x, y, 3, s, c) for x, y, _, s, c in session_cells]))
    session.set_class(4, row)
    said = case.annotations()
    assert said.labels.tolist() == [4]
    assert said.drawn.tolist() == [True]
    assert said.model_ids.tolist() == ["one"]
    assert case.events()[-1].model_id == "two"
