"""Class prototypes: mean directions of embedded cells, and a bank of those of labelled ones that outlives a round."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PrototypeBank", "prototypes"]


def prototypes(f: Tensor, label: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Return the normalised mean of the unit vectors of each class, float (C, d), and who has one, bool (C,).

    `f` is (n, d), `label` int64 (n,). The prototype of one vector is that vector; that of none is 0.
    """
    member = F.one_hot(label, n_classes).to(f)
    return F.normalize(member.T @ F.normalize(f, dim=1), dim=1), member.any(0)


class PrototypeBank(nn.Module):
    """The last `keep` prototypes of labelled cells for each class, oldest first, without gradient.

    It emulates larger batches, and, being all buffers, it is saved and loaded with the state of the module that owns
    it: a new session starts with a memory of the classes.
    """

    vectors: Tensor
    length: Tensor

    def __init__(self, n_classes: int, width: int, keep: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(n_classes, keep, width))
        self.register_buffer("length", torch.zeros(n_classes, dtype=torch.long))

    @torch.no_grad()
    def push(self, mu: Tensor, present: Tensor) -> None:
        """Append labelled prototypes `mu` (C, d) of the classes `present`, bool (C,); the oldest make room."""
        keep = self.vectors.shape[1]
        for c in torch.nonzero(present).flatten().tolist():
            if self.length[c] == keep:
                self.vectors[c] = self.vectors[c].roll(-1, 0)
            else:
                self.length[c] += 1
            self.vectors[c, self.length[c] - 1] = mu[c].detach()

    def of(self, c: int) -> Tensor:
        """Return the prototypes of class `c`, float (k, d), oldest first."""
        return self.vectors[c, : int(self.length[c])]

    def all(self) -> tuple[Tensor, Tensor]:
        """Return every prototype, float (k, d), and its class, int64 (k,)."""
        held = torch.arange(self.vectors.shape[1], device=self.length.device) < self.length[:, None]
        return self.vectors[held], torch.nonzero(held)[:, 0]
