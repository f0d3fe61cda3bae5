"""From the logits to the nucleus of every cell: its mask, its outline, its area and its share of the cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..cells import FloatArray, centres_of

__all__ = ["Nuclei", "outline", "outlines"]

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


@dataclass(frozen=True, slots=True)
class Nuclei:
    """The nucleus of each of n cells; a cell at which none was found has no outline, and area and share 0.

    Attributes
    ----------
    polygons : list of float32 (m, 2)
        Corners (x, y) of each outline, px of the network's input, along the edges of pixels, without the first again.
    areas : float32 (n,)
        Px² of the network's input; times the model's mpp² in µm².
    shares : float32 (n,)
        Of the area of the cell's box, in [0, 1].
    """

    polygons: list[NDArray[np.float32]]
    areas: NDArray[np.float32]
    shares: NDArray[np.float32]


def outlines(logits: FloatArray, boxes: NDArray[np.float32], reach: float = 1.0) -> Nuclei:
    """Find the nuclei of the cells in `boxes` (n, 4), px of the network's input, in the `logits` (h, w) of its image.

    The nucleus of a cell is what hangs together with its centre, or with the nucleus pixel nearest to it, within its
    box, or a box `reach` times as wide: a detector's boxes are of the usual size, and some nuclei are larger. Where
    these overlap, a pixel belongs to the cell whose centre is nearest, so no pixel is counted twice.
    """
    inside = logits > 0
    h, w = inside.shape
    centres, sides = centres_of(boxes), boxes[:, 2:] - boxes[:, :2]
    half = reach * sides / 2
    within = np.concatenate([centres - half, centres + half], axis=1)
    owner = _owners(within, centres, h, w)
    polygons: list[NDArray[np.float32]] = []
    areas = np.zeros(len(boxes), np.float32)
    for i, (box, (cx, cy)) in enumerate(zip(within, centres, strict=True)):
        x1, y1 = (max(int(np.floor(v)), 0) for v in box[:2])
        x2, y2 = min(int(np.ceil(box[2])), w), min(int(np.ceil(box[3])), h)
        mine = inside[y1:y2, x1:x2] & (owner[y1:y2, x1:x2] == i)
        mask = _around(mine, cx - x1, cy - y1)
        areas[i] = mask.sum()
        polygons.append(outline(mask) + np.array([x1, y1], np.float32))
    return Nuclei(polygons, areas, np.minimum(areas / np.maximum(sides.prod(1), 1.0), 1.0))


def _owners(boxes: NDArray[np.float32], centres: NDArray[np.float32], h: int, w: int) -> NDArray[np.int64]:
    """Return int64 (h, w): of the cells whose boxes hold a pixel the one with the nearest centre, or -1."""
    owner = np.full((h, w), -1, np.int64)
    nearest = np.full((h, w), np.inf)
    for i, (box, (cx, cy)) in enumerate(zip(boxes, centres, strict=True)):
        x1, y1 = (max(int(np.floor(v)), 0) for v in box[:2])
        part = np.s_[y1 : max(int(np.ceil(box[3])), 0), x1 : max(int(np.ceil(box[2])), 0)]
        rows, columns = nearest[part].shape
        y, x = np.ogrid[y1 : y1 + rows, x1 : x1 + columns]
        distance = np.hypot(x + 0.5 - cx, y + 0.5 - cy)
        closer = distance < nearest[part]
        nearest[part][closer], owner[part][closer] = distance[closer], i
    return owner


def _around(mask: NDArray[np.bool_], x: float, y: float) -> NDArray[np.bool_]:
    """Return what hangs together, by edges, with the pixel of `mask` bool (h, w) nearest to (x, y)."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask
    seed = int(((rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2).argmin())
    parts, _ = ndimage.label(mask)
    found: NDArray[np.bool_] = parts == parts[rows[seed], columns[seed]]
    return found


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the outer edge of a mask bool (h, w) that hangs together by edges: its corners (x, y), float32 (m, 2).

    It runs along the edges of pixels, the mask on its right; holes are not outlined. Empty for an empty mask.
    """
    padded = np.pad(mask, 1)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.zeros((0, 2), np.float32)
    x, y = start = int(columns[0]), int(rows[0])
    to = 0  # right, along the top edge of the first pixel of the first row
    corners: list[tuple[int, int]] = []
    while True:
        corners.append((x, y))
        ahead = to
        while ahead == to:
            x, y = x + _STEPS[to][0], y + _STEPS[to][1]
            if (x, y) == start:
                return np.array(corners, np.float32)
            # the four pixels around this corner, clockwise from the upper right
            around = padded[y, x + 1], padded[y + 1, x + 1], padded[y + 1, x], padded[y, x]
            if not around[(to + 1) % 4]:  # nothing ahead on the right: around the mask's corner
                ahead = (to + 1) % 4
            elif around[to]:  # something ahead on the left: along it
                ahead = (to - 1) % 4
        to = ahead
