"""ProCo (MICCAI 2022): prototype-aware contrastive learning in a single stage, for classes with few examples.

The skeleton is that of the authors' released network: query and key encoders, key momentum, a labelled queue, a
projection to unit vectors, and beside it a linear classifier whose rows serve as class prototypes and which alone is
used for inference. The loss is RECONSTRUCTED, see ``contrast``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contrast import Recalibration, adversarial_instances, proto_loss

__all__ = ["ProCo"]


class ProCo(nn.Module):
    """An encoder with what it takes to train it so. ``forward`` gives class logits (n, C) of the encoder's input.

    Queue, class weights and the key encoder are part of the state, and so live on between rounds.

    Parameters
    ----------
    encoder : module
        Anything to features (n, `features`).
    counts : sequence of int (C,)
        Training examples of each class. One without any is never predicted.
    alpha, beta : float
        Weight of each key of the same class, and of the class itself, in the target of the loss.
    naming : float
        Weight of the same loss without keys, which PaCo does not have. With few classes hundreds of keys share one, and
        the class's own logit, all that inference sees, would get a few per cent of the target and be drowned in the
        denominator: a run of hundreds of steps would not learn to name at all.
    hardest : int
        Adversarial proto-instances of each kind for every query; 0 for none.
    """

    queue: Tensor
    queue_label: Tensor
    pointer: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        counts: Sequence[int],
        *,
        width: int = 128,
        length: int = 1024,
        momentum: float = 0.999,
        temperature: float = 0.07,
        alpha: float = 0.05,
        beta: float = 1.0,
        naming: float = 1.0,
        hardest: int = 8,
        eps: float = 0.1,
    ) -> None:
        super().__init__()
        self.momentum, self.temperature, self.alpha, self.beta = momentum, temperature, alpha, beta
        self.naming, self.hardest, self.eps = naming, hardest, eps
        self.encoder = encoder
        self.project = nn.Sequential(
            nn.Linear(features, features), nn.BatchNorm1d(features), nn.ReLU(), nn.Linear(features, width)
        )
        self.classify = nn.Linear(features, len(counts))
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_project = copy.deepcopy(self.project).requires_grad_(False)
        self.recalibration = Recalibration(counts)
        self.register_buffer("queue", torch.zeros(length, width))
        self.register_buffer("queue_label", torch.full((length,), -1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.encoder(x))
        return logits.masked_fill(self.recalibration.share == 0, -math.inf)

    def loss(self, query: Tensor, key: Tensor, label: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the mean proto-loss of two views of the same examples, of classes `label` int64 (n,).

        Moves the key encoder on and puts the keys into the queue. Takes a batch of at least two, for the sake of batch
        normalisation. End an epoch with ``recalibration.end_epoch()``.
        """
        features = self.encoder(query)
        logits = self.classify(features)
        q = F.normalize(self.project(features), dim=1)
        with torch.no_grad():
            self.follow()
            k = F.normalize(self.key_project(self.key_encoder(key)), dim=1)
            filled = self.queue_label >= 0
            keys = torch.cat([k, self.queue[filled]])
            key_label = torch.cat([label, self.queue_label[filled]])
        closeness, same = q @ keys.T, label[:, None] == key_label[None]
        if self.hardest:
            made, made_same, real = adversarial_instances(
                q, label, keys, key_label, logits.shape[1], generator=generator, hardest=self.hardest, eps=self.eps
            )
            near = (q[:, None] * made).sum(2).masked_fill(~real, -math.inf)
            closeness, same = torch.cat([closeness, near], 1), torch.cat([same, made_same], 1)
        weight = self.recalibration.weight
        loss = proto_loss(
            logits,
            label,
            closeness,
            same,
            weight=weight,
            temperature=self.temperature,
            alpha=self.alpha,
            beta=self.beta,
        )
        loss = loss + self.naming * proto_loss(logits, label, closeness[:, :0], same[:, :0], weight=weight)
        self.recalibration.observe(logits, label)
        self.enqueue(k, label)
        return loss.mean()

    @torch.no_grad()
    def follow(self) -> None:
        """Move the key encoder and its projection towards the query's: ``momentum`` old, the rest new."""
        pairs = ((self.key_encoder, self.encoder), (self.key_project, self.project))
        for slow, fast in pairs:
            for a, b in zip(slow.parameters(), fast.parameters(), strict=True):
                a.lerp_(b, 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, k: Tensor, label: Tensor) -> None:
        """Put keys (n, width) into the queue, the oldest making room; of more than it holds, the last."""
        length = len(self.queue)
        k, label = k[-length:], label[-length:]
        at = (self.pointer + torch.arange(len(k), device=k.device)) % length
        self.queue[at], self.queue_label[at] = k, label
        self.pointer.copy_((self.pointer + len(k)) % length)
