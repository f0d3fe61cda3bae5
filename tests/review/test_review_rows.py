from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cervcell.review.rows import GrowingIndex, Rows


@given(st.lists(st.integers(0, 40), max_size=12))
def test_rows_keep_what_was_written_while_they_grow(sizes: list[int]) -> None:
    rows = Rows({"number": np.int64(-1), "pair": np.zeros(2, np.float32)})
    for n in sizes:
        added = rows.append(n, number=np.arange(len(rows), len(rows) + n))
        rows["pair"][added] = added[:, None]
    total = sum(sizes)
    assert len(rows) == total
    np.testing.assert_array_equal(rows["number"], np.arange(total))
    np.testing.assert_array_equal(rows["pair"], np.arange(total)[:, None] * np.ones(2))
    assert rows["pair"].dtype == np.float32


def test_a_row_that_is_given_nothing_has_the_default() -> None:
    rows = Rows({"number": np.int16(-1)})
    rows.append(2)
    rows.append(1, number=5)
    assert rows["number"].tolist() == [-1, -1, 5]


@given(
    sizes=st.lists(st.sampled_from([0, 1, 7, 300, 1500]), max_size=12),
    box=st.tuples(*[st.floats(-50, 1050)] * 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_the_index_finds_what_a_search_through_all_finds(sizes: list[int], box: tuple[float, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = GrowingIndex()
    for n in sizes:
        index.add((rng.random((n, 2)) * 1000).astype(np.float32))
    x1, x2, y1, y2 = *sorted(box[:2]), *sorted(box[2:])
    x, y = index.points.T
    expected = np.flatnonzero((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2))
    np.testing.assert_array_equal(np.sort(index.within(x1, y1, x2, y2)), expected)
    assert len(expected) <= index.at_most(x1, y1, x2, y2) <= len(index)
    assert len(index) == sum(sizes)


def test_many_small_additions_do_not_make_many_runs() -> None:
    index = GrowingIndex()
    rng = np.random.default_rng(0)
    for _ in range(600):
        index.add(rng.random((100, 2)).astype(np.float32))
    assert len(index._runs) < 10
    assert len(index.within(0, 0, 1, 1)) == 60_000
