"""Likeness to what was accepted and rejected."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.review.likeness import likeness, prototypes, reranked

HALF_OR_FULL = pytest.mark.parametrize("dtype", [np.float16, np.float32])


def crowds(dtype: type, n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (n, 128) in four crowds, and which crowd each is in."""
    rng = np.random.default_rng(0)
    which = rng.integers(4, size=n)
    points = rng.normal(size=(4, 128))[which] + rng.normal(size=(n, 128))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(dtype), which


@HALF_OR_FULL
def test_verdicts_lift_what_is_like_accepted_and_sink_what_is_like_rejected(dtype: type) -> None:
    embeddings, which = crowds(dtype)
    scores = np.full(len(which), 0.5, np.float32)
    judged = np.flatnonzero(which < 3)[:60]
    said = np.array([0, 1, -1])[which[judged]]
    moved = reranked(scores, embeddings, *prototypes(embeddings[judged], said, 6))
    assert moved[which <= 1].min() > 0.5 > moved[which == 2].max()
    assert abs(np.median(moved[which == 3]) - 0.5) < 0.1
    assert (scores == 0.5).all()


@HALF_OR_FULL
def test_one_verdict_moves_less_than_many(dtype: type) -> None:
    embeddings, which = crowds(dtype)
    scores = np.full(len(which), 0.5, np.float32)
    crowd = np.flatnonzero(which == 0)
    one, many = (
        reranked(scores, embeddings, *prototypes(embeddings[crowd[:n]], np.zeros(n, int), 6))[crowd[50:]].mean()
        for n in (1, 50)
    )
    assert 0.5 < one < many


def test_without_verdicts_nothing_moves() -> None:
    embeddings, _ = crowds(np.float16, 10)
    scores = np.linspace(0, 1, 10, dtype=np.float32)
    moved = reranked(scores, embeddings, *prototypes(embeddings[:0], np.zeros(0, int), 6))
    np.testing.assert_array_equal(moved, scores)
    assert not np.shares_memory(moved, scores)


def test_scores_keep_their_order_among_the_alike_and_stay_scores() -> None:
    embeddings = np.repeat(crowds(np.float32, 1)[0], 50, axis=0)
    scores = np.linspace(0, 1, 50, dtype=np.float32)
    moved = reranked(scores, embeddings, *prototypes(embeddings[:9], np.full(9, -1), 6))
    assert (np.diff(moved[1:-1]) > 0).all()
    assert ((moved >= 0) & (moved <= 1)).all()


@HALF_OR_FULL
def test_the_most_like_are_of_the_same_crowd(dtype: type) -> None:
    embeddings, which = crowds(dtype)
    alike = likeness(embeddings, embeddings[7])
    found = np.argsort(-alike)[:100]
    assert found[0] == 7
    assert (which[found] == which[7]).all()
    exact = embeddings.astype(np.float64) @ embeddings[7].astype(np.float64)
    np.testing.assert_allclose(alike, exact, atol=1e-5)


def test_likeness_among_none() -> None:
    assert likeness(np.zeros((0, 128), np.float16), np.ones(128, np.float32)).tolist() == []


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=2000))
def test_halves_are_taken_for_what_they_are(values: list[float]) -> None:
    halves = np.array(values, np.float16)[:, None]
    np.testing.assert_array_equal(likeness(halves, np.ones(1, np.float32)), halves[:, 0].astype(np.float32))
