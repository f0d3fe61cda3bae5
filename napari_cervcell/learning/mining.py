"""Fine-grained hard-negative mining (MIDOG 2022, arXiv 2301.01079): which negatives are worth training on.

The report says that negatives were chosen by a search over mining regimes, from labelled look-alikes and from
unlabelled images, and that 19.6 % of the patches made the best model. The procedure here is RECONSTRUCTED.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..cells import centres_of
from .fields import Field
from .outoffold import MiningError

__all__ = [
    "EXCLUSION_UM",
    "GRID",
    "Candidates",
    "Mined",
    "Regime",
    "Source",
    "Why",
    "gather",
    "look_alikes",
    "mine",
    "search",
    "within",
]

EXCLUSION_UM = 15.0
"""No negative lies nearer than this to the centre of a known cell: twice the 7.5 µm within which a detection hits."""

_SPACING_UM = 20.0


class Source(IntEnum):
    """Where a negative comes from."""

    REJECTED = 0
    """A reviewer said that it is no cell."""
    LOOK_ALIKE = 1
    """A model thought it a cell, in a region where every cell is labelled."""
    BACKGROUND = 2
    """Anywhere in such a region."""
    UNLABELLED = 3
    """Where nobody looked: only used below a safety cut, and gone once a cell is labelled there."""


class Why(IntEnum):
    """For what a negative was kept."""

    CERTIFIED = 0
    BAND = 1
    RANDOM = 2


@dataclass(slots=True)
class Candidates:
    """Places that may serve as negatives, as parallel arrays.

    Attributes
    ----------
    field : int64 (n,)
        Index of the field.
    centres : float32 (n, 2)
        px of the field's image.
    source : int64 (n,)
        A `Source`.
    """

    field: NDArray[np.int64]
    centres: NDArray[np.float32]
    source: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.field)

    def __getitem__(self, which: Any) -> Candidates:
        return Candidates(self.field[which], self.centres[which], self.source[which])


def gather(
    fields: Sequence[Field],
    detections: Sequence[NDArray[np.float32]] | None = None,
    *,
    exclusion_um: float = EXCLUSION_UM,
    spacing_um: float = _SPACING_UM,
) -> Candidates:
    """Collect the candidate pool of `fields`.

    Rejections; a model's `detections` (centres (k, 2) for each field, px of its image); and a grid. What lies in a
    checked region is known to be negative, all else is `Source.UNLABELLED`. Nothing lies within `exclusion_um` of a
    known cell, of a place that is left out, or outside the image: a rejection so near to a cell shows that cell.
    """
    parts = []
    for i, field in enumerate(fields):
        height, width = field.rgb.shape[:2]
        step = spacing_um / field.mpp
        grid = np.stack(np.meshgrid(np.arange(step / 2, width, step), np.arange(step / 2, height, step)), -1)
        found = detections[i] if detections is not None else np.zeros((0, 2))
        rejected = centres_of(field.rejected)
        centres = np.concatenate([rejected, found, grid.reshape(-1, 2)]).astype(np.float32)
        kinds = [Source.REJECTED, Source.LOOK_ALIKE, Source.BACKGROUND]
        kind = np.repeat(kinds, [len(rejected), len(found), grid.size // 2])
        unlabelled = (kind != Source.REJECTED) & ~within(centres, field.checked)
        source = np.where(unlabelled, Source.UNLABELLED, kind).astype(np.int64)
        taken = np.logical_and.reduce((centres >= 0) & (centres < (width, height)), 1)
        taken[taken] &= _clear(
            centres[taken], centres_of(np.concatenate([field.boxes, field.left_out])), exclusion_um / field.mpp
        )
        _, first = np.unique(np.round(centres), axis=0, return_index=True)  # of two on one spot the surer source
        taken &= np.isin(np.arange(len(centres)), first)
        parts.append(Candidates(np.full(int(taken.sum()), i), centres[taken], source[taken]))
    if not parts:
        raise MiningError("There is no field to mine negatives from. Give at least one.")
    return Candidates(*(np.concatenate([getattr(p, a) for p in parts]) for a in ("field", "centres", "source")))


def look_alikes(
    found: NDArray[np.float32], known: NDArray[np.float32], checked: NDArray[np.float32], mpp: float
) -> NDArray[np.bool_]:
    """Say which detections are certainly false, bool (n,): in a checked region, and clear of all that was said.

    Parameters
    ----------
    found : float32 (n, 2)
        Centres of detections, px.
    known : float32 (m, 2)
        Centres of what a reviewer has spoken of, px.
    checked : float32 (k, 4)
        Regions in which every cell is known, px.
    mpp : float
        µm per px.
    """
    false = within(found, checked)
    false[false] &= _clear(found[false], known, EXCLUSION_UM / mpp)
    return false


def within(points: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say which of `points` (n, 2) lie in any of `boxes` (k, 4), bool (n,)."""
    inside = np.zeros(len(points), bool)
    for x1, y1, x2, y2 in boxes:
        inside |= (points[:, 0] >= x1) & (points[:, 0] <= x2) & (points[:, 1] >= y1) & (points[:, 1] <= y2)
    return inside


def _clear(points: NDArray[np.float32], centres: NDArray[np.float32], radius: float) -> NDArray[np.bool_]:
    """Return which points are at least `radius` from every one of `centres`."""
    centres = centres[np.isfinite(centres).all(1)]
    if not len(centres) or not len(points):
        return np.ones(len(points), bool)
    distance, _ = cKDTree(centres).query(points)
    clear: NDArray[np.bool_] = distance >= radius
    return clear


@dataclass(frozen=True, slots=True)
class Regime:
    """Keep negatives whose score lies in the quantiles `lower` to `upper`, and a `random` share of the pool beside."""

    lower: float = 0.0
    upper: float = 1.0
    random: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.lower <= self.upper <= 1 and 0 <= self.random <= 1):
            raise ValueError(f"quantiles and shares lie between 0 and 1, the lower quantile first; got {self}")


GRID = tuple(Regime(a, b, u) for a in (0.0, 0.5, 0.8, 0.9, 0.95, 0.98) for b in (1.0, 0.999, 0.99) for u in (0.0, 0.1))
"""Regimes to search: fine where the hardest negatives are, of which the very hardest may be cells without a label."""


@dataclass(slots=True)
class Mined:
    """The negatives that a regime keeps.

    Attributes
    ----------
    index : int64 (k,)
        Into the candidates, in ascending order.
    why : int64 (k,)
        A `Why`.
    quantile : float32 (k,)
        Share of the pool that scores lower.
    pool : int
        Candidates that could have been kept.
    """

    index: NDArray[np.int64]
    why: NDArray[np.int64]
    quantile: NDArray[np.float32]
    pool: int

    @property
    def share(self) -> float:
        """Share of the pool that was kept."""
        return len(self.index) / self.pool if self.pool else 0.0

    def provenance(
        self, candidates: Candidates, scores: NDArray[np.float32], fields: Sequence[Field]
    ) -> list[dict[str, Any]]:
        """Return a JSON-able record of every negative: where it is, where it comes from, and why it was kept."""
        return [
            {
                "field": fields[candidates.field[i]].name,
                "x": float(candidates.centres[i, 0]),
                "y": float(candidates.centres[i, 1]),
                "source": Source(candidates.source[i]).name.lower(),
                "score": float(scores[i]),
                "quantile": float(quantile),
                "why": Why(why).name.lower(),
            }
            for i, why, quantile in zip(self.index.tolist(), self.why, self.quantile, strict=True)
        ]


def mine(
    candidates: Candidates, scores: NDArray[np.float32], regime: Regime, rng: np.random.Generator, *, cut: float
) -> Mined:
    """Keep the candidates that `regime` asks for.

    Parameters
    ----------
    scores : float32 (n,)
        Probability of being a cell, out of fold.
    cut : float
        Unlabelled candidates that score higher are not in the pool (see ``outoffold.safety_cut``).

    Rejections rank above all others and are always kept. Raises MiningError for scores that are no numbers.
    """
    if not np.isfinite(scores).all():
        raise MiningError("Some negatives have no score: the model that scored them gave no numbers. Train it again.")
    certified = candidates.source == Source.REJECTED
    pool = np.flatnonzero((candidates.source != Source.UNLABELLED) | (scores <= cut))
    ranked = pool[np.lexsort((scores[pool], certified[pool]))]
    n = len(ranked)
    kept = np.zeros(n, bool)
    kept[round(regime.lower * n) : round(regime.upper * n)] = True
    why = np.where(certified[ranked], Why.CERTIFIED, Why.BAND)
    kept |= certified[ranked]
    rest = np.flatnonzero(~kept)
    extra = rng.choice(rest, min(round(regime.random * n), len(rest)), replace=False)
    kept[extra], why[extra] = True, Why.RANDOM
    at = np.flatnonzero(kept)
    at = at[np.argsort(ranked[at])]
    return Mined(ranked[at], why[at].astype(np.int64), (at / max(n, 1)).astype(np.float32), n)


def search(
    candidates: Candidates,
    scores: NDArray[np.float32],
    judge: Callable[[Mined], float],
    *,
    cut: float,
    seed: int,
    regimes: Sequence[Regime] = GRID,
) -> tuple[Regime, list[tuple[Regime, float, float]]]:
    """Return the best of `regimes` and, for all, (regime, share kept, figure).

    `judge` trains on what a regime keeps and returns its F1 on validation fields. Of equals the smallest set wins.
    """
    trials = []
    for regime in regimes:
        mined = mine(candidates, scores, regime, np.random.default_rng(seed), cut=cut)
        trials.append((regime, mined.share, judge(mined)))
    best, _, _ = max(trials, key=lambda t: (t[2], -t[1]))
    return best, trials
