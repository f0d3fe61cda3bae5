"""Many slides, each with its own case."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from napari_cervcell.casefile import Case, Verdict, default_case_path, open_case
from napari_cervcell.cells import Cells
from napari_cervcell.review import Session
from napari_cervcell.review.worklist import Standing, Worklist, WorklistError
from napari_cervcell.slides import open_slide, sample_slide

BOX = (100.0, 100.0, 140.0, 140.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three slides and what else lies about."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("b.tiff", "A.tiff", "c.tiff"):
        shutil.copy(sample_slide(), folder / name)
    (folder / "notes.txt").write_text("no slide")
    (folder / "empty").mkdir()
    return folder


def case_of(slide: Path, path: Path | None = None) -> Case:
    with open_slide(slide) as opened:
        return open_case(path or default_case_path(slide), opened, "ada")


def detect(case: Case) -> None:
    run = case.start_run("abc", "a model", "slide")
    boxes = [BOX, (300.0, 300.0, 340.0, 340.0), (500.0, 500.0, 540.0, 540.0)]
    case.write_tile(run, 0, 0, 4096, Cells(boxes, [0, 1, 2], [0.9, 0.8, 0.05], [0.7, 0.7, 0.7]))
    case.finish_run(run)


def test_a_folder_lists_its_slides_by_name_and_nothing_else(folder: Path) -> None:
    worklist = Worklist.open(folder)
    assert [item.slide.name for item in worklist.items] == ["A.tiff", "b.tiff", "c.tiff"]
    assert worklist.index(folder / ".." / "slides" / "b.tiff") == 1
    assert worklist.index(sample_slide()) is None


def test_a_table_names_slides_and_cases_from_where_it_lies(folder: Path) -> None:
    table = folder / "monday.csv"
    table.write_text("Case,SLIDE,ward\nx.cervcell,c.tiff,3\n,gone.svs,4\n,c.tiff,5\n\n", encoding="utf-8-sig")
    worklist = Worklist.open(table)
    assert [(item.slide.name, item.case and item.case.name) for item in worklist.items] == [
        ("c.tiff", "x.cervcell"),
        ("gone.svs", None),
    ]
    assert worklist.items[1].standing().state == "missing"
    assert worklist.next_to_do(0) is None, "what is missing cannot be next"
    table.write_text("slide\nc.tiff\ngone.svs\nb.tiff\n")
    assert Worklist.open(table).before(2) == 0, "nor before"


@pytest.mark.parametrize("text", ["name\na.tiff\n", "slide\n", "slide\n,\n"])
def test_a_table_without_slides_is_refused(tmp_path: Path, text: str) -> None:
    table = tmp_path / "list.csv"
    table.write_text(text)
    with pytest.raises(WorklistError, match=r"list\.csv"):
        Worklist.open(table)


def test_an_empty_folder_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(WorklistError, match=path.name):
            Worklist.open(path)


def test_a_case_is_new_then_detected_then_in_review_then_done(folder: Path) -> None:
    item = Worklist.open(folder).items[0]
    assert item.standing() == Standing("new")
    with case_of(item.slide) as case:
        assert item.standing().state == "new"
        detect(case)
        assert (item.standing().state, item.standing().cells) == ("detected", 2)
        session = Session(None, case)
        session.reject(0)
        case.note_opened()
        standing = item.standing()
        assert (standing.state, standing.reviewed, standing.cells, standing.who) == ("in review", 1, 2, "ada")
        assert standing.opened
        assert standing == Standing.of(session)
        case.set_done(True)
        assert item.standing().state == "done"
        assert item.is_done()
        case.set_done(False)
        assert item.standing().state == "in review"
        assert [e.kind for e in case.events()] == ["reject", "done", "reopen"]


def test_what_was_called_done_is_not_undone_by_undo(folder: Path) -> None:
    with case_of(folder / "b.tiff") as case:
        case.record([Verdict("add", BOX, 1)])
        case.set_done(True)
        assert case.undo()
        assert len(case.annotations()) == 0
        assert case.done is not None
        assert case.redo()
        assert case.done[1] == "ada"


def test_the_next_case_is_the_next_that_is_not_done(folder: Path) -> None:
    worklist = Worklist.open(folder)
    assert worklist.next_to_do(None) == 0
    with case_of(folder / "b.tiff") as case:
        case.set_done(True)
    assert worklist.next_to_do(0) == 2
    assert worklist.next_to_do(2) == 0
    assert worklist.next_to_do(0, without={2}) is None
    assert worklist.next_to_do(None, without={0}) == 2
    for name in ("A.tiff", "c.tiff"):
        with case_of(folder / name) as case:
            case.set_done(True)
    assert worklist.next_to_do(0) is None
    assert worklist.next_to_do(None) is None
    assert [worklist.before(at) for at in (None, 0, 1)] == [None, None, 0]


def test_a_damaged_case_is_told_and_stops_nothing(folder: Path) -> None:
    default_case_path(folder / "A.tiff").write_bytes(b"no case at all")
    worklist = Worklist.open(folder)
    standing = worklist.items[0].standing()
    assert standing.state == "unreadable"
    assert "A.tiff.cervcell" in standing.message
    assert worklist.next_to_do(2) == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that this user may not write to")
def test_slides_that_may_not_be_written_beside_have_their_cases_in_the_data_folder(folder: Path) -> None:
    from napari_cervcell.review.places import case_path_for

    folder.chmod(0o555)
    try:
        with open_slide(folder / "b.tiff") as slide:
            path = case_path_for(slide)
        with case_of(folder / "b.tiff", path) as case:
            case.set_done(True)
        assert Worklist.open(folder).items[1].is_done()
    finally:
        folder.chmod(0o755)
