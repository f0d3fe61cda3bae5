"""Networks for single patches that see no difference between an image and its quarter turns (P4 group convolution)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rotation import turned

__all__ = ["P4Conv2d", "P4Encoder"]


class P4Conv2d(nn.Module):
    """A convolution whose filters are used in four rotations; padded, so that height and width stay.

    Takes float (n, c_in, h, w) where `lifting`, else (n, c_in, 4, h, w), and returns (n, c_out, 4, h, w). Turning the
    input by a quarter turns every map by a quarter and moves the orientations on by one.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, *, lifting: bool = False) -> None:
        super().__init__()
        orientations = 1 if lifting else 4
        self.weight = nn.Parameter(torch.empty(c_out, c_in, orientations, kernel, kernel))
        nn.init.kaiming_normal_(self.weight.flatten(1, 2), nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        c_out, _, _, kernel, _ = self.weight.shape
        x = x.flatten(1, 2) if x.ndim == 5 else x
        y = F.conv2d(x, turned(self.weight), padding=kernel // 2)
        return y.reshape(len(y), c_out, 4, *y.shape[2:])


class P4Encoder(nn.Module):
    """Patches float (n, 3, s, s) to features (n, `width`) that stay the same under quarter turns of the patch.

    Each of `widths` is a convolution at half the scale of the one before; s must be divisible by 2 once for each but
    the last, or turns and pooling would not commute (ValueError).
    """

    def __init__(self, widths: Sequence[int] = (8, 16, 24, 32)) -> None:
        super().__init__()
        self.width = widths[-1]
        self.steps = nn.ModuleList()
        for i, (c_in, c_out) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
            conv = P4Conv2d(c_in, c_out, lifting=i == 0)
            self.steps.append(nn.Sequential(conv, nn.BatchNorm3d(c_out), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        halvings = len(self.steps) - 1
        if x.shape[-1] != x.shape[-2] or x.shape[-1] % 2**halvings:
            size = tuple(x.shape[-2:])
            raise ValueError(f"patches must be square with a side divisible by {2**halvings}, not {size}")
        for i, step in enumerate(self.steps):
            if i:
                x = F.max_pool3d(x, (1, 2, 2))
            x = step(x)
        features: Tensor = x.mean((3, 4)).amax(2)
        return features
