"""The U-Net that outlines nuclei: an image in, the logit of "nucleus" at every pixel out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["UNet", "build_unet"]


class UNet(nn.Module):
    """A U-Net: `depth` halvings down and as many up, with the features of each scale carried across.

    ``forward`` takes float32 (n, 3, h, w) from `to_input`, h and w multiples of ``2 ** depth``, and returns the logits
    float (n, h, w). `width` is the number of features at full scale; it doubles with every halving.
    """

    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        widths = [width << i for i in range(depth + 1)]
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1])
        self.merge = nn.ModuleList(_twice(2 * w, w) for w in widths[-2::-1])
        self.pool = nn.MaxPool2d(2)
        self.nucleus = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        across: list[Tensor] = []
        for i, step in enumerate(self.down):
            x = step(self.pool(x) if i else x)
            across.append(x)
        for up, merge, skip in zip(self.up, self.merge, across[-2::-1], strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        logits: Tensor = self.nucleus(x)[:, 0]
        return logits


def build_unet(config: dict[str, Any]) -> UNet:
    """Build the U-Net that `config` describes: "head" is "unet", beside "width" and "depth".

    Raises KeyError for a missing key and ValueError for another head.
    """
    if config["head"] != "unet":
        raise ValueError(f"{config['head']} is no network that outlines nuclei")
    return UNet(config["width"], config["depth"])


def _twice(c_in: int, c_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for c in (c_in, c_out):
        layers += [nn.Conv2d(c, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
