"""A sitting in which later models come: what is shown of their cells, and of what was said of earlier ones."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cervcell.casefile import State
from napari_cervcell.review import Session

from .conftest import find, shown


def test_a_later_model_replaces_new_cells_and_leaves_reviewed_ones(session: Session, scan) -> None:
    session.accept(0)
    session.set_class(5, 1)
    session.reject(2)
    session.add(900, 500, 2)
    session.add_cells(scan("two", [(103, 100, 0, 0.9, 0.9), (500, 105, 4, 0.9, 0.9), (800, 800, 3, 0.9, 0.9)]))
    assert shown(session) == [
        (100, 100, 0, State.ACCEPTED),
        (300, 100, 5, State.CORRECTED),
        (500, 100, 4, State.REJECTED),
        (800, 800, 3, 0),
        (900, 500, 2, State.ADDED),
    ]
    assert not session.disagrees.any()


def test_where_a_later_model_sees_another_class_the_cell_is_flagged_until_the_reviewer_answers(
    session: Session, scan
) -> None:
    session.accept(0)
    session.set_class(5, 1)
    session.accept(2)
    new = [(100, 100, 3, 0.9, 0.9), (300, 100, 1, 0.9, 0.9), (500, 100, 4, 0.9, 0.9)]
    session.add_cells(scan("two", new))
    # only the first: of the second cell the reviewer had heard, and did not believe, what both models say
    assert np.flatnonzero(session.disagrees).tolist() == [0]
    assert session.cells.labels[0] == 0
    assert session.next() == 0
    session.accept()
    assert not session.disagrees.any()
    assert session.states[0] == State.CORRECTED  # it is not what the newest model says
    assert session.case.events()[-1].model_id == "two"
    assert session.undo()
    assert session.disagrees[0]
    session.set_class(3, 0)
    assert session.states[0] == State.ACCEPTED
    assert not Session(None, session.case).disagrees.any()


def test_a_verdict_names_the_model_and_the_score_it_is_about(session: Session, scan) -> None:
    session.accept(0)
    session.add_cells(scan("two", [(300, 100, 1, 0.6, 0.9)]))
    session.accept(find(session, 300, 100))
    first, second = session.case.events()
    assert (first.model_id, second.model_id) == ("one", "two")
    assert (first.score, second.score) == (pytest.approx(0.9), pytest.approx(0.6))


def test_only_the_tiles_that_were_scanned_again_change(session: Session, scan) -> None:
    session.add_cells(scan("one", [(1500, 500, 2, 0.9, 0.9)], place=(1000, 0)))
    assert len(shown(session)) == 4
    session.add_cells(scan("two", [(1400, 500, 3, 0.9, 0.9)], place=(1000, 0)))
    assert shown(session)[:3] == [(100, 100, 0, 0), (300, 100, 1, 0), (500, 100, 4, 0)]
    assert shown(session)[3:] == [(1400, 500, 3, 0)]


def test_on_another_grid_what_was_found_on_the_old_one_counts_no_more(session: Session, scan) -> None:
    session.accept(0)
    session.add_cells(scan("two", [(1400, 500, 3, 0.9, 0.9)], place=(1024, 0), size=512))
    assert shown(session) == [(100, 100, 0, State.ACCEPTED), (1400, 500, 3, 0)]


def test_back_on_an_earlier_grid_what_was_found_there_is_shown_again(session: Session, scan) -> None:
    session.accept(0)
    session.add_cells(scan("two", [(1400, 500, 3, 0.9, 0.9)], place=(1024, 0), size=512))
    session.add_cells(scan("three", [(1600, 500, 3, 0.9, 0.9)], place=(1000, 0), size=1000))
    assert shown(session) == [
        (100, 100, 0, State.ACCEPTED),
        (300, 100, 1, 0),
        (500, 100, 4, 0),
        (1600, 500, 3, 0),
    ]


def test_the_current_cell_stays_current_as_what_a_later_model_made_of_it(session: Session, scan) -> None:
    session.select(1)
    session.add_cells(scan("two", [(304, 100, 2, 0.9, 0.9)]))
    assert session.current == find(session, 304, 100)
    assert session.cells.labels[session.current] == 2
    assert len(shown(session)) == 1


def test_a_current_cell_that_a_later_model_dropped_stays_until_it_is_left(session: Session, scan) -> None:
    session.select(1)
    session.add_cells(scan("two", []))
    assert session.current == 1
    assert shown(session) == [(300, 100, 1, 0)]
    session.select(None)
    assert shown(session) == []


def test_a_verdict_on_a_dropped_current_cell_counts(session: Session, scan) -> None:
    session.select(1)
    session.add_cells(scan("two", []))
    session.reject()
    assert session.current is None
    assert shown(session) == [(300, 100, 1, State.REJECTED)]
    assert session.case.events()[-1].model_id == "one"


def test_rows_keep_their_numbers_while_tiles_come_in(session: Session, scan) -> None:
    boxes = session.cells.boxes.copy()
    session.add(900, 500)
    session.add_cells(scan("two", [(104, 100, 0, 0.9, 0.9)]))
    np.testing.assert_array_equal(session.cells.boxes[:4], boxes)
