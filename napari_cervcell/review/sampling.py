"""Who is drawn at random: strata, and a lot for every detection that nothing can change.

The lot of a detection depends on its place alone. Within a stratum, the detections with the lowest lots are a simple
random sample, whatever else was asked about meanwhile and in which order: a cell that was reviewed for another reason
before its turn came counts from that turn on, and none counts before all have been reviewed whose turn is earlier. So
the figures stay unbiased while most questions are chosen, cells are passed over, and more are being found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray

__all__ = ["BINS", "drawing_order", "lots_of", "sample_of", "stratum_of"]

_EDGES = (0.5, 0.8)
BINS = len(_EDGES) + 1
"""Bins of the score; a stratum is a class as detected and a bin, ``label * BINS + bin``."""


def stratum_of(labels: NDArray[np.int16], scores: FloatArray) -> NDArray[np.int16]:
    """Return int16 (n,), the stratum of each detection."""
    strata = labels.astype(np.int16) * np.int16(BINS)
    for edge in _EDGES:
        strata += scores >= np.float32(edge)
    return strata


def lots_of(points: FloatArray) -> FloatArray:
    """Return float32 (n,) in [0, 1): evenly spread numbers that say nothing of a cell but where it is.

    `points` (n, 2) are centres in level-0 px; the same point always gets the same lot.
    """
    x, y = np.ascontiguousarray(points, np.float32).view(np.uint32).T.astype(np.uint64)
    bits = (x << np.uint64(32) | y) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        bits = (bits ^ bits >> np.uint64(shift)) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    lots: FloatArray = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return lots


def drawing_order(lots: FloatArray, strata: NDArray[np.int16], sizes: NDArray[np.int64]) -> FloatArray:
    """Return float32 (n,): detections are drawn in the order of these numbers, the least first.

    Of a stratum of N detections about as many are drawn as the root of N tells: rare ones more often than their share.
    """
    order: FloatArray = lots * np.sqrt(sizes).astype(np.float32)[strata]
    return order


def sample_of(
    strata: NDArray[np.int16],
    lots: FloatArray,
    drawn: NDArray[np.bool_],
    left: NDArray[np.int64],
    all_strata: NDArray[np.int16],
    all_lots: FloatArray,
    waits: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return bool (n,): which of the reviewed detections are the random sample of their strata.

    Those that were drawn, and those whose turn would have come before the last of these had they not been reviewed
    already for another reason: to leave them out would leave out what the other strategies look for. It ends before
    the first detection that `waits` (m,) for a verdict, of all that have `all_strata` and `all_lots`: one that was
    passed over is not like the others, and one that was found since belongs among them. Of a stratum of which nothing
    is `left` (strata,) to review, all.
    """
    last_drawn = np.where(left == 0, np.float32(1), np.float32(-1))
    np.maximum.at(last_drawn, strata[drawn], lots[drawn])
    before = np.flatnonzero((all_lots <= last_drawn[all_strata]) & waits)
    first_waiting = np.full_like(last_drawn, 2)
    np.minimum.at(first_waiting, all_strata[before], all_lots[before])
    sample: NDArray[np.bool_] = (lots <= last_drawn[strata]) & (lots < first_waiting[strata])
    return sample
