"""Which cells are worth asking about: strategies behind one interface, and a mix of them.

A strategy takes a :class:`Pool` of cells that nobody has spoken of and returns the positions in it of at most `n`,
what is most worth asking first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray, IntArray
from .committee import NO_LOOK
from .sampling import drawing_order

__all__ = ["STRATEGIES", "TURNS", "Pool", "StrategyName", "mix", "rarity", "worth_asking"]

StrategyName = Literal["mix", "uncertainty", "missed", "committee", "diverse", "rare", "negatives", "random"]

TURNS: tuple[StrategyName, ...] = (
    "uncertainty", "random", "missed", "uncertainty", "committee",
    "uncertainty", "random", "rare", "negatives", "diverse",
)  # fmt: skip
"""Who is asked in a mix, one after the other and round again."""

_RAREST = 4.0  # a rare class counts at most so many times as much as the commonest
_SECOND_LOOK = 1.0
_SHORTLIST = 4096  # cells among which those are looked for that differ most
_SQUARES = 16  # parts of the slide, a side
_DISAGREED = 0.1
_LARGE = 16_384


@dataclass(frozen=True)
class Pool:
    """The cells that may be asked about, as parallel arrays, and what is known about their like.

    Attributes
    ----------
    labels : int16 (n,)
    scores, found_scores, class_scores : float32 (n,)
        The score as likeness has moved it (see :mod:`.answers`), and as the model gave it.
    places : int64 (n,)
        Where in `points` the centre of each is.
    points : float32 (m, 2)
        Level-0 px.
    lots, strata : float32 (n,), int16 (n,)
        See :mod:`.sampling`.
    earlier_labels, earlier_scores : int16 (n,), float32 (n,)
        What the model before had found there; see :mod:`.committee`.
    again : bool (n,)
        Reviewed cells of which a later model says something else.
    sizes, reviewed, rejected : int64 (strata,)
        How many detections there are of each stratum, of how many the reviewer has spoken, and rejected.
    reviewed_points, reviewed_labels : float32 (m, 2), int16 (m,)
        Of the reviewed cells.
    threshold : float
    generator : Generator
    """

    labels: NDArray[np.int16]
    scores: FloatArray
    found_scores: FloatArray
    class_scores: FloatArray
    places: IntArray
    points: FloatArray
    lots: FloatArray
    strata: NDArray[np.int16]
    earlier_labels: NDArray[np.int16]
    earlier_scores: FloatArray
    again: NDArray[np.bool_]
    sizes: IntArray
    reviewed: IntArray
    rejected: IntArray
    reviewed_points: FloatArray
    reviewed_labels: NDArray[np.int16]
    classes: int
    threshold: float
    generator: np.random.Generator

    def __len__(self) -> int:
        return len(self.labels)


Labels = NDArray[np.integer]
Strategy = Callable[[Pool, int], IntArray]


def worth_asking(
    labels: Labels, scores: FloatArray, class_scores: FloatArray, weights: FloatArray, threshold: float
) -> FloatArray:
    """Return float32 (n,), how much there is to learn from asking about each detection.

    Doubt whether it is a cell (score near the threshold) and, as far as it is one, doubt of its class, multiplied by
    the weight of the class, which is high where the class is rare; see :func:`rarity`.
    """
    doubt = 1 - np.abs(scores - np.float32(threshold)) * np.float32(1 / max(threshold, 1 - threshold))
    unsure = scores * (1 - class_scores)
    worth: FloatArray = ((doubt + unsure) * weights[labels]).astype(np.float32, copy=False)
    return worth


def rarity(labels: Labels, scores: FloatArray, classes: int) -> FloatArray:
    """Return float32 (C,), 1 for the commonest class and up to 4 for rare ones, by the expected number of cells."""
    expected = np.bincount(labels, weights=scores, minlength=classes) + 1
    weights: FloatArray = np.minimum(np.sqrt(expected.max() / expected), _RAREST).astype(np.float32)
    return weights


def uncertainty(pool: Pool, n: int) -> IntArray:
    """What the model doubts, and what a later model says of a cell that the reviewer has named otherwise."""
    weights = rarity(pool.labels, pool.scores, pool.classes)
    worth = worth_asking(pool.labels, pool.scores, pool.class_scores, weights, pool.threshold)
    worth[pool.again] += _SECOND_LOOK
    ties = pool.generator.random(n).astype(np.float32)  # equals come in no order of place
    return _best(worth, n, ties)


def missed(pool: Pool, n: int) -> IntArray:
    """Probable cells below the threshold: those that exclusive cross-entropy would not let pass for negatives."""
    below = np.flatnonzero((pool.scores < pool.threshold) & (pool.scores >= pool.threshold / 2))
    return below[_best(pool.scores[below] * pool.class_scores[below], n)]


def committee(pool: Pool, n: int) -> IntArray:
    """Where the model before had found nothing, or was of another mind."""
    scores = pool.found_scores
    change = np.abs(scores - pool.earlier_scores) + scores * (pool.labels != pool.earlier_labels)
    disagreed: IntArray = np.flatnonzero((change > _DISAGREED) & (pool.earlier_labels != NO_LOOK))
    return disagreed[_best(change[disagreed], n)]


def diverse(pool: Pool, n: int) -> IntArray:
    """Each class in each part of the slide in turn, those first of which least was reviewed."""
    among = _shortlist(pool)
    points = pool.points[pool.places[among]]
    if not len(among):
        return among
    corner = points.min(axis=0)
    side = max(float((points - corner).max()), 1.0) / _SQUARES

    def group(points: FloatArray, labels: NDArray[np.int16]) -> IntArray:
        column, row = np.clip((points - corner) // side, 0, _SQUARES - 1).astype(np.int64).T
        groups: IntArray = (row * _SQUARES + column) * pool.classes + labels
        return groups

    named = pool.reviewed_labels >= 0
    asked = np.bincount(
        group(pool.reviewed_points[named], pool.reviewed_labels[named]), minlength=_SQUARES**2 * pool.classes
    )
    groups = group(points, pool.labels[among])
    order = np.argsort(groups, kind="stable")
    turn = np.empty(len(among), np.int64)
    turn[order] = np.arange(len(among)) - np.searchsorted(groups[order], groups[order])
    worth = (pool.scores[among] / 2 - asked[groups] - turn).astype(np.float32)
    return among[_best(worth, n)]


def rare(pool: Pool, n: int) -> IntArray:
    """The rarest classes first, of each the surest cells."""
    expected = np.bincount(pool.labels, weights=pool.scores, minlength=pool.classes)
    chosen: list[IntArray] = []
    for label in np.argsort(expected):
        mine = np.flatnonzero(pool.labels == label)
        chosen.append(mine[_best(pool.scores[mine], n)])
        n -= len(chosen[-1])
        if not n:
            break
    return np.concatenate([*chosen, np.zeros(0, np.int64)])


def negatives(pool: Pool, n: int) -> IntArray:
    """Sure detections of the kinds of which the reviewer has rejected most: mimics that the model takes for cells."""
    rate = pool.rejected / (pool.reviewed + 1)
    like = np.flatnonzero((rate > 0)[pool.strata])
    return like[_best(rate[pool.strata[like]].astype(np.float32) * pool.scores[like], n)]


def random(pool: Pool, n: int) -> IntArray:
    """The next draws of the random sample that the figures rest on."""
    order = drawing_order(pool.lots, pool.strata, pool.sizes)
    order[pool.again] = np.inf
    return _best(-order, min(n, len(pool) - int(pool.again.sum())))


STRATEGIES: dict[StrategyName, Strategy] = {
    "uncertainty": uncertainty,
    "missed": missed,
    "committee": committee,
    "diverse": diverse,
    "rare": rare,
    "negatives": negatives,
    "random": random,
}


def mix(pool: Pool, n: int, turn: int) -> tuple[IntArray, IntArray]:
    """Ask the strategies in turn, at least every fifth time the random one; one that has nothing left loses its turn.

    `turn` is the place among `TURNS` of the one that is asked first.

    Returns
    -------
    positions, turns : int64 (m,)
        What is chosen, and the turn that chose it.
    """
    n = min(n, len(pool))
    shares = {name: TURNS.count(name) for name in STRATEGIES}
    offers = {
        name: iter(
            strategy(pool, n if name == "uncertainty" else min(n, shares[name] * (n // len(TURNS) + 1) * 2)).tolist()
        )
        for name, strategy in STRATEGIES.items()
    }
    chosen: dict[int, int] = {}
    while len(chosen) < n:
        position = next((p for p in offers[TURNS[turn]] if p not in chosen), None)
        if position is not None:
            chosen[position] = turn
        turn = (turn + 1) % len(TURNS)
    return np.fromiter(chosen, np.int64, n), np.fromiter(chosen.values(), np.int64, n)


def _shortlist(pool: Pool) -> IntArray:
    return np.arange(0, len(pool), max(1, len(pool) // _SHORTLIST))


def _best(worth: FloatArray, n: int, ties: FloatArray | None = None) -> IntArray:
    """Return the positions of the `n` greatest, the greatest first."""
    best = np.arange(len(worth))
    if len(worth) > _LARGE:  # a sample tells what the best are about worth: the rest need not be sorted
        sample = worth[:: len(worth) // _LARGE]
        enough = min(len(sample), 2 * n * len(sample) // len(worth) + 8)
        good = np.flatnonzero(worth >= np.partition(sample, -enough)[-enough])
        best = good if len(good) >= n else best
    if len(best) > n:
        best = best[np.argpartition(-worth[best], n)[:n]]
    by = (-worth[best],) if ties is None else (ties[: len(best)], -worth[best])
    order: IntArray = best[np.lexsort(by)]
    return order
