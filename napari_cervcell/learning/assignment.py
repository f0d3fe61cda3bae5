"""Which locations of the output grid a known cell is learnt from: the assignment that each detector is known for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cells import iou_with

__all__ = ["FCOS", "RING", "Assignment", "reach_of"]

CORE = 0.15
"""FCOS: locations nearer to a cell's centre than this share of its box's side are positive."""
RING = 0.3
"""Those between CORE and RING are left out: they see the cell, but are not its centre."""

_CANDIDATES = 45  # ATSS: locations nearest to the centre, from which it picks; its paper: nine on each of five levels
_MATCHES = 4  # YOLOF: anchors matched with every cell, large or small
_FARTHEST = 0.15  # YOLOF: matches that overlap less are left out
_NEAR_YOLOF = 0.45  # YOLOF: and others that overlap more. Its paper: 0.7, between anchors 32 px apart and not 4
_NEAR_YOLLO = 0.6  # YOLOv2: anchors that overlap more than this, but not best, are left out

_Grid = NDArray[np.float64]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Assignment:
    """How the cells of an image share out its locations.

    Attributes
    ----------
    head : str
        A key of `models.HEADS`. FCOS and RepPoints take the middle of a cell; ATSS as many of the nearest locations as
        stand out by overlap (its adaptive threshold), and leaves out others above their mean, which on one fine grid
        see the cell nearly as well; YOLOF the same number of nearest ones for every cell, so that large cells do not
        outweigh small ones; YOLLO, as YOLOv2, the one that holds the centre.
    anchor : float
        Side of the box that a location stands for where overlaps count, px of the network's input.
    """

    head: str = "fcos"
    anchor: float = 30.0

    @classmethod
    def of(cls, architecture: Mapping[str, Any]) -> Assignment:
        """Return the assignment that goes with a network's config."""
        return cls(architecture["head"], architecture["box_size"])

    def __call__(self, x: _Grid, y: _Grid, box: NDArray[np.float32]) -> tuple[_Mask, _Mask]:
        """Return which of the locations (`x`, `y`) are positive for a cell at `box` (4,), and which are left out.

        Every cell gets at least one, the nearest to its centre.
        """
        reach = reach_of(x, y, box)
        positive, left_out = _RULES[self.head](x, y, reach, box, self.anchor)
        if not positive.any():
            positive = _nearest(reach, 1)
        return positive, left_out & ~positive


FCOS = Assignment()


def reach_of(x: _Grid, y: _Grid, box: NDArray[np.float32]) -> _Grid:
    """Distance of every location to the centre of `box`, in units of the box's mean side."""
    side = max(float(box[2] - box[0] + box[3] - box[1]) / 2, 1.0)
    reach: _Grid = np.hypot(x - (box[0] + box[2]) / 2, y - (box[1] + box[3]) / 2) / side
    return reach


def _middle(x: _Grid, y: _Grid, reach: _Grid, box: NDArray[np.float32], anchor: float) -> tuple[_Mask, _Mask]:
    return reach < max(CORE, float(reach.min()) + 1e-6), reach < RING


def _adaptive(x: _Grid, y: _Grid, reach: _Grid, box: NDArray[np.float32], anchor: float) -> tuple[_Mask, _Mask]:
    near = _nearest(reach, _CANDIDATES)
    overlap = _overlap(x, y, box, anchor)
    mean, deviation = overlap[near].mean(), overlap[near].std(ddof=1)
    inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
    return near & inside & (overlap >= mean + deviation), near & (overlap >= mean)


def _uniform(x: _Grid, y: _Grid, reach: _Grid, box: NDArray[np.float32], anchor: float) -> tuple[_Mask, _Mask]:
    matched = _nearest(reach, _MATCHES)
    overlap = _overlap(x, y, box, anchor)
    far = matched & (overlap < _FARTHEST)
    return matched & ~far, far | (overlap > _NEAR_YOLOF)


def _centre(x: _Grid, y: _Grid, reach: _Grid, box: NDArray[np.float32], anchor: float) -> tuple[_Mask, _Mask]:
    return _nearest(reach, 1), _overlap(x, y, box, anchor) > _NEAR_YOLLO


_RULES: dict[str, Callable[[_Grid, _Grid, _Grid, NDArray[np.float32], float], tuple[_Mask, _Mask]]] = {
    "fcos": _middle,
    "reppoints": _middle,
    "atss": _adaptive,
    "yolof": _uniform,
    "yollo": _centre,
}


def _nearest(reach: _Grid, n: int) -> _Mask:
    """The `n` locations nearest to the centre; of equally near ones the first."""
    mask = np.zeros(reach.size, bool)
    mask[np.argsort(reach, axis=None, kind="stable")[:n]] = True
    return mask.reshape(reach.shape)


def _overlap(x: _Grid, y: _Grid, box: NDArray[np.float32], anchor: float) -> _Grid:
    """Intersection over union of `box` with the anchor at every location."""
    half = anchor / 2
    anchors = np.stack([x - half, y - half, x + half, y + half], -1).reshape(-1, 4).astype(np.float32)
    return iou_with(box, anchors).reshape(x.shape).astype(np.float64)
