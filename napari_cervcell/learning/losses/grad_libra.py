"""Grad-Libra loss: cross-entropy re-weighted by its own gradient, for long-tailed classes (MICCAI 2022)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["grad_libra", "gradient_weight", "pull_at_half"]


def gradient_weight(g: Tensor, a: float) -> Tensor:
    """Return ``F(g; a) = g - a sin(g)`` for gradient norms `g` in [0, 1]; 0 < a <= 1 (a = 0: focal with gamma 1)."""
    return g - a * torch.sin(g)


def grad_libra(
    logits: Tensor, target: Tensor, *, a_pos: float = 0.8, a_neg: float = 0.8, detach_weight: bool = False
) -> Tensor:
    r"""Grad-Libra on independent sigmoid classifiers, unreduced.

    .. math:: L = -\sum_i G_i \ln \hat p_i, \quad G^+ = (1-p) - a^+ \sin(1-p), \quad G^- = p - a^- \sin p

    Parameters
    ----------
    logits, target : float, any one shape
        Logits, and targets 0 or 1.
    a_pos, a_neg : float
        How strongly easy positives and easy negatives are damped.
    detach_weight : bool
        Whether G is a constant for the gradient. The paper leaves it open; literal reading: it is not.
    """
    sign = 2 * target - 1
    g = torch.sigmoid(-sign * logits)  # |p - y|
    weight = gradient_weight(g, a_pos) * target + gradient_weight(g, a_neg) * (1 - target)
    if detach_weight:
        weight = weight.detach()
    return -weight * F.logsigmoid(sign * logits)


def pull_at_half(a_pos: float) -> float:
    """Return the slope with which a positive at p = 1/2 draws its logit up: ``(F + F' ln 2 / 2) / 2`` at g = 1/2.

    Cross-entropy's is 1/2.
    """
    weight = 0.5 - a_pos * math.sin(0.5)
    return (weight + (1 - a_pos * math.cos(0.5)) * math.log(2) / 2) / 2
