"""What is known of a slide, as far as a round builds on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Annotations, Case, State, Verdict, match, open_case
from napari_cervcell.cells import Cells
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.known import RIM, Known, case_fields, case_windows, held_back, in_turn, labelled_share
from napari_cervcell.learning.targets import assign
from napari_cervcell.slides import Slide
from napari_cervcell.taxonomy import BETHESDA


def field(cells: list[tuple[float, float]], checked: list[list[float]], left_out: tuple = ()) -> Field:
    """A field of 400 x 400 px with boxes of 20 px around `cells` and `left_out`, which are cells too."""

    def boxes(centres) -> np.ndarray:
        return np.array([[x - 10, y - 10, x + 10, y + 10] for x, y in centres], np.float32).reshape(-1, 4)

    return Field(
        "made", np.zeros((400, 400, 3), np.uint8), 0.4, boxes(cells), np.zeros(len(cells), np.int16),
        checked=np.array(checked, np.float32).reshape(-1, 4), left_out=boxes(left_out),
        withheld=boxes(left_out),
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


MPP = 0.4
SIDE = 1024.0  # level-0 px of a window of a full round at that, of a slide of 0.25


def box(x: float, y: float, side: float = 60) -> tuple[float, float, float, float]:
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


@pytest.fixture
def case(sample: Slide, tmp_path: Path) -> Iterator[Case]:
    with open_case(tmp_path / "said.cervcell", sample) as case:
        yield case


def test_a_cell_that_two_readers_marked_trains_or_judges_but_never_both(case: Case, sample: Slide) -> None:
    places = [(300.0 + 200 * i, 400.0) for i in range(40)]
    case.record([Verdict("add", box(x, y), 0) for x, y in places])
    alone = Known.of(case, sample)
    case.record([Verdict("add", box(x + 8, y, 80), 4) for x, y in places[:20]])
    case.record([Verdict("reject", box(*places[20]), -1)])
    known = Known.of(case, sample)
    assert len(known.annotations) == 40
    assert 0 < len(known.judges) < 40
    assert not match(known.judges.boxes, known.learnt.boxes).covered.any()
    # what was said last counts
    order = np.argsort(known.annotations.boxes[:, 0])
    assert known.annotations.labels[order].tolist() == [4] * 20 + [-1] + [0] * 19
    # and what judged before still does
    assert match(known.judges.boxes, alone.judges.boxes).covered.all()
    assert len(known.judges) == len(alone.judges)


def test_a_verdict_given_again_counts_though_its_annotation_is_older(case: Case, sample: Slide) -> None:
    [first] = case.record([Verdict("add", box(300, 300), 0)])
    case.record([Verdict("add", box(305, 300), 1)])
    case.record([Verdict("class", box(300, 300), 2, cell=first)])
    assert Known.of(case, sample).annotations.labels.tolist() == [2]


def test_neighbours_in_a_clump_are_two_cells(case: Case, sample: Slide) -> None:
    case.record([Verdict("add", box(x, 300), 0) for x in (300, 325)])
    assert len(Known.of(case, sample).annotations) == 2


def test_cells_in_a_box_around_a_crowd_are_cells_of_their_own(case: Case, sample: Slide) -> None:
    case.record([Verdict("add", box(x, y), 0) for x in (460, 540) for y in (460, 540)])
    case.record([Verdict("add", box(500, 500, 300), 4)])
    assert len(Known.of(case, sample).annotations) == 5


def test_the_newest_cells_are_those_that_were_judged_last(case: Case) -> None:
    ids = case.record([Verdict("add", box(300.0 + 100 * i, 300), 0) for i in range(5)])
    case.record([Verdict("class", box(500, 300), 0, cell=ids[2])])
    assert in_turn(case.annotations()).ids.tolist() == [ids[i] for i in (2, 4, 3, 1, 0)]


def test_a_cell_just_outside_a_field_is_no_background_in_it(case: Case, sample: Slide) -> None:
    """Known, or held back: the field ends, with its rim, at 1088 level-0 px."""
    case.record([Verdict("add", box(1092, 200.0 + 100 * i), 0) for i in range(8)])
    case.check_region((-200, -200, 2200, 1200))
    known = Known.of(case, sample)
    assert 0 < len(known.judges) < 8
    fields = {f.name: f for f in case_fields(sample, known, MPP)}
    seen, beside = fields["0-0"], fields["1-0"]
    size = seen.rgb.shape[0]
    inside = np.array([0, 0, size, size], np.float32)
    targets = assign((size, size), seen.boxes, seen.labels, seen.rejected, seen.checked, inside, seen.left_out)
    rows = ((200 + 100 * np.arange(8) + 64) / 1.6 / 4).astype(int)
    assert not len(seen.boxes)
    assert not targets.known[rows, -1].any()
    assert targets.known[10, -1]
    # there it is no cell of this field, and counts once
    assert labelled_share([seen, beside]) == pytest.approx(len(known.learnt) / 8)


def test_a_rejection_that_is_held_back_is_no_cell_without_a_label(case: Case, sample: Slide) -> None:
    places = [box(200.0 + 100 * i, 300) for i in range(8)]
    ids = case.record([Verdict("add", place, 0) for place in places])
    back = np.flatnonzero(held_back(np.array(ids))).tolist()
    case.record([Verdict("reject", places[i], -1, cell=ids[i]) for i in back])
    case.check_region((-100, -100, 1200, 1200))
    known = Known.of(case, sample)
    assert (known.judges.states == State.REJECTED).all()
    assert len(known.judges) == len(back) > 0
    assert labelled_share([f for f in case_fields(sample, known, MPP) if f.name == "0-0"]) == 1


def window_of(annotations: Annotations) -> set[tuple[int, int]]:
    return {(int(x // SIDE), int(y // SIDE)) for x, y in annotations.boxes[:, :2] + 30}


def test_a_full_round_on_a_slide_that_is_wholly_checked_fits_into_memory(case: Case, sample: Slide) -> None:
    """Of the windows without a correction it reads some, of all parts of the slide."""
    case.check_region((0, 0, 80_000, 60_000))
    case.record([Verdict("add", box(500, 500.0 + SIDE * i), 0) for i in range(30)])
    known = Known.of(case, sample)
    windows = case_windows(known, SIDE)
    assert window_of(known.annotations) <= set(windows)
    assert 128 <= len(windows) - 30 <= 256
    quarters = {(column > 40, row > 30) for column, row in windows}
    assert len(quarters) == 4
    assert windows == case_windows(known, SIDE) == sorted(set(windows))


def test_where_corrections_lie_too_far_apart_a_full_round_reads_the_newest_of_every_class(
    case: Case, sample: Slide
) -> None:
    places = [box(500 + SIDE * (i % 30), 500 + SIDE * (i // 30)) for i in range(600)]
    case.record([Verdict("add", place, 4 if i < 5 else 0) for i, place in enumerate(places)])
    known = Known.of(case, sample)
    windows = set(case_windows(known, SIDE))
    assert len(windows) == 512
    said = known.annotations
    assert window_of(said[said.labels == 4]) | window_of(said[-500:]) <= windows
