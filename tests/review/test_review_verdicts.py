"""Verdicts from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_cervcell.casefile import State
from napari_cervcell.review import Imported, ReviewError, Session, read_verdicts


def written(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "verdicts.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_reads_the_three_columns_wherever_they_are(tmp_path: Path) -> None:
    path = written(tmp_path, "Class,score,X,y\r\nHSIL,0.5,10,20.5\r\nreject,,1e2,3\r\n", "utf-8-sig")
    assert read_verdicts(path) == [(10, 20.5, "HSIL"), (100, 3, "reject")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x,y\n1,2\n", "no column class"),
        ("", "no column x, y, class"),
        ("x,y,class\n1,2,NILM\n3,left,NILM\n", r"line 3: x and y must be numbers, not '3' and 'left'"),
        ("x,y,class\n1\n", "line 2"),
        ("x,y,class,state\n1,2,NILM,rejected\n", "cervcell import"),
    ],
)
def test_a_wrong_file_is_named_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ReviewError, match=says) as refused:
        read_verdicts(written(tmp_path, text))
    assert "verdicts.csv" in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path, written(tmp_path, "x,y,class\n1,2,\xe9\n", "latin-1")):
        with pytest.raises(ReviewError, match=str(path)):
            read_verdicts(path)


def test_each_verdict_is_about_the_nearest_cell(session: Session) -> None:
    done = session.import_verdicts(
        [(104, 98, "NILM"), (300, 110, "hsil"), (500, 100, "reject"), (700, 100, "NILM"), (1500, 500, "SCC")]
    )
    assert done == Imported(accepted=2, corrected=1, rejected=1, added=1, same=0)
    said = session.case.annotations()
    assert said.states.tolist() == [
        State.ACCEPTED, State.CORRECTED, State.REJECTED, State.ACCEPTED, State.ADDED,
    ]  # fmt: skip
    assert said.boxes[0].tolist() == [70, 70, 130, 130]  # that of the detection, not of the click
    assert said.boxes[4].tolist() == [1470, 470, 1530, 530]


def test_an_import_is_one_step_of_undo(session: Session) -> None:
    session.import_verdicts([(100, 100, "NILM"), (300, 100, "reject"), (1500, 500, "SCC")])
    assert session.undo()
    assert not session.undo()
    assert len(session.case.annotations()) == 0


def test_the_same_import_again_says_nothing_new(session: Session) -> None:
    rows = [(100, 100, "LSIL"), (300, 100, "reject"), (1500, 500, "SCC"), (1700, 500, "reject")]
    assert session.import_verdicts(rows).same == 0
    events = len(session.case.events())
    assert session.import_verdicts(rows) == Imported(0, 0, 0, 0, same=4)
    assert len(session.case.events()) == events


def test_of_two_rows_on_one_place_the_later_one_counts(session: Session) -> None:
    done = session.import_verdicts([(100, 100, "reject"), (100, 100, "SCC")])
    assert done == Imported(accepted=0, corrected=1, rejected=0, added=0, same=0)


def test_of_two_places_on_one_cell_the_nearer_one_is_that_cell(session: Session) -> None:
    done = session.import_verdicts([(110, 100, "SCC"), (101, 100, "NILM")])
    assert (done.accepted, done.added) == (1, 1)
    assert session.states[0] == State.ACCEPTED


def test_a_rejection_where_nothing_was_found_is_kept_as_a_known_negative(session: Session) -> None:
    assert session.import_verdicts([(1500, 500, "Reject")]).rejected == 1
    said = session.case.annotations()
    assert (said.states.tolist(), said.labels.tolist()) == ([State.REJECTED], [-1])
    row = session.at(1500, 500, 5)
    session.accept(row)
    assert session.case.annotations().labels.tolist() == [0]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((100, 100, "AGC"), r"Verdict 2: no class 'AGC' in The Bethesda System: it has NILM.*or reject"),
        ((100, 100, ""), "Verdict 2: no class ''"),
        ((2000, 100, "NILM"), "Verdict 2 is at .* outside the slide, which is 2000 x 1000 px"),
        ((float("nan"), 100, "NILM"), "outside the slide"),
    ],
)
def test_one_wrong_row_and_nothing_is_imported(session: Session, row: tuple[float, float, str], says: str) -> None:
    with pytest.raises(ReviewError, match=says):
        session.import_verdicts([(300, 100, "NILM"), row])
    assert len(session.case.annotations()) == 0
