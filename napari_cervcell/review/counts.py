"""How many cells there are of each class, as they are shown."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..casefile import State

__all__ = ["ClassCount", "counts_of", "tally"]


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
