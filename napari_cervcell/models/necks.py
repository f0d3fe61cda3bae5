"""Necks: features of several strides in, one feature map for the head out."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TopDownNeck"]


class TopDownNeck(nn.Module):
    """The top-down path of a feature pyramid (strides 32, 16, 8), of which only the finest level is used.

    Cells on a slide of fixed mpp are nearly of one size, so one level is enough, fed from above with the context that
    grading needs.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Merge features, finest first, into (n, width, h, w) of the finest."""
        x = self.lateral[-1](features[-1])
        for lateral, feature in zip(list(self.lateral)[-2::-1], list(features)[-2::-1], strict=True):
            x = lateral(feature) + F.interpolate(x, size=feature.shape[-2:], mode="nearest")
        y: Tensor = self.smooth(x)
        return y
