"""Instant answer between rounds: how like each cell is to what the reviewer has accepted and rejected.

Embeddings are of unit length, so likeness is a product of matrices; nothing is trained.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray

__all__ = ["Embeddings", "likeness", "prototypes", "reranked"]

Embeddings = NDArray[np.float16] | NDArray[np.float32]

_BLOCK = 1024  # rows at a time: they stay in the cache, and BLAS starts no threads for them
_SIGN_AND_NUMBER = np.int32(0x8FFFE000 - 2**32)  # what a half's bits are, moved up by 13, without copies of the sign
_FULL_WEIGHT = 5.0  # verdicts on a side after which its prototype counts fully
_STRENGTH = 2.0  # on the scale of logits, for likeness that differs by 1; more costs where the model is right already
_CERTAIN = 1e-4


def prototypes(embeddings: Embeddings, labels: NDArray[np.integer], classes: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean direction of each class and how much it counts, of reviewed cells.

    Parameters
    ----------
    embeddings : float16 or float32 (m, d)
    labels : int (m,)
        What the reviewer said: a class, -1 for no cell.
    classes : int

    Returns
    -------
    directions : float32 (C + 1, d)
        The last is that of the rejected. Zero where there is none.
    weights : float32 (C + 1,)
        0 with no verdict, near 1 with many: a single one moves little.
    """
    which = np.where(labels < 0, classes, labels).astype(np.int64)
    counts = np.bincount(which, minlength=classes + 1).astype(np.float32)
    sums = np.zeros((classes + 1, embeddings.shape[1]), np.float32)
    np.add.at(sums, which, embeddings.astype(np.float32))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    directions: FloatArray = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return directions, counts / (counts + np.float32(_FULL_WEIGHT))


def reranked(scores: FloatArray, embeddings: Embeddings, directions: FloatArray, weights: FloatArray) -> FloatArray:
    """Return float32 (n,), scores moved by likeness: up where a cell is like accepted ones, down where like rejected.

    The model's own `scores` (n,) stay as they are; without verdicts the result is equal to them.

    Parameters
    ----------
    scores : float32 (n,)
    embeddings : float16 or float32 (n, d)
    directions, weights
        As :func:`prototypes` returns.
    """
    accepted, rejected = np.flatnonzero(weights[:-1] > 0), weights[-1]
    if not len(accepted) and not rejected:
        return scores.copy()
    alike = _products(embeddings, directions * weights[:, None])
    pull = -alike[:, -1]
    if len(accepted):
        pull += alike[:, accepted].max(axis=1)
    sure = np.clip(scores, _CERTAIN, 1 - _CERTAIN)
    moved: FloatArray = sure / (sure + (1 - sure) * np.exp(-np.float32(_STRENGTH) * pull))
    return moved


def likeness(embeddings: Embeddings, query: FloatArray | Embeddings) -> FloatArray:
    """Return float32 (n,), how like `query` (d,) each cell is: 1 for the same looks, -1 for the opposite."""
    alike: FloatArray = _products(embeddings, np.asarray(query, np.float32)[None])[:, 0]
    return alike


def _products(embeddings: Embeddings, directions: FloatArray) -> FloatArray:
    """Return float32 (n, k), the likeness of each of `embeddings` (n, d) to each of `directions` (k, d).

    Halves are widened by moving their bits into place, with an exponent 112 too small, which the directions make good:
    several times faster than numpy's own conversion. They must be finite.
    """
    products = np.empty((len(embeddings), len(directions)), np.float32)
    half = embeddings.dtype == np.float16
    across = np.ascontiguousarray(directions.T, np.float32) * np.float32(2.0**112 if half else 1.0)
    wide = np.empty((_BLOCK, embeddings.shape[1]), np.int32)
    for start in range(0, len(embeddings), _BLOCK):
        block = embeddings[start : start + _BLOCK]
        if half:
            bits = wide[: len(block)]
            np.copyto(bits, block.view(np.int16))
            bits <<= 13
            bits &= _SIGN_AND_NUMBER
            block = bits.view(np.float32)
        np.dot(block, across, out=products[start : start + _BLOCK])
    return products
