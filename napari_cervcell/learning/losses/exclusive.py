"""Exclusive cross-entropy for sparse labels (ICCV 2021): what nobody looked at is unknown, not negative."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Schedule", "exclusive_cross_entropy", "exclusive_cross_entropy_multiclass"]

_ALPHA, _GAMMA = 0.2, 0.1
_EARLIEST = 1e-5  # share of s_max at which next to no unknown element is drawn


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the confidence cut tau and the sampling share s grow with training.

    ``tau(t) = tau_max sigmoid((t - T/6) / (T/30))`` and ``s(t) = s_max sigmoid((t - T/2) / (T/30))`` with T = `epochs`
    (centres 50 and 150, temperature 10 at the authors' T = 300). Rounds do not start again: where they stand,
    `progress` = t / T, follows from the share of cells that are labelled by then (`progress_for`).
    """

    epochs: float = 300.0
    tau_max: float = 0.5
    s_max: float = 0.5

    def _at(self, t: float, centre: float) -> float:
        return float(torch.sigmoid(torch.tensor((t - self.epochs * centre) / (self.epochs / 30), dtype=torch.float64)))

    def tau(self, t: float) -> float:
        """Return the highest probability at which an unknown element still counts as background, at epoch `t`."""
        return self.tau_max * self._at(t, 1 / 6)

    def sampling(self, t: float) -> float:
        """Return the share of unknown elements drawn as background at epoch `t`."""
        return self.s_max * self._at(t, 1 / 2)

    def progress_for(self, share: float, pull: float = 0.5) -> float:
        """Return the progress at which unknown cells do not outweigh the labelled ones, of which there are `share`.

        Cells that look alike are drawn up by those labelled, with the slope `pull` at p = 1/2 (1/2 for cross-entropy),
        and down by the unknown ones, with ``s alpha 2^-gamma (gamma ln 2 / 2 + 1/2)``. Only if ``share pull`` is more
        than ``1 - share`` times that does their score pass 1/2, from where on the unknown ones are excluded: so far may
        s grow. RECONSTRUCTED: the authors' schedule counts epochs, which rounds have none of.
        """
        push = _ALPHA * 0.5**_GAMMA * (_GAMMA * math.log(2) / 2 + 0.5)
        sampling = pull * share / push / max(1 - share, 1e-9)
        there = min(max(sampling / self.s_max, _EARLIEST), 1 - _EARLIEST)
        return 1 / 2 + math.log(there / (1 - there)) / 30


def _as_background(
    loss: Tensor, kept: Tensor, sampling: float, generator: torch.Generator | None, alpha: float, gamma: float
) -> Tensor:
    drawn = torch.rand(kept.shape, generator=generator, device=kept.device) < sampling
    # 1 - exp(-CE) is 0 at CE = 0, where its power has no finite slope: kept away from 0
    focal = (-torch.expm1(-loss)).clamp_min(1e-12) ** gamma
    return torch.where(kept & drawn, alpha * focal * loss, torch.zeros_like(loss))


def exclusive_cross_entropy(
    logits: Tensor,
    target: Tensor,
    known: Tensor,
    *,
    tau: float,
    sampling: float,
    generator: torch.Generator | None,
    confidence: Tensor | None = None,
    alpha: float = _ALPHA,
    gamma: float = _GAMMA,
) -> Tensor:
    r"""Binary exclusive cross-entropy, unreduced.

    A known element takes plain CE. An unknown one is trained as background with
    :math:`m\,e\,\alpha\,(1 - e^{-CE})^\gamma\,CE`, where m ~ Bernoulli(`sampling`) is drawn anew at each call and
    e = 1 while the confidence is at most `tau`: confident "errors" are likely missed cells.

    Parameters
    ----------
    logits, target : float, any one shape
    known : bool, the same shape
        Whether a person has said what the element is.
    confidence : float, the same shape, optional
        What is compared with `tau`; the predicted probability by default.
    """
    zero = torch.zeros_like(logits)
    background = F.binary_cross_entropy_with_logits(logits, zero, reduction="none")
    confidence = torch.sigmoid(logits.detach()) if confidence is None else confidence
    unknown = _as_background(background, confidence <= tau, sampling, generator, alpha, gamma)
    certain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return torch.where(known, certain, unknown)


def exclusive_cross_entropy_multiclass(
    logits: Tensor,
    target: Tensor,
    known: Tensor,
    *,
    tau: float,
    sampling: float,
    generator: torch.Generator | None,
    confidence: Tensor | None = None,
    background: int = 0,
    alpha: float = _ALPHA,
    gamma: float = _GAMMA,
) -> Tensor:
    """Multi-class exclusive cross-entropy, unreduced.

    As :func:`exclusive_cross_entropy`; the confidence of an unknown element is the difference of its two highest
    softmax probabilities, unless `confidence` (n, ...) says another (a teacher's, say). `logits` is (n, C, ...),
    `target` (int64, any value where unknown) and `known` (bool) are (n, ...); C is at least 2.
    """
    unknown_target = torch.where(known, target, torch.full_like(target, background))
    loss = F.cross_entropy(logits, unknown_target, reduction="none")
    if confidence is None:
        top = torch.softmax(logits.detach(), 1).topk(2, dim=1).values
        confidence = top[:, 0] - top[:, 1]
    return torch.where(known, loss, _as_background(loss, confidence <= tau, sampling, generator, alpha, gamma))
