"""What a stratified random sample tells of all: shares and numbers, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    expected = np.full(len(sizes), np.average(shares[known], weights=weights[known]))
    leaning = np.zeros(len(sizes))
    for here in (alike, ~alike):
        told = here & known
        if told.any():
            expected[here] = np.average(shares[told], weights=weights[told])
        leaning[here] = (expected[here] * asked[here].sum() + 0.5) / (asked[here].sum() + 1)
    value = float((weights * np.where(known, shares, expected)).sum())
    if (asked == sizes).all():
        return Estimate(value, value, value, n)
    smooth = (hits + _SMOOTHING * leaning) / (asked + _SMOOTHING)
    left = 1 - asked / sizes
    variance = float((weights**2 * left * smooth * (1 - smooth) / np.maximum(asked, 0.5)).sum())
    middle = float((weights * smooth).sum())
    low, high = wilson(value, middle * (1 - middle) / variance)
    return Estimate(value, low, high, n)


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
