"""How the pushes up and down on each class compare: the health figure of long-tailed training."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GradientBalance", "gradient_balance"]


class GradientBalance:
    r"""Per-class ratio of positive to negative gradient, summed over iterations (Grad-Libra's figure, from EQLv2).

    .. math:: r_c = \sum_t |\overline{y_c (p_c - 1)}| \Big/ \sum_t |\overline{(1 - y_c)\, p_c}|

    Near 1: balanced; near 0: the class is drowned by negatives. Log `ratios` and `reset` at the end of each epoch.
    """

    def __init__(self, n_classes: int) -> None:
        self.positive = torch.zeros(n_classes, dtype=torch.float64)
        self.negative = torch.zeros(n_classes, dtype=torch.float64)

    def add(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
        """Add an iteration: `logits` and `target` float (n, C, ...), and how much each element counts, 1 by default.

        A drawn element that stands for many pushes as hard as all of them, one of weight 0 (or False) not at all.
        """
        p = torch.sigmoid(logits.detach())
        weight = torch.ones_like(p) if weight is None else weight.to(p)
        over = [d for d in range(p.ndim) if d != 1]
        self.positive += (target * (1 - p) * weight).mean(over).double().cpu()
        self.negative += ((1 - target) * p * weight).mean(over).double().cpu()

    def ratios(self) -> list[float]:
        """Return r for each class; 0 for a class without positives."""
        ratios: list[float] = (self.positive / self.negative.clamp_min(1e-12)).tolist()
        return ratios

    def reset(self) -> None:
        self.positive.zero_()
        self.negative.zero_()


def gradient_balance(logits: Tensor, target: Tensor) -> Tensor:
    """Return per class the ratio of mean |positive| to mean |negative| CE gradient of one batch, float64 (C,).

    `logits` and `target` are (n, C, ...).
    """
    meter = GradientBalance(logits.shape[1])
    meter.add(logits, target)
    return torch.tensor(meter.ratios(), dtype=torch.float64)
