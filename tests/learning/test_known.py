"""What is known of a slide, as far as a round builds on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Verdict, open_case
from napari_cervcell.cells import Cells
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.known import RIM, Known, case_fields, labelled_share
from napari_cervcell.slides import Slide
from napari_cervcell.taxonomy import BETHESDA


def field(cells: list[tuple[float, float]], checked: list[list[float]], left_out: tuple = ()) -> Field:
    """A field of 400 x 400 px with boxes of 20 px around `cells` and `left_out`."""

    def boxes(centres) -> np.ndarray:
        return np.array([[x - 10, y - 10, x + 10, y + 10] for x, y in centres], np.float32).reshape(-1, 4)

    return Field(
        "made", np.zeros((400, 400, 3), np.uint8), 0.4, boxes(cells), np.zeros(len(cells), np.int16),
        checked=np.array(checked, np.float32).reshape(-1, 4), left_out=boxes(left_out),
    )  # fmt: skip


QUARTER = [0, 0, 200, 200]
IN_IT = [(50, 50), (150, 50), (50, 150), (150, 150)]


def test_where_nobody_looked_cells_lie_as_densely_as_in_the_checked_regions() -> None:
    assert labelled_share([field(IN_IT, [QUARTER])]) == pytest.approx(4 / 16)
    assert labelled_share([field([*IN_IT, (300, 300), (350, 50)], [QUARTER])]) == pytest.approx(6 / 16)
    # a field in which nothing is checked, beside it
    assert labelled_share([field(IN_IT, [QUARTER]), field([], [])]) == pytest.approx(4 / 32)


def test_an_empty_checked_place_does_not_say_that_all_cells_are_labelled() -> None:
    assert labelled_share([field([(300, 300), (350, 50)], [[0, 0, 80, 80]])]) == pytest.approx(2 / 24)


def test_what_is_of_a_hidden_class_in_a_checked_region_is_no_negative(sample: Slide, tmp_path: Path) -> None:
    hidden = BETHESDA.edited([replace(BETHESDA.classes[0], hidden=True), *BETHESDA.classes[1:]])
    boxes = np.float32([[100, 100, 160, 160], [300, 100, 360, 160], [500, 100, 560, 160]])
    with open_case(tmp_path / "a.cervcell", sample, taxonomy=hidden) as case:
        cells = Cells(boxes, [0, 4, 4], *np.full((2, 3), 0.9, np.float32))
        case.write_tile(case.start_run("m", "m", "slide"), 0, 0, 2048, cells)
        case.record([Verdict("accept", boxes[1], 4, detected_label=4, score=0.9)])
        case.check_region((0, 0, 700, 700))
        known = Known.of(case, sample)
        assert known.mined.tolist() == boxes[2:].tolist()
        (seen,) = case_fields(sample, known, 0.4)
    scale = sample.mpp / 0.4
    middle = (seen.left_out[:, :2] + seen.left_out[:, 2:]) / 2 - RIM
    assert middle.tolist() == [pytest.approx([130 * scale, 130 * scale], abs=1)]


def test_a_region_checked_twice_is_no_larger() -> None:
    assert labelled_share([field(IN_IT, [QUARTER, QUARTER])]) == pytest.approx(4 / 16)


def test_all_checked_is_all_labelled_but_what_is_held_back() -> None:
    whole = [-50, -50, 450, 450]
    assert labelled_share([field(IN_IT, [whole])]) == 1
    assert labelled_share([field(IN_IT[1:], [whole], left_out=(IN_IT[0],))]) == pytest.approx(3 / 4)


def test_more_labelled_cells_than_expected_are_all_there_are() -> None:
    crowd = [(x, 300) for x in range(20, 400, 20)]
    assert labelled_share([field([(50, 50), *crowd], [QUARTER])]) == 1


def test_without_a_checked_region_nobody_knows() -> None:
    assert labelled_share([field(IN_IT, [])]) == 0
    assert labelled_share([]) == 0
    assert labelled_share([field([], [QUARTER])]) == 0
