"""Several networks as one: each looks for itself, and what is said is the mean of what they say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backbones import Backbone
from .heads import Dense, Head
from .necks import Neck

__all__ = ["EnsembleBackbone", "EnsembleHead", "EnsembleNeck"]


class EnsembleBackbone(Backbone):
    """Backbones side by side: the finest features of all as channels of one map, then the coarser ones of each."""

    def __init__(self, members: Sequence[Backbone]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.channels = (sum(b.channels[0] for b in members), *(c for b in members for c in b.channels[1:]))

    def first(self, n: int) -> list[nn.Module]:
        return [part for member in self.members if isinstance(member, Backbone) for part in member.first(n)]

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [member(x) for member in self.members]
        return [torch.cat([of[0] for of in features], 1), *(f for of in features for f in of[1:])]


class EnsembleNeck(Neck):
    """Necks side by side, all of one stride: what they give are channels of one map.

    Parameters
    ----------
    levels : sequence of int
        How many of the features each takes.
    """

    def __init__(self, members: Sequence[Neck], levels: Sequence[int]) -> None:
        super().__init__(sum(member.width for member in members))
        self.members = nn.ModuleList(members)
        self._levels = tuple(levels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Merge the features of every member, finest first, into (n, width, h, w)."""
        given, start = [], 0
        for member, n in zip(self.members, self._levels, strict=True):
            given.append(member(features[start : start + n]))
            start += n
        return torch.cat(given, 1)


class EnsembleHead(nn.Module):
    """Heads side by side. Logits and sides are their means, the embedding is the first one's: others mean other things.

    Parameters
    ----------
    widths, fine_channels : sequence of int
        How many channels of the neck's map, and of the finest features, each looks at.
    """

    def __init__(self, members: Sequence[Head], widths: Sequence[int], fine_channels: Sequence[int]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._widths, self._fine_channels = list(widths), list(fine_channels)

    def forward(self, x: Tensor, fine: Tensor) -> Dense:
        """Predict from the neck's output (n, width, h / 8, w / 8) and the features at stride 4."""
        own = zip(self.members, torch.split(x, self._widths, 1), torch.split(fine, self._fine_channels, 1), strict=True)
        said: list[Dense] = [member(its, its_fine) for member, its, its_fine in own]
        cell, classes, sides = (torch.stack(parts).mean(0) for parts in zip(*(d[:3] for d in said), strict=True))
        return Dense(cell, classes, sides, said[0].embedding)
