"""Hard negatives: certified ones always, never a cell, and every one with a reason."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cervcell.cells import centres_of
from napari_cervcell.learning.fields import DataError, Field
from napari_cervcell.learning.mining import (
    EXCLUSION_UM,
    GRID,
    Candidates,
    Mined,
    Regime,
    Source,
    Why,
    gather,
    mine,
    search,
)
from napari_cervcell.learning.outoffold import MiningError, Scorer, out_of_fold, safety_cut
from napari_cervcell.learning.patchclassifier import balanced_batch, fit_patches
from napari_cervcell.learning.patches import cut_patches, known_cells
from napari_cervcell.learning.voting import hits, pooled_f1, vote

from .drawn import boxes, field, patches

WHOLE = np.array([[0, 0, 400, 300]], np.float32)
places = st.lists(st.tuples(st.floats(-20, 420), st.floats(-20, 320)), max_size=8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pool(n: int = 1000, rejected: int = 0, unlabelled: int = 0) -> tuple[Candidates, np.ndarray]:
    source = np.full(n, Source.BACKGROUND, np.int64)
    source[:rejected] = Source.REJECTED
    source[rejected : rejected + unlabelled] = Source.UNLABELLED
    return Candidates(np.zeros(n, np.int64), np.zeros((n, 2), np.float32), source), rng(1).random(n, np.float32)


@given(cells=places, rejected=places, found=places, left_out=places, checked=st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_negative_lies_within_the_exclusion_radius_of_a_cell(
    cells: list[tuple[float, float]],
    rejected: list[tuple[float, float]],
    found: list[tuple[float, float]],
    left_out: list[tuple[float, float]],
    checked: bool,
) -> None:
    where = field(
        "f", cells, rejected=boxes(*rejected), left_out=boxes(*left_out), checked=WHOLE if checked else WHOLE[:0]
    )
    detections = np.array(found, np.float32).reshape(-1, 2)
    candidates = gather([where], [detections])
    cells_at = centres_of(np.concatenate([where.boxes, where.left_out]))
    distance = np.linalg.norm(candidates.centres[:, None] - cells_at[None], axis=-1)
    assert (distance >= EXCLUSION_UM / where.mpp - 1e-3).all()
    assert ((candidates.centres >= 0) & (candidates.centres < (400, 300))).all()
    sources = set(candidates.source.tolist())
    assert not checked or Source.UNLABELLED not in sources
    assert checked or not sources & {Source.LOOK_ALIKE, Source.BACKGROUND}


def test_the_pool_says_where_each_negative_comes_from() -> None:
    half = np.array([[0, 0, 200, 300]], np.float32)
    labelled = field("labelled", [(20, 20)], rejected=boxes((120, 250)), checked=half)
    detections = [np.array([[110, 45], [300, 45]], np.float32), np.array([[50, 60]], np.float32)]
    candidates = gather([labelled, field("nobody", [])], detections)

    def at(x: float, y: float, i: int) -> int:
        near = (candidates.field == i) & (np.hypot(*(candidates.centres - (x, y)).T) < 1)
        (source,) = candidates.source[near]
        return int(source)

    assert at(120, 250, 0) == Source.REJECTED
    assert at(110, 45, 0) == Source.LOOK_ALIKE
    assert at(300, 45, 0) == Source.UNLABELLED
    assert at(50, 60, 1) == Source.UNLABELLED
    assert (candidates.source[candidates.field == 1] == Source.UNLABELLED).all()
    on_grid = candidates.source[(candidates.field == 0) & (candidates.centres[:, 0] < 200)]
    assert (on_grid == Source.BACKGROUND).sum() > 5


def test_an_unlabelled_negative_vanishes_when_a_cell_is_labelled_there() -> None:
    found = np.array([[210, 130]], np.float32)
    before = gather([field("f", [])], [found])
    after = gather([field("f", [(215, 133)])], [found])
    mined = mine(before, np.zeros(len(before), np.float32), Regime(), rng(), cut=0.5)
    records = mined.provenance(before, np.zeros(len(before)), [field("f", [])])
    (mine_,) = [r for r in records if (r["x"], r["y"]) == (210, 130)]
    assert mine_["source"] == "unlabelled"
    assert not (np.hypot(*(after.centres - found[0]).T) < EXCLUSION_UM / 0.25).any()


def test_the_widest_regime_returns_the_whole_pool() -> None:
    candidates, scores = pool(rejected=30)
    mined = mine(candidates, scores, Regime(0, 1, 0), rng(), cut=math.inf)
    assert mined.index.tolist() == list(range(1000))
    assert mined.share == 1


@given(a=st.floats(0, 1), b=st.floats(0, 1), rejected=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_a_narrower_band_keeps_no_more(a: float, b: float, rejected: int) -> None:
    candidates, scores = pool(200, rejected)
    a, b = min(a, b), max(a, b)

    def kept(lower: float, upper: float) -> set[int]:
        return set(mine(candidates, scores, Regime(lower, upper), rng(), cut=1).index.tolist())

    assert kept(a, b) <= kept(a / 2, b)
    assert kept(a, b) <= kept(a, (b + 1) / 2)
    assert set(range(rejected)) <= kept(a, b)


@pytest.mark.parametrize("rejected", [0, 50])
@pytest.mark.parametrize(("n", "share"), [(1000, 0.196), (1237, 0.196), (97, 0.5)])
def test_a_wanted_share_is_hit_within_one_patch(n: int, share: float, rejected: int) -> None:
    candidates, scores = pool(n, min(rejected, n // 4))
    mined = mine(candidates, scores, Regime(lower=1 - share), rng(), cut=1)
    assert abs(len(mined.index) - share * n) <= 1
    assert mined.share == len(mined.index) / n


def test_the_band_is_what_its_quantiles_say_and_the_quota_is_exact() -> None:
    candidates, scores = pool(1000)
    mined = mine(candidates, scores, Regime(0.9, 0.99, 0.05), rng(3), cut=1)
    band = mined.index[mined.why == Why.BAND]
    np.testing.assert_array_equal(np.sort(scores[band]), np.sort(scores)[900:990])
    assert (mined.why == Why.RANDOM).sum() == 50
    assert ((mined.quantile[mined.why == Why.BAND] >= 0.9) & (mined.quantile[mined.why == Why.BAND] < 0.99)).all()
    again = mine(candidates, scores, Regime(0.9, 0.99, 0.05), rng(3), cut=1)
    np.testing.assert_array_equal(again.index, mined.index)
    other = mine(candidates, scores, Regime(0.9, 0.99, 0.05), rng(4), cut=1)
    assert not np.array_equal(other.index, mined.index)


def test_rejections_are_always_in_whatever_they_score() -> None:
    candidates, scores = pool(100, rejected=10)
    scores[:10] = 0
    mined = mine(candidates, scores, Regime(0.5, 0.6), rng(), cut=1)
    assert set(range(10)) <= set(mined.index.tolist())
    assert (mined.why[:10] == Why.CERTIFIED).all()


def test_what_nobody_looked_at_is_used_below_the_cut_alone() -> None:
    candidates, scores = pool(100, unlabelled=60)
    mined = mine(candidates, scores, Regime(), rng(), cut=0.3)
    unlabelled = candidates.source[mined.index] == Source.UNLABELLED
    assert unlabelled.any()
    assert (scores[mined.index[unlabelled]] <= 0.3).all()
    assert mined.pool == 40 + (scores[:60] <= 0.3).sum()
    nothing = mine(candidates, scores, Regime(), rng(), cut=-math.inf)
    assert (candidates.source[nothing.index] != Source.UNLABELLED).all()


def test_the_cut_loses_no_more_cells_than_allowed() -> None:
    cells = rng(2).beta(4, 2, 400).astype(np.float32)
    hidden = rng(3).beta(4, 2, 4000)
    cut = safety_cut(cells)
    assert 0.02 < (hidden <= cut).mean() < 0.08
    assert safety_cut(np.full(400, 0.9, np.float32)) == 0.5
    assert safety_cut(cells[:10]) == -math.inf
    assert safety_cut(cells[:0]) == -math.inf


def test_every_negative_has_a_record_that_json_takes() -> None:
    where = field("a field", [(20, 20)], rejected=boxes((200, 200)), checked=WHOLE)
    candidates = gather([where])
    scores = rng().random(len(candidates), np.float32)
    mined = mine(candidates, scores, Regime(0.8, 1, 0.1), rng(), cut=0.5)
    records = json.loads(json.dumps(mined.provenance(candidates, scores, [where])))
    assert len(records) == len(mined.index)
    assert {r["why"] for r in records} == {"certified", "band", "random"}
    assert all(r["field"] == "a field" and 0 <= r["quantile"] <= 1 for r in records)


def test_the_search_takes_the_best_and_of_equals_the_smallest() -> None:
    candidates, scores = pool(1000)
    seen: list[int] = []

    def judge(mined: Mined) -> float:
        seen.append(len(mined.index))
        return 0.8 if mined.share < 0.15 else 0.7

    best, trials = search(candidates, scores, judge, cut=1, seed=0)
    assert len(trials) == len(GRID) == len(seen)
    share = {regime: s for regime, s, _ in trials}
    assert share[best] == min(s for s in share.values())
    assert search(candidates, scores, lambda m: m.share, cut=1, seed=0)[0] == Regime(0, 1, 0)


def test_no_patch_is_scored_by_a_model_that_trained_on_it_or_on_its_field() -> None:
    group = np.repeat(np.arange(12), 10)
    positive = np.arange(120) % 4 == 0

    def train(learnt: np.ndarray) -> Scorer:
        def score(asked: np.ndarray) -> np.ndarray:
            assert not set(group[asked]) & set(group[learnt])
            return group[asked].astype(np.float32)

        return score

    scores, fold = out_of_fold(group, positive, train, folds=5, rng=rng())
    np.testing.assert_array_equal(scores, group)
    assert set(fold) == set(range(5))
    cells = np.bincount(fold, positive)
    assert cells.max() - cells.min() <= 5


@pytest.mark.parametrize("what", ["one field", "cells in one field", "no cell", "all cells", "nothing"])
def test_scoring_without_enough_fields_is_refused(what: str) -> None:
    group, positive = np.repeat(np.arange(4), 5), np.arange(20) % 5 == 0
    if what == "one field":
        group[:] = 0
    elif what == "cells in one field":
        positive[5:] = False
    elif what in {"no cell", "all cells"}:
        positive[:] = what == "all cells"
    else:
        group, positive = group[:0], positive[:0]
    with pytest.raises(MiningError, match="at least two fields"):
        out_of_fold(group, positive, lambda i: lambda j: np.zeros(len(j), np.float32), rng=rng())


def test_a_batch_is_half_cells_and_never_ruled_by_rejections() -> None:
    positive = np.arange(100) < 10
    certified = np.arange(100) == 99
    drawn = balanced_batch(positive, certified, 32, rng())
    assert positive[drawn].sum() == 16
    assert certified[drawn].sum() == 8
    alone = balanced_batch(positive[[0, 99]], certified[[0, 99]], 32, rng())
    assert (alone == 1).sum() == 16
    assert (balanced_batch(positive, np.zeros(100, bool), 32, rng()) >= 10).sum() == 16


def test_it_learns_what_a_cell_is_and_scores_look_alikes_above_glass() -> None:
    """From drawn patches in four fields: discs are cells, ovals are not; each scored by a model of other fields."""
    shapes = ["disc", "oval", "", "disc"] * 40
    group = np.repeat(np.arange(4), 40)
    images = patches(shapes, rng(5), side=24)
    kind = np.array(shapes)

    def train(learnt: np.ndarray) -> Scorer:
        model = fit_patches(images[learnt], kind[learnt] == "disc", steps=32, batch=16, seed=1)
        return lambda asked: model.scores(images[asked])

    scores, _ = out_of_fold(group, kind == "disc", train, folds=2, rng=rng())
    discs, ovals, glass = (scores[kind == k] for k in ("disc", "oval", ""))
    assert np.median(glass) < np.median(ovals) < np.median(discs) - 0.2
    # with the hardest third of the negatives ovals are what is kept
    candidates = Candidates(group, np.zeros((160, 2), np.float32), np.full(160, Source.BACKGROUND))
    negatives = np.flatnonzero(kind != "disc")
    mined = mine(candidates[negatives], scores[negatives], Regime(lower=2 / 3), rng(), cut=1)
    assert (kind[negatives[mined.index]] == "oval").mean() > 0.8


def test_scores_do_not_depend_on_how_a_patch_lies() -> None:
    images = patches(["disc", "square"] * 4, rng(1))
    model = fit_patches(images, np.arange(8) % 2 == 0, steps=2, batch=8)
    turned = np.ascontiguousarray(np.rot90(images, 1, (1, 2)))
    np.testing.assert_allclose(model.scores(turned), model.scores(images), atol=1e-5)


@pytest.mark.parametrize("positive", [True, False])
def test_a_classifier_of_one_kind_is_refused(positive: bool) -> None:
    with pytest.raises(MiningError, match="some of both"):
        fit_patches(patches(["disc"] * 4, rng()), np.full(4, positive))


def test_one_cell_and_one_negative_give_a_finite_model() -> None:
    model = fit_patches(patches(["disc", ""], rng()), np.array([True, False]), np.array([False, True]), steps=5)
    assert np.isfinite(model.scores(patches(["disc"] * 3, rng(1)))).all()


def test_images_that_are_no_8_bit_rgb_are_refused() -> None:
    with pytest.raises(DataError, match="8 bits"):
        fit_patches(np.full((2, 32, 32, 3), np.nan), np.array([True, False]))
    float_image = Field("bad", np.full((50, 50, 3), np.nan), 0.25, boxes((20, 20)), np.zeros(1, np.int16))
    with pytest.raises(DataError, match="image of bad"):
        cut_patches(float_image, np.array([[20, 20]], np.float32), 16, 0.25)


def test_scores_that_are_no_numbers_are_refused() -> None:
    candidates, scores = pool(10)
    scores[3] = np.nan
    with pytest.raises(MiningError, match="gave no numbers"):
        mine(candidates, scores, Regime(), rng(), cut=1)


def test_no_field_is_refused_and_a_blank_one_without_labels_is_unlabelled() -> None:
    with pytest.raises(MiningError, match="no field"):
        gather([])
    assert set(gather([field("f", [])]).source.tolist()) == {Source.UNLABELLED}


def test_only_rejections_or_no_candidate_at_all_are_no_trouble() -> None:
    candidates, scores = pool(5, rejected=5)
    assert mine(candidates, scores, Regime(0.9, 0.99), rng(), cut=-math.inf).share == 1
    assert mine(candidates[:0], scores[:0], Regime(), rng(), cut=1).share == 0


def test_labels_twice_outside_or_of_another_class() -> None:
    where = field("f", [(50, 50), (50, 50), (900, 50), (80, 60), (math.nan, 3)])
    where.labels[:] = [1, 2, 0, 0, 0]
    centres, labels = known_cells(where, 3)
    assert centres.tolist() == [[50, 50], [80, 60]]
    assert labels.tolist() == [2, 0]
    with pytest.raises(DataError, match="f labels a cell with class 2, but the model names 2"):
        known_cells(where, 2)


def test_a_patch_shows_its_place_at_the_asked_scale() -> None:
    where = field("f", [(100, 120)])
    where.rgb[110:130, 90:110] = 30
    (patch,) = cut_patches(where, np.array([[100, 120]], np.float32), 40, 0.5)
    assert patch.shape == (40, 40, 3)
    assert patch[17:23, 17:23].max() == 30
    assert patch[:10].min() == 220
    (edge,) = cut_patches(where, np.array([[0, 0]], np.float32), 40, 0.5)
    assert edge[0, 0, 0] == 127  # nothing there


def test_a_nonsensical_regime_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Regime(0.9, 0.5)


def test_two_detections_of_a_cell_are_a_hit_and_a_false_positive() -> None:
    truth = np.array([[100, 100]], np.float32)
    twice = np.array([[101, 100], [99, 100]], np.float32)
    assert hits(twice, np.array([0.9, 0.8], np.float32), truth, 30) == (1, 1, 0)


def test_a_detection_at_exactly_the_radius_is_no_hit() -> None:
    truth, one = np.array([[100, 100]], np.float32), np.ones(1, np.float32)
    assert hits(np.array([[130, 100]], np.float32), one, truth, 30) == (0, 1, 1)
    assert hits(np.array([[129.9, 100]], np.float32), one, truth, 30) == (1, 0, 0)


def test_pooled_f1_is_not_the_mean_of_slides() -> None:
    cases = [(1, 0, 0), (0, 0, 9)]
    assert pooled_f1(cases) == pytest.approx(2 / 11)
    assert np.mean([pooled_f1([c]) for c in cases]) == 0.5
    assert pooled_f1([]) == 0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_asking_for_more_votes_never_finds_more(seed: int) -> None:
    r = rng(seed)
    truth = r.uniform(0, 300, (12, 2)).astype(np.float32)
    found = []
    for _ in range(5):
        seen = truth[r.random(12) < 0.7]
        spots = np.concatenate([seen + r.normal(0, 6, seen.shape), r.uniform(0, 300, (4, 2))]).astype(np.float32)
        found.append((spots, r.random(len(spots), np.float32)))
    counts = [hits(*vote(found, 25, k), truth, 25) for k in range(1, 7)]
    true = [c[0] for c in counts]
    assert true == sorted(true, reverse=True)
    assert counts[-1] == (0, 0, 12)


def test_a_vote_is_one_place_with_the_mean_score() -> None:
    one = (np.array([[10, 10], [100, 100]], np.float32), np.array([0.9, 0.6], np.float32))
    two = (np.array([[14, 10]], np.float32), np.array([0.7], np.float32))
    centres, scores = vote([one, two], 8, 2)
    assert centres.tolist() == [[12, 10]]
    assert scores.tolist() == pytest.approx([0.8])
    assert len(vote([one, two], 8, 1)[0]) == 2
