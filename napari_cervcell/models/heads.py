"""Heads: a feature map in, dense predictions out. A head knows nothing of losses."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Dense", "FCOSHead"]


class Dense(NamedTuple):
    """Predictions at every location of the output grid, as logits; a location (row, col) looks at the input pixel
    ``((col + 0.5) * stride, (row + 0.5) * stride)``.

    Attributes
    ----------
    cell : float (n, h, w)
        Logit of "there is a cell here".
    classes : float (n, C, h, w)
        Logit of each class, given that there is a cell.
    sides : float (n, 4, h, w)
        Distances to the left, top, right and bottom side of the box, px of the network's input, positive.
    """

    cell: Tensor
    classes: Tensor
    sides: Tensor


def _tower(c_in: int, c_out: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        conv = nn.Conv2d(c_out if i else c_in, c_out, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class FCOSHead(nn.Module):
    """Anchor-free head after FCOS: per location a cell logit, class logits and the four sides of a box.

    Three things differ from the paper. There is no centre-ness: only locations at the centre of a cell are positive,
    so the cell logit ranks locations by itself. Finding is apart from naming: the cell logit says whether, the class
    logits say which, so that sparse labels (which leave *whether* unknown) never blur *which*. And cells are found at
    stride 4, with the backbone's fine features, so that crowded nuclei stay apart, but named at stride 8, which is
    what context needs and a quarter of the work.

    Parameters
    ----------
    width : int
        Channels of the neck's output, at stride 8.
    fine_channels : int
        Channels of the backbone's features at stride 4.
    box_size : float
        Usual side of a cell's box, px of the network's input.
    """

    def __init__(self, width: int, fine_channels: int, n_classes: int, box_size: float) -> None:
        super().__init__()
        self.find = _tower(width, width, 1)
        self.fine = nn.Conv2d(fine_channels, width, 1)
        self.find_finely = _tower(width, width // 2, 1)
        self.name = _tower(width, width, 2)
        self.cell = nn.Conv2d(width // 2, 1, 1)
        self.sides = nn.Conv2d(width // 2, 4, 1)
        self.classes = nn.Conv2d(width, n_classes, 1)
        self.dropout = nn.Dropout2d(0.3)
        for conv in (self.cell, self.sides, self.classes):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        # a location is rarely a cell: start there, as RetinaNet does
        nn.init.constant_(self.cell.bias, -math.log((1 - 0.01) / 0.01))  # type: ignore[arg-type]
        self.half_side = box_size / 2

    def forward(self, x: Tensor, fine: Tensor) -> Dense:
        """Predict from the neck's output (n, width, h / 8, w / 8) and the features at stride 4."""
        found = F.interpolate(self.find(x), size=fine.shape[-2:], mode="nearest") + self.fine(fine)
        found = self.find_finely(found)
        classes = self.classes(self.dropout(self.name(x)))
        sides = self.half_side * torch.exp(self.sides(found).clamp(-2.0, 2.0))
        return Dense(self.cell(found)[:, 0], F.interpolate(classes, size=fine.shape[-2:], mode="nearest"), sides)
