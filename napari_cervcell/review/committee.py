"""What the model before had to say of the cells that are found now."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..cells import Cells, FloatArray

__all__ = ["NOTHING_FOUND", "NO_LOOK", "opinions"]

NO_LOOK = -2
"""Label of a place where no model has looked before."""
NOTHING_FOUND = -1


def opinions(points: FloatArray, earlier: Cells) -> tuple[NDArray[np.int16], FloatArray]:
    """Return int16 (n,) and float32 (n,): the class and score that `earlier` gives to the cell at each of `points`.

    It is the nearest one whose box the point lies in the inner half of, else NOTHING_FOUND with a score of 0.
    """
    labels, scores = np.full(len(points), NOTHING_FOUND, np.int16), np.zeros(len(points), np.float32)
    if len(points) and len(earlier):
        reaches = (earlier.boxes[:, 2:] - earlier.boxes[:, :2]).mean(axis=1) / 2
        tree = cKDTree(earlier.centres, balanced_tree=False, compact_nodes=False)
        distances, nearest = tree.query(points, distance_upper_bound=float(reaches.max()), workers=-1)
        near = np.isfinite(distances)
        near[near] = distances[near] <= reaches[nearest[near]]
        labels[near], scores[near] = earlier.labels[nearest[near]], earlier.scores[nearest[near]]
    return labels, scores
