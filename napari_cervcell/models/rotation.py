"""Rotation-equivariant networks: any network rebuilt from group convolutions over 4 or 8 rotations.

A map of c channels becomes c / g features in g orientations each, so that maps and work stay what they were and the
weights get fewer by g. Channels are laid out feature by feature: (n, c / g * g, h, w).

What is exact: quarter turns, of every layer and so of the whole network, up to the rounding of float32, for images
whose sides are multiples of the last stride. What is not: the eighth turns between them. A square grid does not map on
itself there, filters are interpolated, and what the network says is near what it says of the upright image, not equal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .heads import Scalars, Sides

__all__ = ["make_turnable", "turned"]


def make_turnable(module: nn.Module, rotations: int) -> None:
    """Replace, in place, every layer of `module` by its version for `rotations` (4 or 8), with fresh weights.

    Layers that work pixel by pixel stay. Where a convolution or pooling halves the image, its kernel gets the next even
    size: an odd one sees the pixels 0, 2, 4, ... of a row, which are others when the row is turned around. Raises
    ValueError for channels that are no multiple of `rotations`.
    """
    for name, layer in list(module.named_children()):
        if isinstance(layer, Scalars):
            setattr(module, name, _TurnedScalars(layer, rotations))
        elif isinstance(layer, Sides):
            setattr(module, name, _TurnedSides(layer, rotations))
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            setattr(module, name, _TurnedConv(layer, rotations))
        elif isinstance(layer, nn.BatchNorm2d):
            setattr(module, name, _TurnedNorm(layer, rotations))
        elif isinstance(layer, nn.MaxPool2d):
            setattr(module, name, nn.MaxPool2d(2))
        else:
            make_turnable(layer, rotations)


def turned(upright: Tensor, eighth: Tensor | None = None) -> Tensor:
    """Return filters (c_out, c_in, orientations, k, k) in 4 rotations, or in 8 by what turns a flattened kernel by one.

    They are the weights of a plain convolution, (c_out * rotations, c_in * orientations, k, k). An input orientation is
    seen by the filter turned by r as the one r before it.
    """
    filters = []
    for r in range(4 if eighth is None else 8):
        w, quarters = upright.roll(r, 2), r
        if eighth is not None:
            quarters = r // 2
            if r % 2:
                w = (w.flatten(3) @ eighth).reshape(w.shape)
        filters.append(w.rot90(quarters, (3, 4)).flatten(1, 2))
    return torch.stack(filters, 1).flatten(0, 1)


class _TurnedConv(nn.Module):
    """A convolution, plain, depthwise or transposed, whose filters are used in every rotation.

    From the image (three channels) it lifts; else an input orientation is seen by the filter turned by r as the one r
    before it. Turning the input by one step turns every map and moves the orientations on by one.
    """

    eighth: Tensor

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, rotations: int) -> None:
        super().__init__()
        self.rotations = rotations
        orientations = 1 if conv.in_channels == 3 else rotations
        if conv.in_channels % orientations or conv.out_channels % rotations:
            raise ValueError(f"{conv.in_channels} or {conv.out_channels} channels are no multiple of {rotations}")
        self.groups = 1 if conv.groups == 1 else conv.groups // rotations
        c_in, c_out = conv.in_channels // orientations // self.groups, conv.out_channels // rotations
        kernel, self.stride, self.dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
        self.transposed = isinstance(conv, nn.ConvTranspose2d)
        self.padding = int(conv.padding[0])
        if self.stride == 2 and kernel % 2:
            kernel, self.padding = kernel + 1, (kernel - 1) // 2
        self.orientations = orientations
        self.weight = nn.Parameter(torch.empty(c_out, c_in * orientations, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(c_out)) if conv.bias is not None else None
        self.register_buffer("eighth", _eighth_turn(kernel), persistent=False)

    def filters(self) -> Tensor:
        """Return the weights of the plain convolution that this one is, (c_out, c_in / groups, k, k)."""
        kernel = self.weight.shape[-1]
        upright = self.weight.reshape(len(self.weight), -1, self.orientations, kernel, kernel)
        return turned(upright, self.eighth if self.rotations == 8 else None)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.repeat_interleave(self.rotations)
        w = self.filters()
        if self.transposed:
            return F.conv_transpose2d(x, w.transpose(0, 1), bias, self.stride)
        return F.conv2d(x, w, bias, self.stride, self.padding, self.dilation, self.groups)


class _TurnedNorm(nn.BatchNorm2d):
    """Batch normalisation of features, with one mean and deviation over their orientations."""

    def __init__(self, norm: nn.BatchNorm2d, rotations: int) -> None:
        super().__init__(norm.num_features // rotations, eps=norm.eps, momentum=norm.momentum)

    def forward(self, x: Tensor) -> Tensor:
        # orientations side by side as rows of one map
        return super().forward(x.reshape(len(x), self.num_features, -1, x.shape[3])).reshape(x.shape)


class _TurnedScalars(nn.Module):
    """Numbers that do not change when the image is turned: from each feature in its strongest orientation."""

    def __init__(self, conv: nn.Conv2d, rotations: int) -> None:
        super().__init__()
        self.rotations = rotations
        self.conv = nn.Conv2d(conv.in_channels // rotations, conv.out_channels, 1)
        nn.init.normal_(self.conv.weight, std=0.01)
        with torch.no_grad():
            self.conv.bias.copy_(conv.bias)  # type: ignore[union-attr, arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.reshape(len(x), -1, self.rotations, *x.shape[2:]).amax(2))
        return y


class _TurnedSides(_TurnedConv):
    """The sides of a box: one feature, of which every quarter turn is one side."""

    def __init__(self, conv: nn.Conv2d, rotations: int) -> None:
        super().__init__(nn.Conv2d(conv.in_channels, rotations, 1), rotations)
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        step = self.rotations // 4
        # a turn to the left brings left to the bottom, and so on round
        return super().forward(x)[:, [0, 3 * step, 2 * step, step]]


def _eighth_turn(kernel: int) -> Tensor:
    """Return float32 (k * k, k * k): a flattened kernel times it is the kernel turned an eighth to the left.

    Bilinear, about the kernel's centre; what comes from beyond its rim is nothing.
    """
    place = torch.arange(kernel) - (kernel - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    half = 0.5**0.5
    # where each place of the turned kernel comes from; y points down
    from_x, from_y = half * (x - y), half * (x + y)
    near_x, near_y = (1 - (a.flatten()[:, None] - b.flatten()).abs() for a, b in ((x, from_x), (y, from_y)))
    shares: Tensor = near_x.clamp_min(0) * near_y.clamp_min(0)
    return shares
