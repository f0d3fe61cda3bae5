"""The short training of a network for single cells, which the classifiers of patches share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

__all__ = ["descend"]


def descend(module: nn.Module, loss_of_batch: Callable[[], Tensor], *, steps: int, rate: float) -> Iterator[float]:
    """Train what of `module` is to be trained, in place, and yield the loss after each of `steps`.

    `loss_of_batch` draws a batch and returns its loss. The rate rises to `rate` and falls again. Raises
    FloatingPointError where the loss is no longer a number.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    module.train()
    for _ in range(steps):
        loss = loss_of_batch()
        if not torch.isfinite(loss):
            raise FloatingPointError("the training loss is no longer a number")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        yield float(loss.detach())
