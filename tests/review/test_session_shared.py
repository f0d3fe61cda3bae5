"""A case that another window or program writes to meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, State, export_case, import_cells
from napari_cervcell.errors import CervcellError
from napari_cervcell.review import ClassesChanged, Session, read_verdicts
from napari_cervcell.review.worklist import Worklist
from napari_cervcell.slides import open_slide
from napari_cervcell.slides.layers import get_reader
from napari_cervcell.taxonomy import BETHESDA, CellClass

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


SAYINGS: dict[str, Callable[[Session], object]] = {
    "accept": lambda session: session.accept(1),
    "add": lambda session: session.add(900, 500),
    "check": lambda session: session.check_region((0, 0, 50, 50)),
    "import": lambda session: session.import_verdicts([(300, 100, "reject")]),
    "undo": lambda session: session.undo(),
}


@pytest.mark.parametrize("what", SAYINGS)
def test_classes_added_elsewhere_are_taken_up_before_anything_is_said(session: Session, what: str) -> None:
    new = [CellClass(name, letter, "#3b4cc0", "", "negative", 0) for name, letter in (("AGC", "G"), ("Mimic", "Q"))]
    with Case.open(session.case.path) as case:
        case.taxonomy = BETHESDA.edited([*BETHESDA.classes, *new])
        Session(None, case).set_class(7, 0)
    session.select(2)
    before = len(session.case.events())
    with pytest.raises(ClassesChanged):
        SAYINGS[what](session)
    assert len(session.case.events()) == before
    assert len(session.figures()) == len(session.counts()) == 6  # as if nothing had happened, until it is read anew
    session.reload()
    assert session.current == find(session, 500, 100)
    assert (100, 100, 7, State.CORRECTED) in shown(session)
    assert session.counts()[7].reviewed == 1
    assert len(session.figures()) == 8
    SAYINGS[what](session)
    assert len(session.case.events()) == before + 1


def test_figures_hold_while_another_program_marks_a_region_as_checked(session: Session) -> None:
    with Case.open(session.case.path) as case:
        Session(None, case).check_region((0, 0, 400, 400))
    assert len(session.figures()) == 6


def test_whatever_looks_at_the_file_of_an_open_case_its_log_is_left_to_it(case: Case) -> None:
    """To open and close it otherwise than with SQLite would let the next program to close it delete the log."""
    path = case.path
    log = path.with_name(path.name + "-wal")
    case.check_region((0, 0, 10, 10))
    refused: list[Callable[[Path], object]] = [
        open_slide,
        read_verdicts,
        lambda file: import_cells(case, file),
        lambda file: export_case(case, file, "csv"),
        Worklist.open,
        lambda file: Worklist.open(file.parent),
    ]
    for look in refused:
        with pytest.raises(CervcellError):
            look(path)
    assert [get_reader(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")] == [None] * 3
    code = "import sys; from napari_cervcell.casefile import Case; Case.open(sys.argv[1]).close()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert log.exists()
