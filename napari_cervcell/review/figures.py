"""Small live figures of a sitting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..casefile import Annotations, State

__all__ = ["ClassCount", "Precision", "counts_of", "precision_of", "wilson"]

_NARROW = 0.2


class ClassCount(NamedTuple):
    """How many cells of one class there are.

    Attributes
    ----------
    detected : int
        Cells of the class: those nobody has looked at with a score of at least the threshold, and those that the
        reviewer says are there.
    reviewed : int
        Of these, those that the reviewer says are there.
    rejected : int
        Detections of the class that the reviewer rejected.
    """

    detected: int
    reviewed: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Precision:
    """Of the reviewed detections that the model gave one class, how many the reviewer left as they were.

    It speaks of what was reviewed, which need not be typical: the queue asks the doubtful cells first.
    """

    right: int
    reviewed: int

    @property
    def value(self) -> float:
        """The share, NaN where nothing was reviewed."""
        return self.right / self.reviewed if self.reviewed else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share."""
        return wilson(self.right, self.reviewed)

    @property
    def enough(self) -> bool:
        """Whether the interval is so narrow (0.2) that more reviewing would tell little."""
        low, high = self.interval
        return high - low <= _NARROW


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson interval of a share of `right` among `n`; all of (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    share, spread = right / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def tally(
    labels: NDArray[np.int16], states: NDArray[np.int8], scores: NDArray[np.float32], threshold: float, classes: int
) -> NDArray[np.int64]:
    """Return int64 (3, classes): new cells of at least `threshold`, cells that the reviewer says are there, rejected
    ones."""
    kinds = (states == 0) & (scores >= threshold), (states > 0) & (states != State.REJECTED), states == State.REJECTED
    return np.stack([np.bincount(labels[kind & (labels >= 0)], minlength=classes) for kind in kinds])


def counts_of(tallied: NDArray[np.int64]) -> list[ClassCount]:
    """Return one :class:`ClassCount` a class, from what :func:`tally` returns."""
    return [ClassCount(new + there, there, rejected) for new, there, rejected in tallied.T.tolist()]


def precision_of(annotations: Annotations, classes: int) -> list[Precision]:
    """Return one :class:`Precision` a class, of `classes`; cells that no model had found do not count."""
    detected = annotations.detected_labels
    right = _per_class(detected[(detected >= 0) & (annotations.states == State.ACCEPTED)], classes)
    asked = _per_class(detected[detected >= 0], classes)
    return [Precision(r, n) for r, n in zip(right, asked, strict=True)]


def _per_class(labels: NDArray[np.int16], classes: int) -> list[int]:
    return [int(n) for n in np.bincount(labels, minlength=classes)]
