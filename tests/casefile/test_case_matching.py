"""Which detection is which annotation."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cervcell.casefile import Case, State, Verdict, match, present_cells
from napari_cervcell.cells import Cells


def boxes(*centres: tuple[float, float], side: float = 40.0) -> np.ndarray:
    points = np.array(centres, np.float32).reshape(-1, 2)
    return np.concatenate([points - side / 2, points + side / 2], axis=1)


def test_within_half_a_side_and_no_further() -> None:
    found = match(boxes((100, 100), (120, 100), (121, 100)), boxes((100, 100)))
    assert found.partners.tolist() == [0]
    assert found.covered.tolist() == [True, True, False]


def test_pairs_are_one_to_one_nearest_first() -> None:
    # the left annotation is near both detections, the right one near only the right detection, but nearer
    found = match(boxes((100, 100), (112, 100)), boxes((108, 100), (113, 100)))
    assert found.partners.tolist() == [0, 1]
    assert match(boxes((100, 100)), boxes((101, 100), (102, 100))).partners.tolist() == [0, -1]


def test_nothing_to_match() -> None:
    assert match(boxes(), boxes((1, 1))).partners.tolist() == [-1]
    assert match(boxes((1, 1)), boxes()).covered.tolist() == [False]


centres = hnp.arrays(np.float32, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(0, 120).map(float))


@settings(max_examples=80, deadline=None)
@given(detected=centres, annotated=centres, side=st.sampled_from([10.0, 40.0]))
def test_against_the_rule_word_for_word(detected: np.ndarray, annotated: np.ndarray, side: float) -> None:
    found = match(boxes(*detected, side=33), boxes(*annotated, side=side))
    distance = np.hypot(*(detected[:, None] - annotated[None]).transpose(2, 0, 1))
    within = distance <= side / 2
    np.testing.assert_array_equal(found.covered, within.any(axis=1))
    taken = found.partners[found.partners >= 0]
    assert len(set(taken.tolist())) == len(taken)
    for a, i in enumerate(found.partners):
        assert i < 0 or within[i, a]
    # stable: no detection and annotation within reach would both rather have each other
    for i, a in zip(*np.nonzero(within), strict=True):
        of_annotation = distance[found.partners[a], a] if found.partners[a] >= 0 else np.inf
        [held_by] = np.nonzero(found.partners == i)[0:1]
        of_detection = distance[i, held_by[0]] if len(held_by) else np.inf
        assert distance[i, a] >= min(of_annotation, of_detection)


def test_present_cells_are_the_annotations_and_the_detections_nobody_spoke_of(case: Case) -> None:
    detected = Cells(boxes((100, 100), (300, 100), (500, 100)), [1, 2, 3], [0.5, 0.625, 0.75], [0.5, 0.5, 0.5])
    accepted, added = boxes((305, 100), (900, 100))
    ids = case.record([Verdict("class", accepted, 4, detected_label=2, score=0.625), Verdict("add", added, 5)])
    present = present_cells(detected, case.annotations())
    assert present.states.tolist() == [State.CORRECTED, State.ADDED, 0, 0]
    assert present.annotation_ids.tolist() == [*ids, -1, -1]
    assert present.detections.tolist() == [1, -1, 0, 2]
    assert present.cells.labels.tolist() == [4, 5, 1, 3]
    np.testing.assert_array_equal(present.cells.scores, np.array([0.625, np.nan, 0.5, 0.75], np.float32))
    np.testing.assert_array_equal(present.cells.boxes[0], accepted)


def test_a_rejected_cell_does_not_come_back_as_a_new_one(case: Case) -> None:
    [box] = boxes((100, 100))
    case.record([Verdict("reject", box, 1, detected_label=1)])
    present = present_cells(Cells(boxes((104, 97)), [3], [0.9], [0.9]), case.annotations())
    assert present.states.tolist() == [State.REJECTED]
