"""Training of small heads on rows of frozen features, drawn so that rare positives are in every batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from napari_cervcell.learning.descent import descend
from napari_cervcell.learning.teacher import MeanTeacher

from .finding import Locations, Stacked

__all__ = ["Batch", "Draws", "train"]


class Batch(NamedTuple):
    """`weight` float (n,) makes the weighted sum over a batch what the mean over all locations would be, by positives:
    the loss of a dense detector. `label` is -1 but at positive locations.
    """

    x: Tensor
    label: Tensor
    known: Tensor
    unknown: Tensor
    weight: Tensor


class Draws:
    """Draws batches of rows: a quarter positive, an eighth known negatives where most is unknown, the rest unknown.

    `noise` is the standard deviation of what is added to the whitened features, in place of augmented pixels: without
    it a head learns a few hundred cells by heart.
    """

    def __init__(self, rows: Stacked, at: Locations, seed: int, batch: int, noise: float) -> None:
        self.rows, self.rng = rows, np.random.default_rng(seed)
        self.noise, self.generator = noise, torch.Generator().manual_seed(seed)
        self.positive, self.label = at.positive, at.label
        quarter = batch // 4
        shares = {"negative": quarter // 2 if len(at.unknown) else batch - quarter}
        shares["unknown"] = batch - quarter - (shares["negative"] if len(at.negative) else 0)
        kinds = [("positive", at.positive, quarter)]
        kinds += [(k, getattr(at, k), n) for k, n in shares.items() if len(getattr(at, k))]
        self.kinds = [(k, of, n) for k, of, n in kinds if len(of)]
        weights = [np.full(n, len(of) / n / max(len(at.positive), 1), np.float32) for _, of, n in self.kinds]
        self.weight = torch.from_numpy(np.concatenate(weights))
        self.unknown = torch.from_numpy(np.concatenate([np.full(n, k == "unknown") for k, _, n in self.kinds]))

    def __call__(self) -> Batch:
        drawn = [self.rng.integers(len(of), size=n) for _, of, n in self.kinds]
        index = np.concatenate([of[d] for d, (_, of, _) in zip(drawn, self.kinds, strict=True)])
        label = np.full(len(index), -1, np.int64)
        if self.kinds[0][0] == "positive":
            label[: len(drawn[0])] = self.label[drawn[0]]
        x = self.rows[index]
        x += self.noise * torch.randn(x.shape, generator=self.generator)
        return Batch(x, torch.from_numpy(label), ~self.unknown, self.unknown, self.weight)


def train(
    module: nn.Module,
    draws: Callable[[], Batch],
    loss: Callable[[Batch, Tensor, nn.Module, float], Tensor],
    *,
    steps: int,
    rate: float = 2e-3,
    extra: nn.Module | None = None,
) -> nn.Module:
    """Train `module` in place and return the average of its weights, in evaluation mode.

    `loss` takes a batch, its logits, the average so far and the progress in [0, 1], and returns (n,) unweighted.
    What is to be learnt beside the head is in `extra`.
    """
    teacher = MeanTeacher(module, decay=0.99)
    done = 0

    def loss_of_batch() -> Tensor:
        nonlocal done
        if done:
            teacher.update(module)
        batch = draws()
        done += 1
        return (loss(batch, module(batch.x), teacher.network, done / steps) * batch.weight).sum()

    whole = nn.ModuleList([module, *([] if extra is None else [extra])])
    for _ in descend(whole, loss_of_batch, steps=steps, rate=rate):
        pass
    teacher.update(module)
    return teacher.network
