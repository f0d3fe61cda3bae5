"""Networks put together from a config, and what they predict decoded into cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..cells import Cells, suppress
from .backbones import Backbone, EfficientNetLite
from .ensemble import EnsembleBackbone, EnsembleHead, EnsembleNeck
from .heads import STRIDE, Dense, FCOSHead, Head, YOLLOHead, YOLOFHead
from .necks import DilatedEncoder, Neck, TopDownNeck
from .reppoints import RepPointsHead
from .resnets import ResNet, SmallNet
from .rotation import make_turnable

__all__ = [
    "BACKBONES",
    "DEFAULT_CONFIG",
    "HEADS",
    "NOTHING",
    "OVERLAP",
    "STRIDE",
    "Network",
    "build",
    "config_of",
    "decode",
    "decode_embedded",
    "predict",
    "to_input",
]

NOTHING = 127
"""Grey level outside an image: 0 in the network's input, as the padding of its convolutions."""

OVERLAP = 0.6
"""Of two boxes with a greater intersection over union only one is a cell: crowded nuclei overlap less than that."""

BACKBONES: dict[str, Callable[[int], Backbone]] = {
    "efficientnet-lite0": lambda levels: EfficientNetLite(0, levels),
    "efficientnet-lite2": lambda levels: EfficientNetLite(2, levels),
    "resnet-18": lambda levels: ResNet(18, levels),
    "resnet-50": lambda levels: ResNet(50, levels),
    "small": SmallNet,
}

HEADS: dict[str, tuple[str, int, type[FCOSHead | YOLOFHead | YOLLOHead]]] = {
    "fcos": ("top-down", 4, FCOSHead),
    "atss": ("top-down", 4, FCOSHead),
    "reppoints": ("top-down", 4, RepPointsHead),
    "yolof": ("dilated", 3, YOLOFHead),
    "yollo": ("top-down", 3, YOLLOHead),
}
"""Of every head its neck, how many strides of the backbone it builds on (4, 8, 16, 32), and its class."""

DEFAULT_CONFIG: dict[str, Any] = {
    "backbone": "efficientnet-lite0",
    "neck": "top-down",
    "head": "fcos",
    "width": 96,
    "n_classes": 6,
    "box_size": 30.0,
    "embedding": 128,
}


class Network(nn.Module):
    """Backbone, neck, head. ``forward`` takes float32 (n, 3, h, w) from :func:`to_input` and returns `Dense`.

    Attributes
    ----------
    rotations : int
        Turns of the image, evenly spaced, under which it says the same; 1 for a plain network.
    """

    def __init__(
        self,
        backbone: Backbone,
        neck: Neck,
        head: Head | EnsembleHead,
        rotations: int = 1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.rotations = rotations
        if rotations > 1:
            make_turnable(self, rotations)

    def forward(self, x: Tensor) -> Dense:
        dense: Dense = self.head(*self.look(x))
        return dense

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the head answers from: the neck's output, and the backbone's finest features."""
        fine, *coarse = self.backbone(x)
        return self.neck(coarse), fine


def config_of(head: str, backbone: str, **changes: Any) -> dict[str, Any]:
    """Return the config of a `head` with its neck on a `backbone`, all else as in `DEFAULT_CONFIG` but for `changes`.

    Raises KeyError for a head that is not in `HEADS`.
    """
    return {**DEFAULT_CONFIG, "backbone": backbone, "neck": HEADS[head][0], "head": head, **changes}


def build(config: dict[str, Any]) -> Network:
    """Build the network that `config` describes (keys as in `DEFAULT_CONFIG`), with fresh weights.

    `box_size` is the usual side of a cell's box in px of the network's input. `embedding` is the length of what
    describes each cell's looks, none where absent. `rotations`, 1 where absent, makes the network answer the same
    under so many turns of the image, 4 or 8. `ensemble_with` lists what is different in further networks, of which and
    the first one the answers are averaged. Raises KeyError for a missing key and ValueError for an unknown part.
    """
    others = config.get("ensemble_with", [])
    rotations = config.get("rotations", 1)
    if rotations not in (1, 4, 8) or (rotations > 1 and (config["head"] == "reppoints" or others)):
        kind = "ensemble" if others else f"{config['head']} network"
        raise ValueError(f"there is no {kind} for {rotations} rotations")
    if not others:
        return Network(*_parts(config), rotations)
    members = [_parts({**config, **other}) for other in ({}, *others)]
    backbones, necks, heads = zip(*members, strict=True)
    if any(isinstance(neck, DilatedEncoder) for neck in necks):
        raise ValueError("there is no ensemble with YOLOF, whose map is coarser than that of the others")
    return Network(
        EnsembleBackbone(backbones),
        EnsembleNeck(necks, [len(b.channels) - 1 for b in backbones]),
        EnsembleHead(heads, [neck.width for neck in necks], [b.channels[0] for b in backbones]),
    )


def _parts(config: dict[str, Any]) -> tuple[Backbone, Neck, Head]:
    neck_name, levels, head_class = HEADS.get(config["head"], ("", 0, FCOSHead))
    if config["backbone"] not in BACKBONES or config["neck"] != neck_name:
        raise ValueError(f"unknown network parts {(config['backbone'], config['neck'], config['head'])}")
    width = config["width"]
    backbone = BACKBONES[config["backbone"]](levels)
    fine, *coarse = backbone.channels
    neck = TopDownNeck(coarse, width) if neck_name == "top-down" else DilatedEncoder(coarse, width)
    return backbone, neck, head_class(width, fine, config["n_classes"], config["box_size"], config.get("embedding", 0))


def to_input(rgb: NDArray[np.uint8] | Tensor) -> Tensor:
    """Turn uint8 (n, h, w, 3) RGB into the network's float32 (n, 3, h, w), channels last in memory."""
    x = torch.as_tensor(rgb).permute(0, 3, 1, 2).float()
    return ((x - NOTHING) / 128.0).contiguous(memory_format=torch.channels_last)


def predict(network: Network, x: Tensor) -> Dense:
    """Return the mean of what `network` says of `x` and of `x` upside down, turned back.

    Cells have no up: two looks at the same pixels find them more surely than one, at twice the cost. A network that
    says the same of both looks once.
    """
    return both_looks(*(network(look) for look in looks(network, x)))


def looks(network: Network, x: Tensor) -> list[Tensor]:
    """Return the pixels that :func:`predict` shows to `network`: `x`, and but for a turnable one `x` upside down."""
    return [x] if network.rotations > 1 else [x, x.flip(-2, -1)]


def both_looks(upright: Dense, turned: Dense | None = None) -> Dense:
    """Return the mean of what was said upright and, if it was asked, upside down; `turned` is turned back first."""
    if turned is None:
        return upright
    cell, classes, sides = (t.flip(-2, -1) for t in turned[:3])
    sides = sides[:, [2, 3, 0, 1]]  # its left is our right
    embedding = None
    if upright.embedding is not None and turned.embedding is not None:
        embedding = (upright.embedding + turned.embedding.flip(-2, -1)) / 2
    return Dense((upright.cell + cell) / 2, (upright.classes + classes) / 2, (upright.sides + sides) / 2, embedding)


class Decoded(NamedTuple):
    """The cells of an image, and what a network says of each beside its likeliest class.

    Attributes
    ----------
    cells : Cells
        n of them, boxes in px of the network's input.
    looks : float32 (n, d)
        Embeddings of unit length: the product of two is how alike two cells are. d is 0 where the network has none.
    shares : float32 (n, C)
        How likely a cell is of each class, given that it is one; they sum to 1.
    """

    cells: Cells
    looks: NDArray[np.float32]
    shares: NDArray[np.float32]


def decode(dense: Dense, threshold: float = 0.05, iou: float = OVERLAP) -> list[Cells]:
    """Return the cells alone of :func:`decode_embedded`."""
    return [of.cells for of in decode_embedded(dense, threshold, iou)]


def decode_embedded(dense: Dense, threshold: float = 0.05, iou: float = OVERLAP) -> list[Decoded]:
    """Turn dense predictions into cells, a `Decoded` for every image.

    A cell is a location that is the highest of its 3 x 3 neighbourhood with a probability of at least `threshold`;
    of two whose boxes overlap by more than `iou` the better one stays.
    """
    cell = torch.sigmoid(dense.cell.float())
    peak = torch.nn.functional.max_pool2d(cell[:, None], 3, 1, 1)[:, 0]
    image, row, col = torch.nonzero((cell >= threshold) & (cell == peak), as_tuple=True)
    x, y = (col + 0.5) * STRIDE, (row + 0.5) * STRIDE
    left, top, right, bottom = dense.sides.float()[image, :, row, col].unbind(1)
    boxes = torch.stack([x - left, y - top, x + right, y + bottom], 1)
    shares = torch.softmax(dense.classes.float()[image, :, row, col], 1)
    share, label = shares.max(1)
    found = Cells(
        boxes.cpu().numpy(),
        label.cpu().numpy().astype(np.int16),
        cell[image, row, col].cpu().numpy(),
        share.cpu().numpy(),
    )
    looks = np.zeros((len(found), 0), np.float32)
    if dense.embedding is not None:
        factor = cell.shape[-1] // dense.embedding.shape[-1]
        raw = dense.embedding[image, :, row // factor, col // factor].float()
        looks = torch.nn.functional.normalize(raw, dim=1).cpu().numpy()
    of_image, of_class = image.cpu().numpy(), shares.cpu().numpy()
    result: list[Decoded] = []
    for i in range(len(dense.cell)):
        mine = np.flatnonzero(of_image == i)
        mine = mine[suppress(found[mine], iou)]
        result.append(Decoded(found[mine], looks[mine], of_class[mine]))
    return result
