"""Geometry that every stage relies on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cervcell.cells import Cells, GridIndex, iou_with, suppress, union_area

coordinates = st.floats(-1e4, 1e5, width=32)


def some_cells(n: int, rng: np.random.Generator, side: float = 60) -> Cells:
    corner = rng.uniform(0, 400, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(side / 2, side, (n, 2))], 1)
    return Cells(boxes, rng.integers(0, 6, n), rng.random(n), rng.random(n))


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 60), st.just(2)), elements=coordinates), st.data())
def test_the_index_finds_what_a_plain_search_finds(points: np.ndarray, data: st.DataObject) -> None:
    index = GridIndex(points, square=data.draw(st.sampled_from([100.0, 512.0, 5000.0])))
    x1, x2 = sorted(data.draw(st.tuples(coordinates, coordinates)))
    y1, y2 = sorted(data.draw(st.tuples(coordinates, coordinates)))
    x, y = points.T
    plain = np.flatnonzero((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2))
    assert sorted(index.within(x1, y1, x2, y2)) == plain.tolist()
    side = index.square
    about = np.flatnonzero((x >= x1 - side) & (x <= x2 + side) & (y >= y1 - side) & (y <= y2 + side))
    assert len(plain) <= index.at_most(x1, y1, x2, y2) <= len(about)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 60), st.just(2)), elements=coordinates),
    hnp.arrays(np.float32, st.tuples(st.integers(0, 8), st.just(2)), elements=coordinates),
    st.floats(0, 3000, width=32),
)
def test_pairs_are_those_that_a_plain_search_finds(points: np.ndarray, centres: np.ndarray, reach: float) -> None:
    reaches = np.linspace(0, reach, len(centres), dtype=np.float32)
    of, near, distances = GridIndex(points).pairs(centres, reaches)
    apart = np.hypot(*(points[None] - centres[:, None]).transpose(2, 0, 1))
    assert set(zip(of.tolist(), near.tolist(), strict=True)) == set(
        zip(*(i.tolist() for i in np.nonzero(apart <= reaches[:, None])), strict=True)
    )
    np.testing.assert_array_equal(distances, apart[of, near])


def test_nearest_is_the_nearest_within_the_radius() -> None:
    index = GridIndex(np.array([[0, 0], [10, 0], [1000, 1000]], np.float32))
    assert index.nearest(6, 0, 20) == 1
    assert index.nearest(500, 500, 20) is None
    assert GridIndex(np.zeros((0, 2), np.float32)).nearest(0, 0, 10) is None


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_suppression_keeps_the_best_and_leaves_no_overlap(seed: int, n: int) -> None:
    cells = some_cells(n, np.random.default_rng(seed))
    kept = suppress(cells, 0.4)
    for i, k in enumerate(kept):
        assert (iou_with(cells.boxes[k], cells.boxes[np.delete(kept, i)]) <= 0.4).all()
    for gone in set(range(n)) - set(kept.tolist()):
        better = kept[cells.scores[kept] >= cells.scores[gone]]
        assert (iou_with(cells.boxes[gone], cells.boxes[better]) > 0.4).any()


def test_overlap_of_boxes() -> None:
    one = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    assert iou_with(one, others) == pytest.approx([1, 1 / 3, 0, 0])


@given(st.integers(0, 2**32 - 1), st.integers(0, 20))
def test_stored_cells_come_back_as_they_were(seed: int, n: int) -> None:
    cells = some_cells(n, np.random.default_rng(seed))
    back = Cells.from_bytes(cells.to_bytes())
    for name in ("boxes", "labels", "scores", "class_scores"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cells, name))


def test_moving_scales_and_then_shifts() -> None:
    cells = Cells(np.array([[1, 2, 3, 4]]), [0], [1], [1]).moved(10, 20, 2)
    assert cells.boxes.tolist() == [[12, 24, 16, 28]]


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        Cells(np.zeros((2, 4)), [0], [1], [1])


@given(hnp.arrays(np.int64, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(0, 40)))
def test_what_several_boxes_cover_counts_once(corners: np.ndarray) -> None:
    x1, y1, x2, y2 = corners.T
    boxes = np.stack([np.minimum(x1, x2), np.minimum(y1, y2), np.maximum(x1, x2), np.maximum(y1, y2)], 1)
    painted = np.zeros((40, 40), bool)
    for left, top, right, bottom in boxes:
        painted[top:bottom, left:right] = True
    assert union_area(boxes.astype(np.float32)) == painted.sum()
