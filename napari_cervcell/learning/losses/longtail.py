"""Rivals of Grad-Libra that keep a state per class: equalised focal, EQLv2, Seesaw, balanced softmax.

Each is called as ``rule(logits, target, counted)`` with float (n, C, ...) and bool (n, C, ...), returns the loss of
every element, unreduced and 0 where not `counted`, and in training mode keeps its state up to date. The state is in
buffers, so that a run can be resumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BalancedSoftmax", "EQLv2", "EqualizedFocal", "Seesaw"]


def _per_class(values: Tensor) -> Tensor:
    """Sum (n, C, ...) over all but the classes."""
    return values.sum([d for d in range(values.ndim) if d != 1])


def _along(values: Tensor, like: Tensor) -> Tensor:
    """Shape per-class values (C,) so that they broadcast over (n, C, ...)."""
    return values.reshape(1, -1, *[1] * (like.ndim - 2))


class _GradientRatio(nn.Module):
    """Sums |positive| and |negative| gradients per class over all iterations."""

    positive: Tensor
    negative: Tensor

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("positive", torch.zeros(n_classes))
        self.register_buffer("negative", torch.zeros(n_classes))

    def ratio(self, first: float) -> Tensor:
        """Return positive / negative (C,); `first` while a class has seen no gradient."""
        seen = (self.positive + self.negative) > 0
        return torch.where(seen, self.positive / (self.negative + 1e-10), torch.full_like(self.positive, first))

    def _collect(self, gradient: Tensor, target: Tensor) -> None:
        if self.training:
            self.positive += _per_class(gradient * target)
            self.negative += _per_class(gradient * (1 - target))


class EqualizedFocal(_GradientRatio):
    r"""Equalised focal loss (CVPR 2022): the rarer a class is heard, the steeper its focus.

    .. math:: L = -\alpha_t \frac{\gamma_c}{\gamma} (1 - p_t)^{\gamma_c} \ln p_t, \quad
              \gamma_c = \gamma + s\,(1 - \mathrm{clamp}(r_c, 0, 1))

    r is the ratio of accumulated gradients of this loss itself, 1 to begin with, and no gradient flows through it.
    """

    def __init__(self, n_classes: int, *, gamma: float = 2.0, scale: float = 8.0, alpha: float = 0.25) -> None:
        super().__init__(n_classes)
        self.gamma, self.scale, self.alpha = gamma, scale, alpha

    def forward(self, logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        steep = _along(self.gamma + self.scale * (1 - self.ratio(1.0).clamp(0, 1)), logits)
        sign = 2 * target - 1
        weight = counted * (self.alpha * target + (1 - self.alpha) * (1 - target)) * steep / self.gamma
        wrong, log_right = torch.sigmoid(-sign * logits), F.logsigmoid(sign * logits)
        loss = -weight * wrong**steep * log_right
        with torch.no_grad():  # |dL/dz|, steep and weight being constants
            slope = weight * wrong**steep * (wrong - steep * (1 - wrong) * log_right)
            self._collect(slope, target)
        return loss


class EQLv2(_GradientRatio):
    r"""Equalisation loss v2 (CVPR 2021): cross-entropy with each class's negatives held down while they drown it.

    Negatives weigh :math:`s(r_c) = \sigma(12 (r_c - 0.8))`, positives :math:`1 + 4 (1 - s(r_c))`, with r the ratio of
    the weighted gradients accumulated so far, 100 to begin with.
    """

    def __init__(self, n_classes: int, *, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0) -> None:
        super().__init__(n_classes)
        self.gamma, self.mu, self.alpha = gamma, mu, alpha

    def weights(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of positives and negatives at gradient ratios of any one shape."""
        negative = torch.sigmoid(self.gamma * (ratio - self.mu))
        return 1 + self.alpha * (1 - negative), negative

    def forward(self, logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        positive, negative = (_along(w, logits) for w in self.weights(self.ratio(100.0)))
        weight = counted * (positive * target + negative * (1 - target))
        self._collect(weight * (torch.sigmoid(logits.detach()) - target).abs(), target)
        return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


class _Softmax(nn.Module):
    """One softmax over exclusive classes; `target` is one-hot, and rows without a counted positive have no loss.

    For naming cells that are there (whether they are is another logit's question), or with background as one more
    class. `counts` (C,) is how many of each class have been seen.
    """

    counts: Tensor

    def __init__(self, n_classes: int, counts: Sequence[float] | None = None) -> None:
        super().__init__()
        self.fixed = counts is not None
        self.register_buffer("counts", torch.zeros(n_classes) if counts is None else torch.as_tensor(counts).float())

    def forward(self, logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        named = target * counted
        if self.training and not self.fixed:
            self.counts += _per_class(named)
        return -named * torch.log_softmax(logits + self.shift(logits.detach(), target), 1)

    def shift(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return what is added to the logits, broadcastable to (n, C, ...)."""
        raise NotImplementedError


class BalancedSoftmax(_Softmax):
    """Balanced softmax (NeurIPS 2020): logits are trained as ``logits + ln(counts / sum)``.

    So that what they say at inference does not lean to the frequent classes. `counts` are the training set's, or else
    those seen so far; a class not seen counts as one cell.
    """

    def shift(self, logits: Tensor, target: Tensor) -> Tensor:
        counts = self.counts.clamp_min(1)
        return _along((counts / counts.sum()).log(), logits)


class Seesaw(_Softmax):
    r"""Seesaw loss (CVPR 2021): for a sample of class i, class j's logit is shifted by :math:`\ln(M_{ij} C_{ij})`.

    Mitigation :math:`M = (n_j / n_i)^{0.8}` where j is rarer, so that frequent classes push rare ones down less;
    compensation :math:`C = (p_j / p_i)^2` where j is believed in more than the truth. Probabilities are constants.
    """

    def __init__(
        self, n_classes: int, counts: Sequence[float] | None = None, *, p: float = 0.8, q: float = 2.0
    ) -> None:
        super().__init__(n_classes, counts)
        self.p, self.q = p, q

    def shift(self, logits: Tensor, target: Tensor) -> Tensor:
        log_counts = _along(self.counts.clamp_min(1).log(), logits)
        log_p = torch.log_softmax(logits, 1)
        of_truth = (target * log_counts).sum(1, keepdim=True)
        mitigation = self.p * (log_counts - of_truth).clamp_max(0)
        # the true class's probability is held above 0.01, as in the authors' code: no shift without bounds
        surer = log_p - (target * log_p).sum(1, keepdim=True).clamp_min(math.log(0.01))
        return (mitigation + self.q * surer.clamp_min(0)) * (1 - target)
