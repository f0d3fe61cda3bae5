"""Necks: features of several strides in, one feature map for the head out."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DilatedEncoder", "Neck", "TopDownNeck"]


class Neck(nn.Module):
    """What every neck has: the `width` of its map, in channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


class TopDownNeck(Neck):
    """The top-down path of a feature pyramid (strides 32, 16, 8), of which only the finest level is used.

    Cells on a slide of fixed mpp are nearly of one size, so one level is enough, fed from above with the context that
    grading needs.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__(width)
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


class DilatedEncoder(Neck):
    """YOLOF's encoder: the coarsest features alone, in residual blocks of growing dilation.

    Blocks that look ever farther stand in for the levels of a pyramid. The paper's dilations 2, 4, 6 and 8 are for
    stride 32; at 16, where cells are still apart, half of each spans as much of the image.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__(width)
        self.project = nn.Sequential(
            nn.Conv2d(channels[-1], width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.blocks = nn.ModuleList(_dilated(width, dilation) for dilation in (1, 2, 3, 4))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return (n, width, h, w) of the coarsest of `features`, the last."""
        x: Tensor = self.project(features[-1])
        for block in self.blocks:
            x = x + block(x)
        return x


def _dilated(width: int, dilation: int) -> nn.Sequential:
    half = width // 2
    layers: list[nn.Module] = []
    for c_in, c_out, kernel in ((width, half, 1), (half, half, 3), (half, width, 1)):
        reach = dilation if kernel == 3 else 0
        conv = nn.Conv2d(c_in, c_out, kernel, padding=reach, dilation=max(reach, 1), bias=False)
        layers += [conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
