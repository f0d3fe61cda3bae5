"""Every loss under a name and one way of calling it, for experiments that swap them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .exclusive import Schedule, exclusive_cross_entropy
from .grad_libra import grad_libra
from .longtail import BalancedSoftmax, EQLv2, EqualizedFocal, Seesaw
from .rivals import background_recalibration, cross_entropy, focal

__all__ = ["KNOWN_RULES", "UNKNOWN_RULES", "NamedLoss", "named_loss"]

_Rule = Callable[[Tensor, Tensor, Tensor], Tensor]

_STATELESS: dict[str, Callable[..., Tensor]] = {
    "ce": cross_entropy,
    "focal": focal,
    "grad-libra": grad_libra,
    "grad-libra-detached": partial(grad_libra, detach_weight=True),
}
_STATEFUL: dict[str, Callable[..., nn.Module]] = {
    "efl": EqualizedFocal,
    "eqlv2": EQLv2,
    "seesaw": Seesaw,
    "balanced-softmax": BalancedSoftmax,
}

KNOWN_RULES = (*_STATELESS, *_STATEFUL)
"""What known elements can take."""

UNKNOWN_RULES = ("negative", "ignored", "brl", "exclusive")
"""What unknown elements can take: as known negatives, nothing, background recalibration, exclusive cross-entropy."""


class NamedLoss(nn.Module):
    """A rule for known elements and one for unknown ones. Its state is in buffers, and only training mode changes it.

    Called with

    logits, target : float (n, C, ...)
        C independent classifiers, and 0 or 1; a map with one channel for detection or segmentation, rows for crops.
        Target is 0 where unknown. ``seesaw`` and ``balanced-softmax`` read the classes as exclusive.
    known, unknown : bool (n, C, ...)
        Said by a person; never looked at. What is neither is left out.
    progress : float
        Where the exclusive schedule stands, 0 to 1, carried on from round to round.
    confidence : float (n, C, ...), optional
        What the exclusive rule goes by instead of the prediction itself, a teacher's say.

    it returns the loss of every element, float (n, C, ...), unreduced, exactly 0 where left out.
    """

    def __init__(self, known: _Rule, unknown: str, generator: torch.Generator | None, schedule: Schedule) -> None:
        super().__init__()
        self.known = known
        self.unknown = unknown
        self.generator = generator
        self.schedule = schedule

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        known: Tensor,
        unknown: Tensor,
        progress: float = 1.0,
        confidence: Tensor | None = None,
    ) -> Tensor:
        counted = known | unknown if self.unknown == "negative" else known
        loss = self.known(logits, target, counted)
        if self.unknown == "brl":
            loss = loss + torch.where(unknown, background_recalibration(logits), torch.zeros_like(logits))
        elif self.unknown == "exclusive":
            epoch = progress * self.schedule.epochs
            exclusive = exclusive_cross_entropy(
                logits,
                target,
                ~unknown,
                tau=self.schedule.tau(epoch),
                sampling=self.schedule.sampling(epoch),
                generator=self.generator,
                confidence=confidence,
            )
            loss = loss + torch.where(unknown, exclusive, torch.zeros_like(logits))
        return loss


def named_loss(
    name: str,
    n_classes: int,
    *,
    generator: torch.Generator | None = None,
    schedule: Schedule | None = None,
    **options: Any,
) -> NamedLoss:
    """Return the loss called `name`: a rule of `KNOWN_RULES`, and after a ``+`` one of `UNKNOWN_RULES`.

    ``"focal"`` alone, as ``"focal+negative"``, takes unknown for negative, as every plain detector does;
    ``"grad-libra+exclusive"`` is what the rounds use. `options` go to the rule of known elements; `generator` draws
    the background samples of the exclusive rule. Raises ValueError for an unknown name.
    """
    known, _, unknown = name.partition("+")
    unknown = unknown or "negative"
    if known not in KNOWN_RULES or unknown not in UNKNOWN_RULES:
        raise ValueError(
            f"there is no loss {name!r}: choose one of {', '.join(KNOWN_RULES)}, "
            f"and for unknown elements + one of {', '.join(UNKNOWN_RULES)}"
        )
    rule: _Rule
    if known in _STATEFUL:
        rule = _STATEFUL[known](n_classes, **options)
    else:
        rule = partial(_counted, partial(_STATELESS[known], **options))
    return NamedLoss(rule, unknown, generator, schedule or Schedule())


def _counted(element: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, element(logits, target), torch.zeros_like(logits))
