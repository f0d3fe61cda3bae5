"""Networks put together from a config, and what they predict decoded into cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..cells import Cells, suppress
from .backbones import EfficientNetLite0
from .heads import Dense, FCOSHead
from .necks import TopDownNeck

__all__ = ["DEFAULT_CONFIG", "NOTHING", "OVERLAP", "STRIDE", "Network", "build", "decode", "predict", "to_input"]

STRIDE = 4
"""Distance between neighbouring locations of the output grid, px of the network's input."""

NOTHING = 127
"""Grey level outside an image: 0 in the network's input, as the padding of its convolutions."""

OVERLAP = 0.5
"""Of two boxes with a greater intersection over union only one is a cell: crowded nuclei overlap less than that."""

DEFAULT_CONFIG: dict[str, Any] = {
    "backbone": "efficientnet-lite0",
    "neck": "top-down",
    "head": "fcos",
    "width": 96,
    "n_classes": 6,
    "box_size": 30.0,
}


class Network(nn.Module):
    """Backbone, neck, head. ``forward`` takes float32 (n, 3, h, w) from :func:`to_input` and returns `Dense`."""

    def __init__(self, backbone: EfficientNetLite0, neck: TopDownNeck, head: FCOSHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def forward(self, x: Tensor) -> Dense:
        fine, *coarse = self.backbone(x)
        dense: Dense = self.head(self.neck(coarse), fine)
        return dense


def build(config: dict[str, Any]) -> Network:
    """Build the network that `config` describes (keys as in `DEFAULT_CONFIG`), with fresh weights.

    `box_size` is the usual side of a cell's box in px of the network's input. Raises KeyError for a missing key and
    ValueError for an unknown part.
    """
    parts = (config["backbone"], config["neck"], config["head"])
    if parts != ("efficientnet-lite0", "top-down", "fcos"):
        raise ValueError(f"unknown network parts {parts}")
    backbone = EfficientNetLite0()
    fine, *coarse = backbone.channels
    neck = TopDownNeck(coarse, config["width"])
    return Network(backbone, neck, FCOSHead(config["width"], fine, config["n_classes"], config["box_size"]))


def to_input(rgb: NDArray[np.uint8] | Tensor) -> Tensor:
    """Turn uint8 (n, h, w, 3) RGB into the network's float32 (n, 3, h, w), channels last in memory."""
    x = torch.as_tensor(rgb).permute(0, 3, 1, 2).float()
    return ((x - NOTHING) / 128.0).contiguous(memory_format=torch.channels_last)


def predict(network: Network, x: Tensor) -> Dense:
    """Return the mean of what `network` says of `x` and of `x` upside down, turned back.

    Cells have no up: two looks at the same pixels find them more surely than one, at twice the cost.
    """
    upright, turned = network(x), network(x.flip(-2, -1))
    cell, classes, sides = (t.flip(-2, -1) for t in turned)
    sides = sides[:, [2, 3, 0, 1]]  # its left is our right
    return Dense(*((a + b) / 2 for a, b in zip(upright, (cell, classes, sides), strict=True)))


def decode(dense: Dense, threshold: float = 0.05, iou: float = OVERLAP) -> list[Cells]:
    """Turn dense predictions into cells, one `Cells` an image, boxes in px of the network's input.

    A cell is a location that is the highest of its 3 x 3 neighbourhood with a probability of at least `threshold`;
    of two whose boxes overlap by more than `iou` the better one stays.
    """
    cell = torch.sigmoid(dense.cell.float())
    peak = torch.nn.functional.max_pool2d(cell[:, None], 3, 1, 1)[:, 0]
    image, row, col = torch.nonzero((cell >= threshold) & (cell == peak), as_tuple=True)
    x, y = (col + 0.5) * STRIDE, (row + 0.5) * STRIDE
    left, top, right, bottom = dense.sides.float()[image, :, row, col].unbind(1)
    boxes = torch.stack([x - left, y - top, x + right, y + bottom], 1)
    share, label = torch.softmax(dense.classes.float()[image, :, row, col], 1).max(1)
    found = Cells(
        boxes.cpu().numpy(),
        label.cpu().numpy().astype(np.int16),
        cell[image, row, col].cpu().numpy(),
        share.cpu().numpy(),
    )
    of_image = image.cpu().numpy()
    result: list[Cells] = []
    for i in range(len(dense.cell)):
        mine = found[of_image == i]
        result.append(mine[suppress(mine, iou)])
    return result
