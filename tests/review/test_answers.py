"""What verdicts change at once, and which cells look alike: in the sitting, beside what the model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, import_cells
from napari_cervcell.review import ReviewError, Session
from napari_cervcell.review.sheet import Choice, Sheet

ROUND, LONG, OTHER = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
CELLS = [(100.0 + 80 * i, 100.0, 0, 0.6 + 0.01 * i, 0.9) for i in range(10)]
LOOKS = [ROUND, LONG] * 4 + [OTHER, OTHER]


@pytest.fixture
def session(case: Case, scan) -> Session:
    """Ten cells of one class, by turns of two kinds of looks, the last two of a third."""
    scan("one", CELLS, looks=LOOKS)
    return Session(None, case, strategy="uncertainty")


def answer(session: Session) -> None:
    question = session.answers.ask()
    assert question is not None
    session.answers.take(question, question.answer())


def moved(session: Session) -> np.ndarray:
    return np.array([session.answers.score(row) for row in range(len(session.states))])


def alike(session: Session, row: int, **wishes: object) -> list[int]:
    choice = Choice(order="likeness", like=row, split=False, **wishes)  # type: ignore[arg-type]
    return Sheet.of(session.snapshot(), choice).rows.tolist()


def test_verdicts_move_what_looks_like_them_and_never_the_models_scores(session: Session) -> None:
    own = session.cells.scores.copy()
    session.accept(0)
    session.reject(1)
    answer(session)
    now = moved(session)
    assert (now[[2, 4, 6]] > own[[2, 4, 6]]).all()
    assert (now[[3, 5, 7]] < own[[3, 5, 7]]).all()
    np.testing.assert_allclose(now[8:], own[8:], atol=1e-3)
    np.testing.assert_array_equal(session.cells.scores, own)


def test_a_detection_that_is_brought_in_leaves_likeness_as_it_was(session: Session, tmp_path: Path) -> None:
    for row in (0, 1):
        session.accept(row)
    asked = session.answers.ask()
    path = tmp_path / "one.csv"
    path.write_text("x,y,class,state\n1900,900,HSIL,new\n")
    import_cells(session.case, path)
    session.reload()
    again = session.answers.ask()
    assert asked is not None
    assert again is not None
    assert len(again.labels) == len(asked.labels)


def test_queue_and_gallery_go_by_the_answer_and_back(session: Session) -> None:
    for row in (0, 2):
        session.accept(row)
    for row in (1, 3):
        session.reject(row)
    new = Choice(reviewed="new")
    without = Sheet.of(session.snapshot(), new).rows.tolist()
    answer(session)
    sheet = Sheet.of(session.snapshot(), new).rows.tolist()
    assert sheet == [6, 4, 9, 8, 7, 5]
    session.refresh()
    session.next()
    assert session.current in (5, 7)  # rejections have brought these into doubt
    session.answers.forget()
    assert np.isnan(moved(session)).all()
    assert Sheet.of(session.snapshot(), new).rows.tolist() == without


def test_figures_and_what_is_shown_go_by_the_models_own_scores(session: Session) -> None:
    session.threshold = 0.65
    session.reject(6)
    session.accept(7)
    before = repr((session.figures(), session.counts(), session.visible(0, 0, 2000, 1000).tolist()))
    answer(session)
    assert not np.isnan(moved(session)).any()
    assert repr((session.figures(), session.counts(), session.visible(0, 0, 2000, 1000).tolist())) == before


def test_nothing_is_asked_twice_and_undo_is_an_answer_too(session: Session) -> None:
    answer(session)
    assert session.answers.ask() is None
    session.accept(0)
    answer(session)
    assert not np.isnan(moved(session)).any()
    assert session.answers.ask() is None
    session.undo()
    answer(session)
    assert np.isnan(moved(session)).all()


def test_an_answer_to_a_question_about_rows_of_another_time_changes_nothing(session: Session) -> None:
    session.accept(0)
    question = session.answers.ask()
    assert question is not None
    session.reload()
    session.answers.take(question, question.answer())
    assert np.isnan(moved(session)).all()
    answer(session)
    assert moved(session)[2] > session.cells.scores[2]


def test_cells_found_while_an_answer_is_worked_out_wait_for_the_next(session: Session, scan) -> None:
    session.accept(0)
    question = session.answers.ask()
    assert question is not None
    session.add_cells(scan("one", [(1100, 100, 0, 0.7, 0.9)], place=(1000, 0), looks=[ROUND]))
    session.answers.take(question, question.answer())
    assert np.isnan(moved(session)).tolist() == [False] * 10 + [True]
    answer(session)
    assert moved(session)[10] > 0.7


def test_what_another_model_sees_cannot_be_compared(session: Session, scan) -> None:
    """After a later model has looked: verdicts speak through what it sees of the same cells."""
    session.accept(0)
    session.reject(1)
    session.add_cells(scan("two", CELLS, looks=[LONG, ROUND] * 4 + [OTHER, OTHER]))  # it sees all otherwise
    answer(session)
    new = np.flatnonzero(session.states == 0)
    own, now = session.cells.scores, moved(session)
    x = session.cells.centres[:, 0]
    for row in new:
        kind = int((x[row] - 100) // 80)
        if kind < 8:
            assert (now[row] > own[row]) == (kind % 2 == 0)


def test_a_model_without_looks_gives_no_answer(case: Case, scan) -> None:
    scan("one", CELLS)
    session = Session(None, case)
    session.accept(0)
    answer(session)
    assert np.isnan(moved(session)).all()
    with pytest.raises(ReviewError, match="not known what this cell looks like"):
        alike(session, 3)


def test_the_most_alike_come_first_the_cell_itself_before_all(session: Session) -> None:
    assert alike(session, 3) == [3, 1, 5, 7, 0, 2, 4, 6, 8, 9]
    assert sorted(alike(session, 8)[:2]) == [8, 9]


def test_reviewed_cells_keep_their_looks_in_another_sitting(session: Session) -> None:
    session.reject(3)
    session.set_class(4, 5)
    again = Session(None, session.case)
    x = again.cells.centres[:, 0]

    def row_at(i: int) -> int:
        return next(row for row in np.flatnonzero(again.states >= 0).tolist() if x[row] == 100 + 80 * i)

    assert {row_at(i) for i in (1, 3, 5, 7)} == set(alike(again, row_at(3))[:4])
    assert alike(again, row_at(3))[0] == row_at(3)


def test_cells_found_by_a_scan_are_compared_at_once(session: Session, scan) -> None:
    alike(session, 0)
    session.add_cells(scan("one", [(1100, 100, 0, 0.7, 0.9)], place=(1000, 0), looks=[LONG]))
    assert 10 in alike(session, 1)[:5]


def test_cells_added_by_hand_come_last_and_have_no_like(session: Session) -> None:
    row = session.add(500, 700)
    assert alike(session, 0)[-1] == row
    with pytest.raises(ReviewError, match="added by hand"):
        alike(session, row)
