"""What the papers' losses are measured against, element by element: cross-entropy, focal, background recalibration."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["background_recalibration", "cross_entropy", "focal"]


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, unreduced; `logits` and `target` (0 or 1) are float of any one shape."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def focal(logits: Tensor, target: Tensor, *, alpha: float | None = 0.25, gamma: float = 2.0) -> Tensor:
    r"""Focal loss :math:`-\alpha_t (1 - p_t)^\gamma \ln p_t`, unreduced; without class weights where `alpha` is None.

    `logits` and `target` (0 or 1) are float of any one shape.
    """
    sign = 2 * target - 1
    loss = -(torch.sigmoid(-sign * logits) ** gamma) * F.logsigmoid(sign * logits)
    return loss if alpha is None else loss * (alpha * target + (1 - alpha) * (1 - target))


def background_recalibration(
    logits: Tensor, *, threshold: float = 0.05, alpha: float = 0.25, gamma: float = 2.0, beta: float = 1.0
) -> Tensor:
    r"""Background recalibration loss (ICASSP 2020) of elements without a label, unreduced.

    With :math:`p \le 1 - threshold` a focal negative, :math:`-(1 - \alpha)\, p^\gamma \ln(1 - p)`. Above it the
    element is more likely a cell that was missed, and is mirrored: :math:`-(1 - \alpha)\,\beta\,(1 - p)^\gamma \ln p`.
    The experiments' settings and a gate on box overlap, told of second hand, are not known: these are the defaults of
    the authors' kernel.
    """
    p = torch.sigmoid(logits)
    easy = -(p**gamma) * F.logsigmoid(-logits)
    mirrored = -beta * (1 - p) ** gamma * F.logsigmoid(logits)
    return (1 - alpha) * torch.where(p > 1 - threshold, mirrored, easy)
