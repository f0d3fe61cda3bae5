"""Mean-teacher pseudo-labels with a calibrated cut: the rival that learns from what nobody labelled.

After Mean Teacher (NeurIPS 2017) and Calibrated Teacher (AAAI 2023): a running average of the student says where cells
are; its scores are turned into probabilities on labelled data, so that one cut means the same in every round.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor, nn

from ..cells import Cells, GridIndex, centres_of
from .evaluation import match_points
from .fields import Field
from .fitting import follow

__all__ = ["Calibration", "MeanTeacher", "calibrate", "negative_weight", "with_pseudo_labels"]

_OWN_UM = 7.5  # a detection nearer than this to what a person has spoken of is no news


class MeanTeacher:
    """The running average of a student's weights, in evaluation mode and without gradient."""

    def __init__(self, student: nn.Module, decay: float = 0.998) -> None:
        self.network = copy.deepcopy(student).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    def update(self, student: nn.Module) -> None:
        """Follow the student after one of its steps; at once while young."""
        follow(self.network, student, min(self.decay, (self.updates + 1) / (self.updates + 10)))
        self.updates += 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """``p = sigmoid(slope logit(score) + offset)``; the scores as they are by default."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability that detections of these scores (n,) are cells, float64 (n,)."""
        probability: NDArray[np.float64] = expit(self.slope * _logit(scores) + self.offset)
        return probability


def _logit(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    z: NDArray[np.float64] = logit(np.clip(scores.astype(np.float64), 1e-4, 1 - 1e-4))
    return z


def calibrate(results: Sequence[tuple[Cells, NDArray[np.float32]]]) -> Calibration:
    """Fit a calibration to detections whose truth is known, by logistic regression.

    `results` has (cells, points (m, 2)) for each field, in px of its image; only detections in regions where every
    cell is labelled, or the cut would learn that unlabelled cells are none. A weak prior holds slope and offset at 1
    and 0, so that a few detections, or ones that are all right or all wrong, give a finite answer, and none at all
    leave the scores as they are.
    """
    hit = np.concatenate([np.zeros(0, bool), *(match_points(c, p) >= 0 for c, p in results)])
    z = _logit(np.concatenate([np.zeros(0, np.float32), *(c.scores for c, _ in results)]))
    x = np.stack([z, np.ones(len(z))], 1)
    prior = np.array([1.0, 0.0])
    w = prior.copy()
    for _ in range(50):  # Newton; the penalised likelihood is strictly concave
        p = expit(x @ w)
        slope = x.T @ (p - hit) + (w - prior)
        step = np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + np.eye(2), slope)
        w -= step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
    return Calibration(float(w[0]), float(w[1]))


def with_pseudo_labels(field: Field, found: Cells, calibration: Calibration, cut: float = 0.7) -> Field:
    """Return `field` with the teacher's cells of a calibrated probability of at least `cut` as known cells.

    `found` is in px of the field's image. Where a person has spoken the teacher is not heard: in checked regions, and
    near to known cells, rejections and places left out. What lies outside the image is dropped.
    """
    height, width = field.rgb.shape[:2]
    x, y = found.centres.T
    news = (calibration(found.scores) >= cut) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    for x1, y1, x2, y2 in field.checked:
        news &= ~((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2))
    spoken = centres_of(np.concatenate([field.boxes, field.rejected, field.left_out]))
    said = GridIndex(spoken[np.isfinite(spoken).all(1)])
    news &= np.array([said.nearest(a, b, _OWN_UM / field.mpp) is None for a, b in zip(x, y, strict=True)], bool)
    return replace(
        field,
        boxes=np.concatenate([field.boxes, found.boxes[news]]),
        labels=np.concatenate([field.labels, found.labels[news]]),
    )


def negative_weight(overlap: Tensor) -> Tensor:
    r"""Return the weight of a negative whose best overlap with a label is u (FIoU of Calibrated Teacher).

    .. math:: w = 0.5 + 1.5 \cdot (-0.25\, u^2 \ln(1 - u))

    Where labels are missing, a negative that overlaps a label is surer to be one than a negative by itself. `overlap`
    is float of any one shape, below 1.
    """
    return 0.5 - 0.375 * overlap**2 * torch.log1p(-overlap.clamp_max(1 - 1e-6))
