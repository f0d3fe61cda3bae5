"""The second look: reviewed cells that a later model is against, those first that it is most against."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cervcell.casefile import Case, State, Verdict
from napari_cervcell.review import Session
from napari_cervcell.review.sheet import Choice, Sheet

CELLS = [(100, 100, 0, 0.9, 0.9), (300, 100, 1, 0.8, 0.7), (500, 100, 4, 0.6, 0.5), (700, 100, 3, 0.7, 0.6)]


@pytest.fixture
def session(case: Case, scan) -> Session:  # type: ignore[no-untyped-def]
    scan("one", CELLS)
    return Session(None, case)


def second_look(session: Session) -> list[int]:
    return Sheet.of(session.snapshot(), Choice(reviewed="second look", split=False)).rows.tolist()


def test_what_the_reviewer_said_to_the_same_model_is_no_news(session: Session) -> None:
    session.reject(0)
    session.set_class(5, 1)
    session.accept(2)
    assert second_look(session) == []
    assert not session.snapshot().against.any()


def test_it_begins_with_what_a_later_model_is_most_against(session: Session, scan) -> None:  # type: ignore[no-untyped-def]
    session.reject(0)
    session.accept(1)
    session.accept(2)
    session.accept(3)
    session.add_cells(scan("two", [(100, 100, 0, 0.7, 0.9), (300, 100, 1, 0.9, 0.9), (500, 100, 2, 0.9, 0.9)]))
    against = session.snapshot().against
    # a rejection: p(cell); agreement: 1 - p(cell) p(class); another class: its share of what is left; found no more
    np.testing.assert_allclose(against[:4], [0.7, 1 - 0.9 * 0.9, 1 - 0.9 * 0.1 / 5, 1], rtol=1e-6)
    assert second_look(session) == [3, 2, 0]
    session.set_class(2, 2)  # the reviewer has heard the later model, and follows it
    session.reject(0)  # and has heard it, and stands by the verdict
    assert second_look(session) == [3]


def test_taking_a_verdict_back_takes_the_cell_out(session: Session, scan) -> None:  # type: ignore[no-untyped-def]
    session.reject(0)
    session.add_cells(scan("two", CELLS))
    assert second_look(session) == [0]
    session.undo()
    assert second_look(session) == []


def test_of_a_verdict_from_elsewhere_it_is_not_known_what_was_seen(session: Session) -> None:
    session.case.record([Verdict("reject", session.cells.boxes[0], -1, detected_label=0)])
    session.reload()
    assert (session.states == State.REJECTED).sum() == 1
    assert second_look(session) == []


def test_where_no_model_has_looked_nothing_speaks_against_a_verdict(case: Case) -> None:
    case.record([Verdict("accept", (80, 80, 120, 120), 4, detected_label=4, score=0.9)])
    assert second_look(Session(None, case)) == []
