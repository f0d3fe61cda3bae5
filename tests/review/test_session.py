"""A sitting: selecting, verdicts, undo, tiles that stream in, and what is on disk meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, CaseError, State
from napari_cervcell.review import GONE, ReviewError, Session

from .conftest import find, shown


def test_what_is_below_the_threshold_is_not_shown_until_someone_spoke_of_it(session: Session) -> None:
    assert [x for x, *_ in shown(session)] == [100, 300, 500]
    assert session.at(700, 100, 10) is None
    session.threshold = 0.2
    row = find(session, 700, 100)
    session.reject(row)
    session.threshold = 0.5
    assert shown(session)[-1] == (700, 100, 0, State.REJECTED)


def test_the_current_cell_is_shown_whatever_its_score(session: Session) -> None:
    session.select(3)
    assert 3 in session.visible(690, 90, 710, 110)


def test_at_finds_the_nearest_within_the_radius(session: Session) -> None:
    assert session.at(190, 100, 200) == find(session, 100, 100)
    assert session.at(210, 100, 200) == find(session, 300, 100)
    assert session.at(200, 100, 99) is None


def test_verdicts_and_their_states(session: Session) -> None:
    a, b, c = (find(session, x, 100) for x in (100, 300, 500))
    session.accept(a)
    session.reject(b)
    session.set_class(5, c)
    d = session.add(900, 500, 3)
    assert session.states[[a, b, c, d]].tolist() == [State.ACCEPTED, State.REJECTED, State.CORRECTED, State.ADDED]
    assert session.cells.labels[[a, b, c, d]].tolist() == [0, 1, 5, 3]
    said = session.case.annotations()
    assert said.ids.tolist() == session.annotation_ids[[a, b, c, d]].tolist()
    assert said.detected_labels.tolist() == [0, 1, 4, -1]
    np.testing.assert_allclose(said.scores[:3], [0.9, 0.8, 0.7])


def test_the_class_that_was_detected_given_by_key_is_an_acceptance(session: Session) -> None:
    session.set_class(4, find(session, 500, 100))
    assert session.case.annotations().states.tolist() == [State.ACCEPTED]
    assert [e.kind for e in session.case.events()] == ["accept"]


def test_a_verdict_is_on_disk_before_the_next_cell_is_current(session: Session) -> None:
    on_disk = []

    def look(_row: int | None) -> None:
        with Case.open(session.case.path) as other:
            on_disk.append(len(other.annotations()))

    session.next()
    session.current_changed.connect(look)
    session.accept()
    session.reject()
    session.set_class(2)
    assert on_disk == [1, 2, 3]


def test_a_verdict_on_the_current_cell_moves_on_and_one_on_another_does_not(session: Session) -> None:
    first = session.next()
    session.accept(find(session, 100, 100) if first != find(session, 100, 100) else find(session, 300, 100))
    assert session.current == first
    session.accept()
    assert session.current not in (first, None)


def test_without_a_current_cell_a_verdict_says_so(session: Session) -> None:
    for verdict in (session.accept, session.reject, lambda: session.set_class(1)):
        with pytest.raises(ReviewError, match="No cell is selected"):
            verdict()
    assert len(session.case.annotations()) == 0


def test_many_at_once_are_one_step_of_undo(session: Session) -> None:
    session.reject([0, 1, 2, 1])
    assert len(session.case.annotations()) == 3
    assert session.undo()
    assert len(session.case.annotations()) == 0
    assert shown(session) == [(100, 100, 0, 0), (300, 100, 1, 0), (500, 100, 4, 0)]
    assert session.redo()
    assert session.states[:3].tolist() == [State.REJECTED] * 3


def test_saying_the_same_again_is_not_recorded(session: Session) -> None:
    session.set_class(3, 0)
    session.reject(1)
    before = len(session.case.events())
    session.accept([0])
    session.set_class(3, 0)
    session.reject(1)
    assert len(session.case.events()) == before
    session.accept(1)
    session.set_class(0, 0)
    assert session.states[:2].tolist() == [State.ACCEPTED, State.ACCEPTED]
    assert len(session.case.annotations()) == 2


def test_undo_and_redo_show_the_cell_they_are_about(session: Session) -> None:
    session.select(0)
    session.accept()
    session.select(2)
    assert session.undo()
    assert (session.current, session.states[0]) == (0, 0)
    session.select(2)
    assert session.redo()
    assert (session.current, session.states[0]) == (0, State.ACCEPTED)
    assert not session.redo()


def test_undo_of_many_stays_with_the_nearest_of_them(session: Session) -> None:
    session.select(2)
    session.reject([0, 1])
    assert session.current == 2
    session.undo()
    assert session.current == 1
    session.reject([0, 1, 2])
    session.undo()
    assert session.current == 1


def test_undo_of_an_added_cell_takes_it_away_and_redo_brings_it_back_in_its_row(session: Session) -> None:
    row = session.add(900, 500, 2)
    assert session.current == row
    session.undo()
    assert session.states[row] == GONE
    assert session.current is None
    assert session.at(900, 500, 50) is None
    session.redo()
    assert (session.at(900, 500, 50), session.current) == (row, row)


def test_undo_goes_back_beyond_this_sitting(session: Session) -> None:
    session.accept(0)
    session.check_region((0, 0, 50, 50))
    again = Session(None, session.case)
    assert again.undo()
    assert len(again.checked_regions) == 0
    assert again.undo()
    assert shown(again) == [(100, 100, 0, 0), (300, 100, 1, 0), (500, 100, 4, 0)]
    assert not again.undo()


def test_an_added_cell_has_the_size_of_those_found_and_the_class_given_last(session: Session) -> None:
    row = session.add(900, 500)
    assert session.cells.boxes[row].tolist() == [870, 470, 930, 530]
    assert session.cells.labels[row] == 0
    session.set_class(5, 0)
    row = session.add(1000, 500)
    assert session.cells.labels[row] == 5


@pytest.mark.parametrize(("mpp", "side"), [(0.25, 60), (0.5, 30), (None, 60)])
def test_where_nothing_was_found_an_added_cell_has_a_usual_size(case: Case, mpp: float | None, side: float) -> None:
    case.mpp = mpp
    session = Session(None, case)
    row = session.add(500, 500)
    box = session.cells.boxes[row]
    assert box[2] - box[0] == side


def test_a_cell_added_on_a_detection_takes_its_place(session: Session) -> None:
    row = session.add(305, 102, 4)
    assert session.at(300, 100, 20) == row
    assert len(shown(session)) == 3
    session.undo()
    assert (300, 100, 1, 0) in shown(session)


def test_a_box_drawn_from_any_corner_is_a_cell(session: Session) -> None:
    row = session.add_box((950, 540, 900, 500), 3)
    assert session.cells.boxes[row].tolist() == [900, 500, 950, 540]
    assert (session.cells.labels[row], session.states[row], session.current) == (3, State.ADDED, row)
    with pytest.raises(ReviewError, match="extent"):
        session.add_box((900, 500, 900, 540))


def test_a_reshaped_cell_stays_one_cell_and_undo_gives_its_box_back(session: Session) -> None:
    row = find(session, 300, 100)
    before, n = session.cells.boxes[row].tolist(), len(shown(session))
    moved = session.reshape(row, (265, 65, 345, 125))
    assert session.cells.boxes[moved].tolist() == [265, 65, 345, 125]
    assert session.states[moved] == State.ACCEPTED
    assert session.current == moved
    assert len(shown(session)) == n
    again = session.reshape(moved, (260, 65, 345, 125))
    assert len(shown(session)) == n
    assert session.cells.boxes[again].tolist() == [260, 65, 345, 125]
    session.undo()
    session.undo()
    assert session.current == session.at(300, 100, 5), "the cell stays the current one"
    assert session.cells.boxes[session.current].tolist() == before
    assert (session.states > 0).sum() == 0
    assert len(shown(session)) == n


@pytest.mark.parametrize("place", [(-1, 5), (2000, 5), (5, 1000)])
def test_no_cell_can_be_added_outside_the_slide(session: Session, place: tuple[float, float]) -> None:
    with pytest.raises(ReviewError, match="on the slide"):
        session.add(*place)


def test_a_checked_region_is_cut_to_the_slide_and_may_be_drawn_from_any_corner(session: Session) -> None:
    session.check_region((300, 200, -50, 100))
    assert session.checked_regions.tolist() == [[0, 100, 300, 200]]
    with pytest.raises(ReviewError, match="extent"):
        session.check_region((5, 5, 5, 9))
    session.undo()
    assert len(session.checked_regions) == 0


def test_checking_a_region_tells_of_the_cells_in_it_that_nobody_has_spoken_of(session: Session) -> None:
    session.accept(0)
    left = session.check_region((50, 50, 550, 150))
    assert len(left) == 2
    assert not session.states[left].any()
    assert len(session.check_region((50, 50, 150, 150))) == 0
    for label in range(len(session.taxonomy)):
        session.show_class(label, False)
    assert len(session.check_region((50, 50, 550, 150))) == 2  # they count as none, seen or not
    assert len(session.check_region((650, 50, 750, 150))) == 0  # what is below the threshold is not shown


def test_a_second_detection_of_one_cell_goes_with_the_verdict(case: Case, scan) -> None:
    scan("one", [(100, 100, 0, 0.9, 0.9), (120, 100, 3, 0.6, 0.5), (140, 100, 2, 0.6, 0.5)])
    session = Session(None, case)
    session.accept(0)
    assert shown(session) == [(100, 100, 0, State.ACCEPTED), (140, 100, 2, 0)]
    session.undo()
    assert len(shown(session)) == 3


def test_a_verdict_that_cannot_be_saved_changes_nothing(session: Session) -> None:
    session.accept(0)
    before = shown(session)
    session.case.close()
    session.select(1)
    with pytest.raises(CaseError):
        session.accept()
    assert shown(session) == before
    assert session.current == 1


def test_signals_tell_what_changed(session: Session) -> None:
    heard: list[str] = []
    session.cells_changed.connect(lambda: heard.append("cells"))
    session.counts_changed.connect(lambda: heard.append("counts"))
    session.current_changed.connect(lambda row: heard.append(f"current {row}"))
    session.select(2)
    session.select(2)
    assert heard == ["current 2"]
    session.reject(0)
    assert heard == ["current 2", "cells", "counts"]
    session.threshold = 0.5
    assert len(heard) == 3
    session.threshold = 0.6
    assert heard[3:] == ["cells", "counts"]


def test_counts_are_live(session: Session) -> None:
    session.accept(0)
    session.set_class(5, 1)
    session.reject(2)
    session.add(900, 500, 2)
    counts = session.counts()
    assert [c.detected for c in counts] == [1, 0, 1, 0, 0, 1]
    assert [c.reviewed for c in counts] == [1, 0, 1, 0, 0, 1]
    assert [c.rejected for c in counts] == [0, 0, 0, 0, 1, 0]
    session.threshold = 0.2
    assert session.counts()[0].detected == 2


def test_a_case_with_nothing_in_it(case: Case) -> None:
    session = Session(None, case)
    assert session.next() is None
    assert session.previous() is None
    assert session.at(5, 5, 100) is None
    assert len(session.visible(0, 0, 2000, 1000)) == len(session.queue) == 0
    assert not session.undo()
    assert sum(c.detected for c in session.counts()) == 0
    session.add_cells([])


def test_a_row_that_is_not_there_cannot_be_selected(session: Session) -> None:
    for row in (-1, 4):
        with pytest.raises(IndexError):
            session.select(row)


def test_everything_is_there_after_opening_the_file_again(session: Session, tmp_path: Path) -> None:
    session.accept(0)
    session.set_class(5, 1)
    session.add(900, 500, 2)
    before = shown(session)
    session.case.close()
    with Case.open(tmp_path / "one.cervcell") as case:
        assert shown(Session(None, case)) == before
