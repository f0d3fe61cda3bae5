"""Residual backbones: ResNet-18 and -50 as torchvision builds them, and a small one for CPUs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones import Backbone

__all__ = ["ResNet", "SmallNet"]


class ResNet(Backbone):
    """torchvision's ResNet of 18 or 50 layers, without its classifier, with fresh weights.

    Stages beyond the first `levels` strides are not built. Weights that a user has are taken by :meth:`load`.
    """

    def __init__(self, layers: int, levels: int = 4) -> None:
        import torchvision  # slow to import

        super().__init__()
        whole = {18: torchvision.models.resnet18, 50: torchvision.models.resnet50}[layers](weights=None)
        self.stem = nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool)
        self.stages = nn.ModuleList([whole.layer1, whole.layer2, whole.layer3, whole.layer4][:levels])
        deepest = 512 if layers == 18 else 2048
        self.channels = tuple(deepest >> (3 - i) for i in range(levels))

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a torchvision classifier (its ``state_dict``), made for ImageNet's mean and deviation.

        Those are worked into the first layer, so that the input stays that of every backbone; only the rim of the
        image, where a convolution sees padding, is not quite what torchvision would make of it. Raises RuntimeError
        where the weights are another network's.
        """
        places = {"conv1.": "stem.0.", "bn1.": "stem.1."}
        places |= {f"layer{i + 1}.": f"stages.{i}." for i in range(len(self.stages))}
        own = {new + k[len(old) :]: v for k, v in state.items() for old, new in places.items() if k.startswith(old)}
        self.load_state_dict(own)
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        conv, norm = self.stem[0], self.stem[1]  # type: ignore[index]
        # torchvision's input is gain * ours + shift
        gain, shift = 128 / 255 / deviation, (127 / 255 - mean) / deviation
        norm.running_mean -= (conv.weight * shift[:, None, None]).sum((1, 2, 3))
        conv.weight *= gain[:, None, None]


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a way around them."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(c_out)
        self.second = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(c_out)
        same = stride == 1 and c_in == c_out
        self.around = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.around(x))


class SmallNet(Backbone):
    """A slim residual network for CPUs: one block a stride, plain convolutions only.

    A processor's matrix units work through plain convolutions many times faster than through depthwise ones, which
    wait for memory. Stages beyond the first `levels` strides are not built.
    """

    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        self.channels = (24, 48, 96, 160)[:levels]
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )  # fmt: skip
        ins = (16, *self.channels[:-1])
        self.stages = nn.ModuleList(_Block(a, b, 2) for a, b in zip(ins, self.channels, strict=True))
