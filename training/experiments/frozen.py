"""Whole detectors on a frozen backbone: its maps of every field are made once, and neck and head learn from these.

The backbone is EfficientNet-Lite0 as ImageNet left it. It looks at every field upright and upside down; both are drawn
from, and no other change of the pixels is, for what is frozen cannot be asked anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cervcell.learning.assignment import Assignment
from napari_cervcell.learning.features import FeatureMemory, HeadAlone, Remembering
from napari_cervcell.learning.fields import BOX_UM, Field
from napari_cervcell.learning.seen import Seen, see
from napari_cervcell.models import Network, build, config_of
from napari_cervcell.models.heads import Dense
from napari_cervcell.taxonomy import BETHESDA

from .features import MPP, imagenet, untrained

__all__ = ["SCALES", "Eyes", "Scale", "detector"]

_CHANNELS, _FOLDS = (40, 112, 320), (4, 2, 1)  # of the backbone at strides 8, 16 and 32
_MEMORY = 4 << 30  # bytes


@dataclass(frozen=True)
class Scale:
    """`patch` is the side of what is drawn, px of the network's input; `width` that of neck and head, channels.

    The `rate` of a short run was settled on val.
    """

    steps: int
    batch: int = 2
    patch: int = 256
    width: int = 32
    rate: float = 3e-3
    seeds: int = 3


SCALES = {
    "smoke": Scale(steps=2, patch=128, width=8, seeds=1),
    "cpu": Scale(steps=150),
    "gpu": Scale(steps=3400, batch=16, width=96, rate=1e-3, seeds=5),
}


class _Fold(nn.Module):
    """In the neck's place: the backbone's coarser maps as they are, folded onto the coarsest grid."""

    width = sum(c * f * f for c, f in zip(_CHANNELS, _FOLDS, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([F.pixel_unshuffle(m, f) for m, f in zip(maps, _FOLDS, strict=True)], 1)


class _NeckAndHead(nn.Module):
    """In the head's place: the neck and the head of `network`, on what `_Fold` returns."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.neck, self.head = network.neck, network.head
        self._coarse = len(network.backbone.channels) - 1

    def forward(self, x: Tensor, fine: Tensor) -> Dense:
        parts = x.split([c * f * f for c, f in zip(_CHANNELS, _FOLDS, strict=True)], 1)
        coarse = [F.pixel_shuffle(p, f) for p, f in zip(parts, _FOLDS, strict=True)]
        dense: Dense = self.head(self.neck(coarse[: self._coarse]), fine)
        return dense


class Eyes:
    """The frozen backbone, and what it has seen, which is kept in `cache`; a smoke run's has not been trained."""

    def __init__(self, smoke: bool, cache: Path) -> None:
        backbone = untrained() if smoke else imagenet()
        self._network = Remembering(Network(backbone, _Fold(), nn.Identity()), FeatureMemory(_MEMORY, cache / "maps"))

    def see(self, fields: Sequence[Field], head: str) -> list[Seen]:
        """Return `fields` as seen upright and upside down, with what a `head` should say of them."""
        return [see(f, self._network, MPP, Assignment(head, BOX_UM / MPP)) for f in fields]


def detector(head: str, width: int, seed: int, embedding: int = 0) -> HeadAlone:
    """Return a fresh neck and `head` of `width` channels; it answers to the features of what :class:`Eyes` saw."""
    torch.manual_seed(seed)
    changes = {"n_classes": len(BETHESDA), "box_size": BOX_UM / MPP, "width": width, "embedding": embedding}
    network = build(config_of(head, "efficientnet-lite0", **changes))
    return HeadAlone(Network(network.backbone, _Fold(), _NeckAndHead(network)))
