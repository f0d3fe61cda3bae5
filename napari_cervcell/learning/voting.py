"""Several models' detections put to the vote, and the figure by which mitosis detectors are ranked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..cells import Cells
from .evaluation import match_points

__all__ = ["hits", "pooled_f1", "vote"]

_Found = tuple[NDArray[np.float32], NDArray[np.float32]]


def vote(found: Sequence[_Found], radius: float, votes: int) -> _Found:
    """Return the centres (k, 2) and mean scores (k,) on which at least `votes` models agree.

    `found` has (centres (n, 2), scores (n,)) for each model, in one frame; `radius` is in its unit. The highest score
    gathers all detections nearer than that to it, then the next highest of what is left, and so on; a model that is
    silent counts as a score of 0.
    """
    centres = np.concatenate([np.zeros((0, 2), np.float32), *(c for c, _ in found)])
    scores = np.concatenate([np.zeros(0, np.float32), *(s for _, s in found)])
    model = np.repeat(np.arange(len(found)), [len(s) for _, s in found])
    free = np.ones(len(scores), bool)
    agreed, mean = [], []
    for i in np.argsort(-scores, kind="stable"):
        if not free[i]:
            continue
        near = free & (np.hypot(*(centres - centres[i]).T) < radius)
        near[i] = True
        free &= ~near
        voters = np.unique(model[near])
        if len(voters) >= votes:
            best = np.array([scores[near & (model == m)].max() for m in voters])
            agreed.append(np.average(centres[near], axis=0))
            mean.append(best.sum() / len(found))
    return np.array(agreed, np.float32).reshape(-1, 2), np.array(mean, np.float32)


def hits(
    centres: NDArray[np.float32], scores: NDArray[np.float32], truth: NDArray[np.float32], radius: float
) -> tuple[int, int, int]:
    """Return (true positives, false positives, misses) of detections against `truth` (m, 2).

    Highest score first, each takes the nearest unused point that is nearer than `radius` (strictly; 7.5 µm in MIDOG);
    a second detection of a cell is a false positive.
    """
    n = len(scores)
    spots = Cells(np.hstack([centres, centres]), np.zeros(n, np.int16), scores, np.ones(n, np.float32))
    nearer = np.nextafter(np.float32(radius), np.float32(0))
    true = int((match_points(spots, truth, float(nearer)) >= 0).sum())
    return true, n - true, len(truth) - true


def pooled_f1(counts: Sequence[tuple[int, int, int]]) -> float:
    """Return F1 over the summed (true positives, false positives, misses) of all cases; 0 where there is nothing."""
    true, false, missed = np.sum(np.asarray(counts).reshape(-1, 3), axis=0)
    total = 2 * true + false + missed
    return float(2 * true / total) if total else 0.0
