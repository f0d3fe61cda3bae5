"""The classes of a case change, and what was said in terms of the older ones stays right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, State, Verdict, export_case, import_cells
from napari_cervcell.cells import Cells
from napari_cervcell.taxonomy import BETHESDA, CellClass, Taxonomy

AGC = CellClass("AGC", "G", "#7a5cc0", "7", "high grade", 5)


def with_class(index: int, **what: object) -> Taxonomy:
    classes = list(BETHESDA.classes)
    classes[index] = replace(classes[index], **what)
    return BETHESDA.edited(classes)


@pytest.fixture
def filled(case: Case) -> Case:
    """A detection of each class, and the reviewer's words: ASC-US for LSIL, and an ASC-US that is one."""
    x = 100.0 * np.arange(1, 7)
    boxes = np.stack([x, x, x + 40, x + 40], 1)
    run = case.start_run("model", "m", "slide")
    case.write_tile(run, 0, 0, 2048, Cells(boxes, np.arange(6), np.full(6, 0.9), np.full(6, 0.9)))
    case.record(
        [
            Verdict("class", boxes[2], 1, detected_label=2, score=0.9),
            Verdict("accept", boxes[1], 1, detected_label=1, score=0.9),
        ]
    )
    return case


def test_a_new_class_can_be_given_at_once_and_by_who_opens_the_case_later(filled: Case) -> None:
    with pytest.raises(ValueError, match="not a class"):
        filled.record([Verdict("add", (1000, 0, 1040, 40), 6)])
    filled.taxonomy = BETHESDA.edited([*BETHESDA.classes, AGC])
    filled.record([Verdict("add", (1000, 0, 1040, 40), 6)])
    with Case.open(filled.path) as again:
        assert again.taxonomy.names[-1] == "AGC"
        assert again.annotations().labels.tolist() == [1, 1, 6]


def test_merged_classes_are_one_for_what_was_found_and_said_and_can_be_parted_again(filled: Case) -> None:
    assert filled.annotations().states.tolist() == [State.CORRECTED, State.ACCEPTED]
    filled.taxonomy = with_class(1, into=2)
    assert filled.detections().cells.labels.tolist() == [0, 2, 2, 3, 4, 5]
    said = filled.annotations()
    assert said.labels.tolist() == [2, 2]
    assert said.states.tolist() == [State.ACCEPTED, State.ACCEPTED]  # the reviewer and the model agree now
    filled.record([Verdict("add", (1000, 0, 1040, 40), 1)])
    assert filled.annotations().labels.tolist() == [2, 2, 2]
    filled.taxonomy = filled.taxonomy.edited(
        [replace(c, into=-1) if c.name == "ASC-US" else c for c in filled.taxonomy.classes]
    )
    assert filled.annotations().labels.tolist() == [1, 1, 1]
    assert filled.detections().cells.labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_an_export_says_the_names_of_today(filled: Case, tmp_path: Path) -> None:
    filled.taxonomy = with_class(1, name="Atypia")
    export_case(filled, tmp_path / "cells.csv", "csv")
    text = (tmp_path / "cells.csv").read_text(encoding="utf-8")
    assert "Atypia" in text
    assert "ASC-US" not in text


def test_an_earlier_export_is_understood_after_a_class_was_renamed(
    filled: Case, new_case: Callable[..., Case], tmp_path: Path
) -> None:
    export_case(filled, tmp_path / "cells.csv", "csv")
    other = new_case("other.cervcell")
    other.taxonomy = with_class(1, name="Atypia")
    import_cells(other, tmp_path / "cells.csv")
    assert other.annotations().labels.tolist() == [1, 1]


def test_classes_that_would_make_what_is_stored_wrong_are_refused(filled: Case) -> None:
    with pytest.raises(ValueError, match="does not continue"):
        filled.taxonomy = Taxonomy("other", BETHESDA.classes[::-1])
    assert filled.taxonomy == BETHESDA


def test_a_class_that_another_program_adds_and_gives_is_read_at_once(filled: Case) -> None:
    with Case.open(filled.path) as other:
        filled.annotations()
        other.taxonomy = BETHESDA.edited([*BETHESDA.classes, AGC, replace(AGC, name="Mimic", letter="Q", key="")])
        other.record([Verdict("add", (1000, 0, 1040, 40), 7)])
    assert filled.annotations().labels.tolist() == [1, 1, 7]
    assert filled.taxonomy.names[-1] == "Mimic"
    filled.record([Verdict("add", (2000, 0, 2040, 40), 6)])
    assert filled.annotations().labels.tolist() == [1, 1, 7, 6]


def test_classes_that_another_program_merges_count_as_one_here_too(filled: Case) -> None:
    filled.annotations()
    with Case.open(filled.path) as other:
        other.taxonomy = with_class(1, into=2)
    assert filled.annotations().labels.tolist() == [2, 2]
    assert filled.detections().cells.labels.tolist() == [0, 2, 2, 3, 4, 5]


def test_classes_must_continue_those_in_the_file_whoever_put_them_there(filled: Case) -> None:
    with Case.open(filled.path) as other:
        other.taxonomy = BETHESDA.edited([*BETHESDA.classes, AGC])
    with pytest.raises(ValueError, match="does not continue"):
        filled.taxonomy = with_class(0, name="Normal")
    with Case.open(filled.path) as again:
        assert again.taxonomy.names == (*BETHESDA.names, "AGC")
