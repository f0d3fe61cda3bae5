"""Scores of patches by models that have not seen them, and the cut below which an unlabelled one is surely no cell."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import CervcellError

__all__ = ["MiningError", "Scorer", "out_of_fold", "safety_cut"]

Scorer = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Takes indices of patches (k,) and returns their probabilities of being a cell, float32 (k,)."""


class MiningError(CervcellError):
    """Hard negatives cannot be mined from what there is."""


def out_of_fold(
    group: NDArray[np.int64],
    positive: NDArray[np.bool_],
    train: Callable[[NDArray[np.int64]], Scorer],
    *,
    folds: int = 5,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Score every patch with a model trained on other folds' patches alone.

    Parameters
    ----------
    group : int64 (n,)
        What must not be torn apart, the patches' fields: neighbours overlap, and one field's stain is one.
    positive : bool (n,)
        Which patches are cells. Groups are dealt out so that folds hold about as many of them.
    train : callable
        Takes the indices that a model may learn from, and returns its scorer.

    Returns
    -------
    scores : float32 (n,), fold : int64 (n,)

    Raises MiningError where there is a fold without which no cell, or no negative, is left to learn from.
    """
    names, member = np.unique(group, return_inverse=True)
    folds = min(folds, len(names))
    cells = np.bincount(member, positive, minlength=len(names))
    order = rng.permutation(len(names))
    order = order[np.argsort(-cells[order], kind="stable")]
    fold_of = np.zeros(len(names), np.int64)
    fold_of[order] = np.arange(len(names)) % max(folds, 1)
    fold = fold_of[member]
    for k in range(max(folds, 1)):
        if not positive[fold != k].any() or positive[fold != k].all():
            raise MiningError(
                "Scoring patches by models that have not seen them takes cells and negatives in at least two fields. "
                "Label a few cells in another field first."
            )
    scores = np.zeros(len(group), np.float32)
    for k in range(folds):
        scores[fold == k] = train(np.flatnonzero(fold != k))(np.flatnonzero(fold == k))
    return scores, fold


def safety_cut(scores: NDArray[np.float32], lost: float = 0.05, highest: float = 0.5) -> float:
    """Return the score up to which an unlabelled patch may be used as a negative.

    RECONSTRUCTED. `scores` (n,) are those of known cells, out of fold: of the cells hidden among the unlabelled, at
    most the share `lost` is expected to score so low (a conformal quantile). Minus infinity where there are too few
    known cells to tell, so that nothing unlabelled is used.
    """
    allowed = math.floor(lost * (len(scores) + 1))
    return min(highest, float(np.sort(scores)[allowed - 1])) if allowed else -math.inf
