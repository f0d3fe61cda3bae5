"""Which detection is which annotation: one rule, used everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..cells import Cells, GridIndex, centres_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .events import Annotations

__all__ = ["Match", "Present", "match", "present_cells"]


@dataclass(frozen=True, slots=True)
class Match:
    """The outcome of :func:`match`.

    Attributes
    ----------
    partners : int64 (m,)
        For each annotation the index of its detection, -1 without one. No detection has two.
    covered : bool (n,)
        The detections that lie within reach of an annotation, partner or not: not cells of their own.
    """

    partners: NDArray[np.int64]
    covered: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Present:
    """The cells of a slide as they are now known: annotations first, then the detections that nobody spoke of.

    Attributes
    ----------
    cells : Cells
        An annotation has the box and class that the reviewer left, the score of its model (NaN where none found it),
        and NaN as class score.
    states : int8 (n,)
        :class:`State`, 0 for a detection that nobody spoke of.
    annotation_ids : int64 (n,)
        -1 for those.
    detections : int64 (n,)
        The row in the detections that this cell is or is matched to, -1 for an annotation without one.
    """

    cells: Cells
    states: NDArray[np.int8]
    annotation_ids: NDArray[np.int64]
    detections: NDArray[np.int64]


def match(detected: NDArray[np.float32], annotated: NDArray[np.float32]) -> Match:
    """Match detections to annotations by their boxes, float32 (n, 4) and (m, 4).

    A detection is within reach of an annotation if the centres are no further apart than half the mean side of the
    annotation's box. Pairs are made one to one, the nearest first.
    """
    partners = np.full(len(annotated), -1, np.int64)
    covered = np.zeros(len(detected), bool)
    if not len(annotated):
        return Match(partners, covered)
    reaches = (annotated[:, 2:] - annotated[:, :2]).mean(axis=1) / 2
    of, near, distances = GridIndex(centres_of(detected)).pairs(centres_of(annotated), reaches)
    covered[near] = True
    nearest_first = np.lexsort((near, of, distances))
    taken: set[int] = set()
    for a, i in zip(of[nearest_first].tolist(), near[nearest_first].tolist(), strict=True):
        if partners[a] < 0 and i not in taken:
            partners[a] = i
            taken.add(i)
    return Match(partners, covered)


def present_cells(detections: Cells, annotations: Annotations) -> Present:
    """Merge what models found with what reviewers said."""
    matched = match(detections.boxes, annotations.boxes)
    free = np.flatnonzero(~matched.covered)
    unknown = np.full(len(annotations), np.nan, np.float32)
    spoken_of = Cells(annotations.boxes, annotations.labels, annotations.scores, unknown)
    return Present(
        Cells.concatenate([spoken_of, detections[free]]),
        np.concatenate([annotations.states, np.zeros(len(free), np.int8)]),
        np.concatenate([annotations.ids, np.full(len(free), -1, np.int64)]),
        np.concatenate([matched.partners, free]),
    )
