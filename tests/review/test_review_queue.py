"""What is asked next."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cervcell.casefile import Case
from napari_cervcell.review import Session
from napari_cervcell.review.queue import COMING
from napari_cervcell.review.strategies import rarity, worth_asking

BALANCED = np.ones(6, np.float32)


def worth(score: float, class_score: float = 1.0, label: int = 0, weights: np.ndarray = BALANCED) -> float:
    return float(
        worth_asking(
            np.array([label]), np.array([score], np.float32), np.array([class_score], np.float32), weights, 0.5
        )[0]
    )


def walk(session: Session, steps: int) -> list[int | None]:
    return [session.next() for _ in range(steps)]


@pytest.fixture
def mixed(case: Case, scan) -> Session:
    """Rows 0 to 4: sure, in doubt, sure but of a doubtful class, unlikely, sure and of a rare class."""
    common = [(100 + 80 * i, 800, 0, 0.97, 0.99) for i in range(15)]
    asked = [(100, 100, 0, 0.99, 0.99), (300, 100, 0, 0.5, 0.9), (500, 100, 0, 0.95, 0.4), (700, 100, 0, 0.1, 0.9)]
    scan("one", [*asked, (900, 100, 5, 0.9, 0.9), *common])
    return Session(None, case, strategy="uncertainty")


def test_doubt_of_the_cell_and_of_its_class_are_worth_asking_about() -> None:
    assert worth(0.5) > worth(0.7) > worth(0.99)
    assert worth(0.5) > worth(0.2) > worth(0.01)
    assert worth(0.9, 0.3) > worth(0.9, 0.6) > worth(0.9, 1.0)


def test_the_class_of_what_is_hardly_a_cell_matters_little() -> None:
    assert worth(0.9, 0.5) - worth(0.9, 1.0) > worth(0.1, 0.5) - worth(0.1, 1.0)


def test_doubt_is_about_the_threshold() -> None:
    low = worth_asking(np.zeros(2, int), np.array([0.3, 0.5]), np.ones(2), BALANCED, 0.3)
    assert low[0] > low[1]


def test_rare_classes_weigh_more_but_not_without_limit() -> None:
    labels = np.repeat([0, 1, 2], [1000, 99, 1])
    weights = rarity(labels, np.ones(1100, np.float32), 4)
    assert weights[0] == 1
    assert 1 < weights[1] < weights[2] == weights[3] == 4
    assert worth(0.8, label=1, weights=weights) > worth(0.8, label=0, weights=weights)


def test_what_is_most_worth_asking_comes_first(mixed: Session) -> None:
    first = walk(mixed, 4)
    assert set(first[:3]) == {1, 2, 4}
    assert mixed.current == first[-1]


def test_the_queue_says_what_will_come(mixed: Session) -> None:
    mixed.select(7)
    assert len(mixed.neighbours.coming) == 0  # a click puts nothing in order
    mixed.next()
    coming = mixed.queue[:5].tolist()
    assert mixed.neighbours.coming.tolist() == coming[:COMING]
    assert walk(mixed, 5) == coming


def test_each_cell_is_asked_once_and_then_none_is_left(mixed: Session) -> None:
    mixed.next()
    asked = []
    while mixed.current is not None:
        asked.append(mixed.current)
        mixed.accept()
    assert sorted(asked) == list(range(20))
    assert mixed.next() is None
    assert len(mixed.queue) == 0


def test_what_was_passed_over_comes_again_when_all_else_is_done(mixed: Session) -> None:
    passed = walk(mixed, 3)
    mixed.next()
    for _ in range(17):
        mixed.accept()
    assert mixed.current in passed
    rest = {mixed.current, *walk(mixed, 2)}
    assert rest == set(passed)
    assert mixed.next() in passed  # round and round


def test_the_last_cell_stays_current_until_it_is_judged(case: Case, scan) -> None:
    scan("one", [(100, 100, 0, 0.9, 0.9)])
    session = Session(None, case)
    assert walk(session, 3) == [0, 0, 0]
    session.accept()
    assert session.current is None


def test_back_over_what_was_shown_reviewed_or_not_and_forward_to_what_was_passed(mixed: Session) -> None:
    first, second, third = walk(mixed, 3)
    mixed.accept()  # the third
    fourth = mixed.current
    assert [mixed.previous() for _ in range(4)] == [third, second, first, first]
    assert [mixed.next(), mixed.next()] == [second, fourth]


def test_back_from_the_end_leads_to_the_last_cell(case: Case, scan) -> None:
    scan("one", [(100, 100, 0, 0.9, 0.9)])
    session = Session(None, case)
    session.next()
    session.reject()
    assert session.current is None
    assert session.previous() == 0


def test_after_a_click_the_queue_goes_on(mixed: Session) -> None:
    first = mixed.next()
    coming = mixed.queue.tolist()
    clicked = coming[3]
    mixed.select(clicked)
    mixed.accept()
    assert mixed.current == coming[0]
    assert mixed.previous() == clicked
    assert mixed.previous() == first
    assert clicked not in mixed.queue


def test_verdicts_do_not_move_the_queue(mixed: Session) -> None:
    mixed.next()
    before = mixed.queue.tolist()
    mixed.set_class(5, before[4])
    mixed.reject(before[7])
    assert mixed.queue.tolist() == [row for row in before if row not in (before[4], before[7])]


def test_new_tiles_change_the_queue_at_the_next_step_only_behind_what_is_shown(mixed: Session, scan) -> None:
    mixed.next()
    before = mixed.queue.tolist()
    mixed.add_cells(scan("one", [(1500, 100, 4, 0.5, 0.2)], place=(1000, 0)))
    assert mixed.queue.tolist() == before
    assert walk(mixed, COMING) == before[:COMING]
    row = mixed.next()
    assert row is not None
    assert mixed.cells.labels[row] == 4


def test_what_is_shown_beside_the_current_cell_is_where_the_keys_lead(mixed: Session) -> None:
    """Also on the way back, over what was passed, and past a cell that was judged meanwhile."""
    first, second, third = walk(mixed, 3)
    assert mixed.neighbours.before == second
    assert mixed.previous() == second
    assert mixed.previous() == first
    assert mixed.neighbours.before is None
    assert mixed.neighbours.coming[:2].tolist() == [second, third]
    mixed.accept(second)
    coming = mixed.neighbours.coming.tolist()
    assert coming[0] == third
    assert walk(mixed, COMING) == coming


@pytest.mark.parametrize("strategy", ["mix", "random", "uncertainty"])
def test_a_queue_that_is_put_in_order_at_every_step_keeps_what_it_has_shown(case: Case, scan, strategy: str) -> None:
    rng = np.random.default_rng(0)
    scan("one", [(100 + 60 * (i % 30), 100 + 90 * (i // 30), i % 6, s, s) for i, s in enumerate(rng.random(240))])
    session = Session(None, case, strategy=strategy)
    session.next()
    for i in range(60):
        coming = session.neighbours.coming.tolist()
        session.threshold = 0.3 + 0.1 * (i % 3)
        session.set_class(i % 6)
        assert session.current == coming[0]
        assert session.neighbours.coming[: COMING - 1].tolist() == coming[1:]


def test_a_fifth_of_a_mix_is_drawn_at_random_however_often_it_is_put_in_order(case: Case, scan) -> None:
    rng = np.random.default_rng(0)
    scan("one", [(100 + 60 * (i % 30), 100 + 90 * (i // 30), i % 6, s, s) for i, s in enumerate(rng.random(240))])
    session = Session(None, case)
    session.next()
    for i in range(100):
        session.threshold = 0.3 + 0.1 * (i % 3)
        session.accept()
    assert case.annotations().drawn.sum() >= 100 // 5


def test_refresh_puts_the_queue_in_order_for_the_next_step(mixed: Session) -> None:
    mixed.next()
    mixed.threshold = 0.1
    mixed.refresh()
    assert mixed.next() == 3  # the unlikely one is now the doubtful one


def test_equal_cells_come_in_an_order_set_by_the_seed(case: Case, scan) -> None:
    scan("one", [(100 + 80 * i, 100, 0, 0.5, 0.5) for i in range(20)])
    orders = [Session(None, case, strategy="uncertainty", seed=seed).queue.tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(20))


def test_a_long_queue_is_put_in_order_bit_by_bit(case: Case, scan) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(1200)
    scan("one", [(70 * (i % 28), 70 * (i // 28) % 1000, 0, s, 1) for i, s in enumerate(scores)], size=2000)
    session = Session(None, case, strategy="uncertainty")
    asked = walk(session, 1200)
    assert len(set(asked)) == 1200
    doubt = np.abs(session.cells.scores[asked] - 0.5)
    assert (np.diff(doubt) >= -1e-6).all()
