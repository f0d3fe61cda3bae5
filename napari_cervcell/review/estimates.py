"""What a stratified random sample tells of all: shares and numbers, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "over", "share_of", "total_of", "wilson"]

_Z = 1.96
# how much, in cells, a stratum's spread leans on that of all; more, and intervals from few asked are too wide
_SMOOTHING = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes
    ----------
    value : float
        NaN where nothing is known.
    low, high : float
    asked : int
        The number of cells that it rests on.
    """

    value: float
    low: float
    high: float
    asked: int

    @property
    def within(self) -> float:
        """Half the interval as a share of the value; infinite where that is 0 or not known."""
        return (self.high - self.low) / 2 / self.value if self.value > 0 else math.inf

    def plus(self, known: float) -> Estimate:
        """Return the figure with a number added that is known for sure."""
        return Estimate(self.value + known, self.low + known, self.high + known, self.asked)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return the Wilson interval of a share found among `n` (may be a fraction); (0, 1) where n is 0."""
    if n <= 0:
        return 0.0, 1.0
    spread = _Z * _Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def share_of(
    sizes: NDArray[np.int64],
    asked: NDArray[np.int64],
    hits: NDArray[np.int64],
    alike: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Estimate which share of a population is of a kind, from a random sample of each of its strata.

    The share is that of Horvitz and Thompson, each cell weighing as many as it stands for; strata of which none was
    asked are taken to be like those that are `alike`. The interval is Wilson's for a simple sample that would be as
    exact as this one (its effective size, with the share of the population that was asked taken off). A stratum's
    spread is smoothed towards that of those alike: without, few asked that all say the same would pass for certainty.
    The upper end lies as far from the share as those of the strata that are alike, and of the others, put together by
    their squares: among many that hold none of the kind as far as anybody has looked, some may have been overlooked.

    Parameters
    ----------
    sizes, asked, hits : int (strata,)
        How many cells each stratum has, how many of them were asked, and how many of those are of the kind.
    alike : bool (strata,), optional
        Which may be expected to hold about the same share, and the others another; by default all are alike.
    """
    n = int(asked.sum())
    present = sizes > 0
    if not n or not present.any():
        return Estimate(math.nan, 0.0, 1.0, n)
    sizes, asked, hits = sizes[present], asked[present], hits[present]
    alike = np.ones(len(sizes), bool) if alike is None else alike[present]
    weights = sizes / sizes.sum()
    known = asked > 0
    shares = hits / np.maximum(asked, 1)
    of_all = np.average(shares[known], weights=weights[known])
    parts = [(float(weights[h].sum()), _share(sizes[h], asked[h], hits[h], of_all)) for h in (alike, ~alike) if h.any()]
    together = _Share(
        sum(w * part.value for w, part in parts),
        sum(w * part.smooth for w, part in parts),
        sum(w**2 * part.variance for w, part in parts),
    )
    above = math.hypot(*(w * (part.interval()[1] - part.value) for w, part in parts))
    return Estimate(together.value, together.interval()[0], min(together.value + above, 1.0), n)


class _Share(NamedTuple):
    """A share, what it is smoothed, by which its spread is told, and the variance."""

    value: float
    smooth: float
    variance: float

    def interval(self) -> tuple[float, float]:
        n = self.smooth * (1 - self.smooth) / self.variance if self.variance else math.inf
        return wilson(self.value, n)


def _share(sizes: NDArray[np.int64], asked: NDArray[np.int64], hits: NDArray[np.int64], otherwise: float) -> _Share:
    """Estimate the share in strata that are alike; where none of them was asked, it is taken to be `otherwise`."""
    weights = sizes / sizes.sum()
    known = asked > 0
    shares = hits / np.maximum(asked, 1)
    expected = np.average(shares[known], weights=weights[known]) if known.any() else otherwise
    leaning = (expected * asked.sum() + 0.5) / (asked.sum() + 1)
    smooth = (hits + _SMOOTHING * leaning) / (asked + _SMOOTHING)
    left = 1 - asked / sizes
    variance = (weights**2 * left * smooth * (1 - smooth) / np.maximum(asked, 0.5)).sum()
    value = (weights * np.where(known, shares, expected)).sum()
    return _Share(float(value), float((weights * smooth).sum()), float(variance))


def total_of(
    sizes: NDArray[np.int64],
    asked: NDArray[np.int64],
    hits: NDArray[np.int64],
    alike: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Estimate how many cells of the population are of the kind; see :func:`share_of`."""
    share, all_ = share_of(sizes, asked, hits, alike), float(sizes.sum())
    value = share.value * all_ if all_ else 0.0
    return Estimate(value, share.low * all_, share.high * all_, share.asked)


def over(total: Estimate, share: Estimate) -> Estimate:
    """Return `total` / `share`, of two figures that have nothing to do with each other: found cells by recall, say.

    Their uncertainties are put together on a scale of logarithms, each way by itself.
    """
    if not (total.value > 0 and share.value > 0 and share.low > 0):
        return Estimate(total.value, total.low, math.inf if share.low == 0 else total.high / share.low, total.asked)
    value = total.value / share.value
    down = math.hypot(math.log(total.value / max(total.low, 1e-9)), math.log(share.high / share.value))
    up = math.hypot(math.log(total.high / total.value), math.log(share.value / share.low))
    return Estimate(value, value * math.exp(-down), value * math.exp(up), total.asked)
