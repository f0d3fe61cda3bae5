"""The figures hold what they promise: in simulated sittings the truth lies in 95 % of the intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from napari_cervcell.review.estimates import Estimate, over, share_of, total_of
from napari_cervcell.review.evidence import Evidence
from napari_cervcell.review.figures import figures_of
from napari_cervcell.review.sampling import BINS, drawing_order, lots_of, sample_of, stratum_of

CLASSES = 6
SITTINGS = 500
COUNTS = np.array([9000, 800, 1200, 150, 400, 60])
CONFUSED = 0.8 * np.eye(CLASSES) + 0.2 * np.array([0.6, 0.1, 0.15, 0.05, 0.08, 0.02])
MIMICS = np.array([0.5, 0.15, 0.15, 0.08, 0.08, 0.04])
RECALL = 0.9


def slide(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth (-1 for no cell), class as detected, and score of each detection of a slide."""
    truth = np.repeat(np.arange(CLASSES), COUNTS)
    named = (rng.random((len(truth), 1)) > CONFUSED[truth].cumsum(1)).sum(1).clip(0, CLASSES - 1)
    mimics = rng.choice(CLASSES, 6000, p=MIMICS)
    scores = np.concatenate([rng.beta(5, 1.5, len(truth)), rng.beta(1.5, 3, len(mimics))]).astype(np.float32)
    return np.r_[truth, np.full(len(mimics), -1)], np.r_[named, mimics].astype(np.int16), scores


def sitting(rng: np.random.Generator, truth, labels, scores, draws: int, chosen: int) -> Evidence:
    """A reviewer is asked `draws` cells at random among `chosen` ones in doubt, and checks a part of the slide."""
    strata = stratum_of(labels, scores)
    lots = rng.random(len(truth), np.float32)
    order = drawing_order(lots, strata, np.bincount(strata, minlength=CLASSES * BINS))
    asked = np.zeros(len(truth), bool)
    drawn = np.zeros(len(truth), bool)
    # half of those chosen, which are mostly wrong, come before the draws and half after
    doubtful = np.argpartition(np.abs(scores - 0.5), chosen)[:chosen]
    asked[doubtful[::2]] = True
    turn = np.argpartition(np.where(asked, np.inf, order), draws)[:draws]
    asked[turn] = drawn[turn] = True
    asked[doubtful] = True
    left = np.bincount(strata[~asked], minlength=CLASSES * BINS)
    sample = np.flatnonzero(asked)[sample_of(strata[asked], lots[asked], drawn[asked], left, strata, lots, ~asked)]
    checked = rng.binomial(np.round(COUNTS / RECALL).astype(int), 0.1)
    found = rng.binomial(checked, RECALL)
    none = np.zeros(CLASSES, np.int64)
    return Evidence(
        CLASSES,
        np.bincount(strata, minlength=CLASSES * BINS),
        np.bincount(strata[scores >= 0.5], minlength=CLASSES * BINS),
        strata[sample],
        scores[sample] >= 0.5,
        truth[sample].astype(np.int16),
        none,
        none,
        none,
        found,
        checked - found,
    )


@pytest.mark.parametrize(("draws", "chosen"), [(100, 400), (400, 1600)])
def test_intervals_cover_the_truth_in_93_to_97_of_100_sittings(draws: int, chosen: int) -> None:
    rng = np.random.default_rng(7)
    truth, labels, scores = slide(rng)
    shown = scores >= 0.5
    right = [np.mean(truth[shown & (labels == c)] == c) for c in range(CLASSES)]
    numbers = COUNTS / RECALL
    covered = np.zeros((3, CLASSES))
    for _ in range(SITTINGS):
        for c, figures in enumerate(figures_of(sitting(rng, truth, labels, scores, draws, chosen))):
            for i, (estimate, true) in enumerate(zip(figures[:3], (right[c], RECALL, numbers[c]), strict=True)):
                covered[i, c] += estimate.low <= true <= estimate.high
    of_each_figure = covered.mean(axis=1) / SITTINGS
    assert ((of_each_figure >= 0.93) & (of_each_figure <= 0.97)).all()
    assert (covered / SITTINGS > 0.88).all()  # of no class far off; 0.01 is chance


def test_what_was_chosen_for_its_doubt_does_not_bend_the_figures() -> None:
    rng = np.random.default_rng(1)
    truth, labels, scores = slide(rng)
    values = []
    for _ in range(100):
        tested = sitting(rng, truth, labels, scores, 300, 3000)
        values.append(share_of(tested.sizes, tested.asked(), tested.asked(label=0)).value)
    standard_error = np.std(values, ddof=1) / 10
    assert abs(np.mean(values) - np.mean(truth == 0)) < 4 * standard_error


strata_counts = st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12).map(
    lambda rows: np.array([(n, round(n * a), round(round(n * a) * b)) for n, a, b in rows], np.int64).T
)


@given(strata_counts, st.integers(0, 12))
def test_an_interval_holds_its_value_and_stays_possible(counts: np.ndarray, own: int) -> None:
    sizes, asked, hits = counts
    alike = np.arange(len(sizes)) < own
    share, total = share_of(sizes, asked, hits, alike), total_of(sizes, asked, hits, alike)
    assert 0 <= share.low <= share.high <= 1
    assert math.isnan(share.value) == (not asked.sum())
    if asked.sum():
        assert share.low - 1e-9 <= share.value <= share.high + 1e-9
        assert total.value == pytest.approx(share.value * sizes.sum())


def test_who_has_asked_all_knows() -> None:
    sizes, hits = np.array([10, 0, 5]), np.array([7, 0, 1])
    assert total_of(sizes, sizes, hits) == Estimate(8, 8, 8, 15)


def test_more_asked_is_narrower_and_few_that_agree_are_no_certainty() -> None:
    sizes = np.array([1000, 1000])
    few, more = (share_of(sizes, np.array([n, n]), np.array([n, n])) for n in (5, 50))
    assert few.value == more.value == 1
    assert few.low < more.low < 1
    assert few.low < 0.85


def test_a_stratum_of_which_nothing_was_asked_widens_the_interval() -> None:
    asked, hits = np.array([50, 0]), np.array([25, 0])
    narrow, wide = (share_of(np.array(sizes), asked, hits) for sizes in ([1000, 10], [1000, 1000]))
    assert wide.value == narrow.value == 0.5
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


@pytest.mark.parametrize("asked", [120, 300, 600])
def test_where_none_was_seen_some_may_have_been_overlooked(asked: int) -> None:
    """All ten detections of a rare class are reviewed, and some of the thousands of others, none of which is of it."""
    sizes, own = np.array([10, 3000, 1500, 2000]), np.array([True, False, False, False])
    total = total_of(sizes, np.array([10, *[asked // 3] * 3]), np.array([8, 0, 0, 0]), own)
    assert total.value == 8
    overlooked = next(n for n in range(6500) if hypergeom.pmf(0, 6500, n, asked) < 0.025)
    assert total.high == pytest.approx(8 + overlooked, rel=0.15)
    assert total.low > 2


@pytest.mark.parametrize("draws", [200, 400])
def test_a_rare_class_that_is_mostly_called_by_other_names_is_not_counted_too_surely(draws: int) -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([3000, 1500, 2000, 30, 20, 30])
    holds = np.array([3, 3, 6, 9, 10, 27])
    own = np.arange(6) >= 3
    covered = 0
    for _ in range(SITTINGS):
        strata = np.repeat(np.arange(6), sizes)
        order = np.argsort(drawing_order(rng.random(len(strata), np.float32), strata, sizes))
        asked = np.bincount(strata[order[:draws]], minlength=6)
        total = total_of(sizes, asked, rng.hypergeometric(holds, sizes - holds, asked), own)
        covered += total.low <= holds.sum() <= total.high
    assert covered / SITTINGS >= 0.93


def test_what_was_not_asked_is_taken_to_be_like_its_like() -> None:
    sizes, asked, hits = np.array([100, 100, 1000, 1000]), np.array([20, 0, 50, 0]), np.array([16, 0, 0, 0])
    assert total_of(sizes, asked, hits, np.array([True, True, False, False])).value == pytest.approx(160)


def test_found_cells_by_recall() -> None:
    total = over(Estimate(90, 80, 100, 50), Estimate(0.9, 0.8, 0.95, 40))
    assert total.value == pytest.approx(100)
    assert 80 < total.low < 100 < total.high < 130
    assert over(Estimate(90, 80, 100, 50), Estimate(0.0, 0.0, 0.3, 9)).high == math.inf


def test_lots_are_even_and_a_matter_of_the_place_alone() -> None:
    rng = np.random.default_rng(0)
    points = (rng.random((50_000, 2)) * 1e5).astype(np.float32)
    lots = lots_of(points)
    assert ((lots >= 0) & (lots < 1)).all()
    np.testing.assert_array_equal(lots_of(points[::-1])[::-1], lots)
    histogram, _ = np.histogram(lots, 20, (0, 1))
    assert np.abs(histogram - 2500).max() < 5 * math.sqrt(2500)
    neighbours = lots_of(points + np.float32([0.5, 0]))
    assert abs(np.corrcoef(lots, neighbours)[0, 1]) < 0.02
    assert abs(np.corrcoef(lots, points[:, 0])[0, 1]) < 0.02
