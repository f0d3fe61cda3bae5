"""What every location of the output grid should say: the assignment of known cells to locations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models import STRIDE
from .assignment import FCOS, RING, Assignment, reach_of

__all__ = ["Targets", "assign", "collate"]


class Targets(NamedTuple):
    """Per location of the output grid, stacked over a batch.

    Attributes
    ----------
    cell : float32 (n, h, w)
        1 at a known cell, 0 at known background and at unknown locations.
    known : bool (n, h, w)
        Whether a person has said what is there; False where unknown or left out.
    unknown : bool (n, h, w)
        Never looked at: for the exclusive branch. Left-out locations are neither known nor unknown.
    rejected : bool (n, h, w)
        Known background because a reviewer rejected a detection there (hard negative).
    label : int64 (n, h, w)
        Class index at positive locations, -1 elsewhere.
    sides : float32 (n, 4, h, w)
        Distances to the box's sides at positive locations, px of the network's input.
    opinion : float32 (n, h, w)
        The probability of a cell that a teacher gives, -1 where none was asked.
    weight : float32 (n, h, w)
        At positive locations the reciprocal of how many its cell has, so that no cell outweighs a smaller one; 1
        elsewhere.
    names : float32 (n, C, h, w)
        The probabilities of the classes that the teacher gives, meant where it was asked; C is 0 where it names none.
    """

    cell: Tensor
    known: Tensor
    unknown: Tensor
    rejected: Tensor
    label: Tensor
    sides: Tensor
    opinion: Tensor
    weight: Tensor
    names: Tensor


def assign(
    shape: tuple[int, int],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int16],
    rejected: NDArray[np.float32],
    checked: NDArray[np.float32],
    inside: NDArray[np.float32],
    skipped: NDArray[np.float32],
    assignment: Assignment = FCOS,
    opinion: NDArray[np.float32] | None = None,
) -> Targets:
    """Assign what is known in one image to its output grid (no batch axis).

    All geometry is in px of the network's input; `shape` is (h, w) of that input. `inside` (4,) is the rectangle that
    holds real pixels: what lies outside is left out, and so is what lies within the boxes `skipped`.
    `assignment` says which locations a cell is learnt from; what is known and what unknown it does not change.
    `opinion` is a teacher's, float32 (h / STRIDE, w / STRIDE); what it thinks of what lies outside does not count.
    """
    h, w = shape[0] // STRIDE, shape[1] // STRIDE
    y, x = np.meshgrid((np.arange(h) + 0.5) * STRIDE, (np.arange(w) + 0.5) * STRIDE, indexing="ij")
    known = np.zeros((h, w), bool)
    for x1, y1, x2, y2 in checked:
        known |= (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    unknown = ~known
    out = (x < inside[0]) | (x > inside[2]) | (y < inside[1]) | (y > inside[3])
    for box in skipped:
        out |= reach_of(x, y, box) < RING
    hard = np.zeros((h, w), bool)
    for box in rejected:
        near = reach_of(x, y, box) < RING
        hard |= near
    known |= hard
    unknown &= ~hard

    nearest = np.full((h, w), np.inf, np.float32)
    label = np.full((h, w), -1, np.int64)
    weight = np.ones((h, w), np.float32)
    sides = np.zeros((4, h, w), np.float32)
    for box, c in zip(boxes, labels, strict=True):
        reach = reach_of(x, y, box)
        mine, left = assignment(x, y, box)
        taken = np.where(mine | left, reach, np.inf)
        mine &= reach < nearest
        label[mine] = c
        weight[mine] = 1 / max(int(mine.sum()), 1)
        sides[:, mine] = np.stack([x - box[0], y - box[1], box[2] - x, box[3] - y])[:, mine]
        nearest = np.minimum(nearest, taken)
    positive = label >= 0
    left_out = (np.isfinite(nearest) & ~positive) | (out & ~positive)
    known = (known | positive) & ~left_out
    asked = np.full((h, w), -1, np.float32)
    if opinion is not None:
        asked = np.where(out, asked, opinion)
    return Targets(
        torch.from_numpy(positive.astype(np.float32)),
        torch.from_numpy(known),
        torch.from_numpy(unknown & ~positive & ~left_out),
        torch.from_numpy(hard & ~positive & ~left_out),
        torch.from_numpy(label),
        torch.from_numpy(np.maximum(sides, 1.0)),
        torch.from_numpy(asked),
        torch.from_numpy(weight),
        torch.zeros(0, h, w),
    )


def collate(targets: list[Targets]) -> Targets:
    """Stack the targets of single images into those of a batch."""
    return Targets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))
