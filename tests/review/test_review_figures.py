from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.casefile import State
from napari_cervcell.review import Precision
from napari_cervcell.review.figures import counts_of, tally, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (0, 0, 0, 1)]
)
def test_wilson_interval(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_interval_holds_the_share(n: int, share: float) -> None:
    right = round(share * n)
    low, high = wilson(right, n)
    assert 0 <= low <= right / n + 1e-9
    assert right / n - 1e-9 <= high <= 1


def test_precision_says_when_enough_was_reviewed() -> None:
    assert math.isnan(Precision(0, 0).value)
    assert not Precision(0, 0).enough
    assert not Precision(9, 10).enough
    assert Precision(90, 100).enough
    assert Precision(90, 100).value == 0.9


def test_counts_leave_out_what_is_gone_below_the_threshold_or_of_no_class() -> None:
    labels = np.array([0, 0, 0, 0, 1, -1, 1], np.int16)
    states = np.array([0, 0, -1, State.ADDED, State.REJECTED, State.REJECTED, State.CORRECTED], np.int8)
    scores = np.array([0.9, 0.2, -1, np.nan, 0.9, np.nan, 0.1], np.float32)
    assert counts_of(tally(labels, states, scores, 0.5, 3)) == [(2, 1, 0), (1, 1, 1), (0, 0, 0)]
