"""Backbones: an image in, feature maps at strides 4, 8, 16 and 32 out."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Backbone", "EfficientNetLite"]


class Backbone(nn.Module):
    """What every backbone has: a `stem`, `stages` after it, and the number of `channels` at each stride that it gives.

    ``forward`` takes float32 (n, 3, h, w), normalised as ``(rgb - 127) / 128``, and returns the features at strides
    4, 8, 16 and 32, or at the first few of them: those of every stage. h and w are multiples of the last stride.
    """

    channels: tuple[int, ...]
    stem: nn.Module
    stages: nn.ModuleList

    def first(self, n: int) -> list[nn.Module]:
        """Return its first `n` parts, the stem being one and every stage another."""
        return [self.stem, *self.stages][:n]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


# (kernel, stride, expansion) of every stage of EfficientNet-Lite
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
# (channels, blocks) of every stage by size: from 0 to 2 stages grow wider and deeper, the stem and both ends do not
_SIZES = {
    0: ((16, 1), (24, 2), (40, 2), (80, 3), (112, 3), (192, 4), (320, 1)),
    2: ((16, 1), (24, 3), (48, 3), (88, 4), (120, 4), (208, 5), (352, 1)),
}
_LAST = (1, 2, 4, 6)  # the last stage at each stride


class _ConvNorm(nn.Sequential):
    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03),
        ]
        if act:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__(*layers)


class _InvertedResidual(nn.Module):
    """Expand, depthwise, project: the block of MobileNetV2 and of EfficientNet-Lite."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_ConvNorm(c_in, hidden, 1))
        layers += [
            _ConvNorm(hidden, hidden, kernel, stride, groups=hidden),
            _ConvNorm(hidden, c_out, 1, act=False),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite(Backbone):
    """EfficientNet-Lite (MBConv without squeeze-and-excitation, ReLU6) of size 0 or 2, without its classifier.

    Its features have 24, 40, 112 and 320 channels, or 24, 48, 120 and 352; stages beyond the first `levels` strides are
    not built.

    Attributes
    ----------
    size : int
        0 or 2.
    """

    def __init__(self, size: int = 0, levels: int = 4) -> None:
        super().__init__()
        self.size = size
        sizes = _SIZES[size]
        self.channels = tuple(sizes[i][0] for i in _LAST[:levels])
        self.stem = _ConvNorm(3, 32, 3, 2)
        stages: list[nn.Module] = []
        c_in = 32
        for i in range(_LAST[levels - 1] + 1):
            kernel, stride, expansion = _STAGES[i]
            c_out, repeats = sizes[i]
            blocks = [
                _InvertedResidual(c_in if j == 0 else c_out, c_out, kernel, stride if j == 0 else 1, expansion)
                for j in range(repeats)
            ]
            stages.append(nn.Sequential(*blocks))
            c_in = c_out
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in _LAST:
                features.append(x)
        return features
