"""The map of how many cells lie where tells true numbers, at every size of its squares."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.review.density import Density, squares_of


@given(st.integers(0, 400), st.integers(1, 300_000), st.integers(1, 300_000), st.integers(0, 2**32 - 1))
def test_every_cell_is_counted_once_where_it_lies(n: int, width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.uniform(0, 1, (n, 2)) * (width, height)).astype(np.float32)
    labels = rng.integers(0, 3, n).astype(np.int16)
    counted = rng.random(n) < 0.7
    density = Density.of(counted, squares_of(points, (width, height)), labels, (width, height), 3)
    points, labels = points[counted], labels[counted]
    assert max(density.counts.shape[:2]) <= 512
    for shown in (density, density.coarser(2000), density.coarser(1e9)):
        assert shown.counts.sum(axis=(0, 1)).tolist() == np.bincount(labels, minlength=3).tolist()
        for point, label in zip(points[:20], labels[:20], strict=True):
            column, row = np.minimum(point / shown.square, np.array(shown.counts.shape[1::-1]) - 1).astype(int)
            assert shown.counts[row, column, label] > 0
    assert density.coarser(1e9).counts.shape[:2] == (1, 1)


@given(st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_what_a_rectangle_holds_is_never_more_than_told(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 5000, (n, 2)).astype(np.float32)
    squares = squares_of(points, (5000, 5000))
    density = Density.of(np.ones(n, bool), squares, np.zeros(n, np.int16), (5000, 5000), 1)
    x1, x2 = np.sort(rng.uniform(-1000, 6000, 2))
    y1, y2 = np.sort(rng.uniform(-1000, 6000, 2))
    inside = ((points >= (x1, y1)) & (points <= (x2, y2))).all(1).sum()
    assert inside <= density.about(x1, y1, x2, y2) <= n
    assert density.about(-1, -1, 5001, 5001) == n
