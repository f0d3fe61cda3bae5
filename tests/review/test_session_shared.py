"""A case that another window or program writes to meanwhile."""

from __future__ import annotations

import numpy as np

from napari_cervcell.casefile import Case, State
from napari_cervcell.review import Session

from .conftest import find, shown


def test_reload_sees_what_another_program_wrote_and_keeps_the_place(session: Session) -> None:
    session.select(2)
    with Case.open(session.case.path) as other:
        Session(None, other).reject(0)
    session.reload()
    assert (100, 100, 0, State.REJECTED) in shown(session)
    assert session.current == find(session, 500, 100)


def test_a_verdict_takes_in_what_another_program_wrote(session: Session) -> None:
    with Case.open(session.case.path) as other:
        Session(None, other).reject(0)
    session.accept(1)
    assert (100, 100, 0, State.REJECTED) in shown(session)


def test_of_two_windows_on_one_case_the_later_verdict_on_a_cell_counts(session: Session) -> None:
    with Case.open(session.case.path) as case:
        other = Session(None, case)
        session.accept(0)
        other.reject(0)  # which shows it as new still
        other.add(900, 500, 2)
        session.set_class(5, 1)
        session.undo()  # the last step on the case, whoever took it
        other.accept(2)
        session.reload()
        other.reload()
        assert shown(session) == shown(other)
    assert shown(session) == [
        (100, 100, 0, State.REJECTED),
        (300, 100, 1, 0),
        (500, 100, 4, State.ACCEPTED),
        (900, 500, 2, State.ADDED),
    ]
    assert len(session.case.annotations()) == 3


def test_of_two_windows_a_box_or_a_list_that_comes_later_is_about_the_same_cell(session: Session) -> None:
    with Case.open(session.case.path) as case:
        other = Session(None, case)
        session.set_class(3, 0)
        box = other.cells.boxes[0] + np.float32([0, 0, 10, 10])
        other.reshape(0, box)  # which shows it as new, of class 0
        session.set_class(2, 1)
        other.import_verdicts([(300, 100, "reject")])
        other.reload()
        said = other.case.annotations()
        assert len(said) == 2
        assert said.labels.tolist()[0] == 0
        assert said.boxes[0].tolist() == box.tolist()
        assert said.states.tolist()[1] == State.REJECTED
