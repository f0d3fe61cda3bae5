"""Fields as a frozen backbone has seen them, and patches drawn from those: what a quick round learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..models import NOTHING, STRIDE, to_input
from .assignment import Assignment
from .crops import Crops, CropSampler
from .features import HeadAlone, Remembering
from .fields import Field
from .targets import Targets, assign

__all__ = ["PATCH", "Ask", "Seen", "SeenSampler", "see"]

PATCH = 128
"""Usual side of a patch, px of the network's input."""
_BORDER = 16
"""Px at a patch's sides that teach nothing: there the head sees what is not beside the cell but beside the patch."""


Ask = Literal["nowhere", "unknown", "everywhere"]
"""Where a network is asked for its opinion, a teacher's: of what is unknown, or also of what a person has spoken of."""


class Look(NamedTuple):
    """Features float16 (c, h, w), what they should say, and whether the image was upside down."""

    features: Tensor
    targets: Targets
    turned: bool


@dataclass(slots=True)
class Seen(Field):
    """A field at the network's mpp and what a network's frozen part makes of it.

    Attributes
    ----------
    looks : tuple of Look
        At the image, or at the image upside down, which the network looks at too when it detects, or at both.
    size : (int, int)
        Width and height of what was looked at, px of the network's input.
    rim : int
        So many px of that at every side have no features.
    """

    looks: tuple[Look, ...] = ()
    size: tuple[int, int] = (0, 0)
    rim: int = 0


def see(
    field: Field,
    network: Remembering,
    mpp: float,
    assignment: Assignment,
    *,
    rim: int = 0,
    turns: Sequence[bool] = (False, True),
    ask: Ask = "nowhere",
) -> Seen:
    """Return `field` as `network`, which sees `mpp` µm per px, sees it.

    `rim` px (of the network's input, a multiple of the features' stride) at each side only give context. `turns` says
    of each look whether it is upside down.
    """
    scale = mpp / field.mpp
    height, width = field.rgb.shape[:2]
    w, h = max(1, round(width / scale)), max(1, round(height / scale))
    rgb = field.rgb
    if (w, h) != (width, height):
        rgb = np.asarray(Image.fromarray(rgb).resize((w, h), Image.Resampling.BILINEAR))
    padded = np.full((*(max(PATCH, -(-side // 32) * 32) for side in (h, w)), 3), NOTHING, np.uint8)
    padded[:h, :w] = rgb
    stretch = np.array([w / width, h / height] * 2, np.float32)

    def mapped(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        moved: NDArray[np.float32] = boxes * stretch
        return moved

    parts = [mapped(part) for part in (field.boxes, field.rejected, field.checked, field.left_out)]
    boxes, rejected, checked, left_out = parts
    inside = np.array([0, 0, w, h], np.float32)
    shape = padded.shape[:2]
    unsaid = None if ask == "nowhere" else np.zeros((shape[0] // STRIDE, shape[1] // STRIDE), np.float32)
    targets = assign(shape, boxes, field.labels, rejected, checked, inside, left_out, assignment, unsaid)
    x = to_input(padded[None])
    cut = rim // STRIDE

    def look(turned: bool) -> Look:
        features = network.features(x.flip(-2, -1) if turned else x, rim)[0]
        said = _without_rim(_upside_down(targets) if turned else targets, cut)
        if ask == "nowhere":
            return Look(features, said, turned)
        cell, names = _believed(network, features)
        asked = (said.opinion >= 0) & (~said.known | (ask == "everywhere"))
        return Look(features, said._replace(opinion=torch.where(asked, cell, -1.0), names=names), turned)

    looks = tuple(look(turned) for turned in turns)
    size = (shape[1], shape[0])
    return Seen(
        field.name, rgb, mpp, boxes, field.labels, rejected, checked, left_out, withheld=mapped(field.withheld),
        looks=looks, size=size, rim=rim,
    )  # fmt: skip


@torch.no_grad()
def _believed(network: Remembering, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return float32 (h, w) and (C, h, w), how likely `network` thinks a cell at each location of `features` (c, h, w),
    and each class."""
    dense = HeadAlone(network)(features[None])
    return torch.sigmoid(dense.cell[0].float()), torch.softmax(dense.classes[0].float(), 0)


def _without_rim(targets: Targets, cut: int) -> Targets:
    return Targets(*(t[..., cut : t.shape[-2] - cut, cut : t.shape[-1] - cut] for t in targets))


def _upside_down(targets: Targets) -> Targets:
    turned = Targets(*(t.flip(-2, -1) for t in targets))
    return turned._replace(sides=turned.sides[[2, 3, 0, 1]])


class SeenSampler(CropSampler):
    """Draws patches of features, chosen as `CropSampler` chooses crops.

    Parameters
    ----------
    fields : sequence of Seen
    mpp : float
    rng : numpy Generator
    patch : int
        Side of a patch, px of the network's input, a multiple of the features' stride.
    hard, even : bool
        As of `CropSampler`.
    """

    def __init__(
        self,
        fields: Sequence[Seen],
        mpp: float,
        rng: np.random.Generator,
        patch: int = PATCH,
        *,
        hard: bool = True,
        even: bool = False,
    ) -> None:
        super().__init__(fields, Crops(patch, mpp), rng, hard=hard, even=even)

    def _stack(self, images: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(images))

    def _cut(self, field: Field, around: NDArray[np.float32] | None) -> tuple[Any, Targets]:
        assert isinstance(field, Seen)
        rng, (width, height) = self.rng, field.size
        features, targets, turned = field.looks[int(rng.integers(len(field.looks)))]
        if around is None:
            x, y = rng.uniform(0, width), rng.uniform(0, height)
        else:
            x, y = (around[0] + around[2]) / 2, (around[1] + around[3]) / 2
        if turned:
            x, y = width - x, height - y
        stride = STRIDE * targets.cell.shape[-1] // features.shape[-1]
        patch = self.crops.size
        side, fold = patch // stride, stride // STRIDE

        def start(place: float, length: int) -> int:
            # anywhere in the patch but not in its border, and the patch inside what has features
            wanted = (place - field.rim - rng.uniform(_BORDER, patch - _BORDER)) / stride
            return int(np.clip(round(wanted), 0, length - side))

        row, col = start(y, features.shape[-2]), start(x, features.shape[-1])
        cut = features[:, row : row + side, col : col + side]
        rows, cols = slice(row * fold, (row + side) * fold), slice(col * fold, (col + side) * fold)
        return cut, _without_border(Targets(*(t[..., rows, cols] for t in targets)))


def _without_border(targets: Targets) -> Targets:
    """Leave out what lies within `_BORDER` of the sides."""
    cut = _BORDER // STRIDE
    inner = torch.zeros_like(targets.known)
    inner[cut:-cut, cut:-cut] = True
    return targets._replace(
        cell=targets.cell * inner,
        known=targets.known & inner,
        unknown=targets.unknown & inner,
        rejected=targets.rejected & inner,
        label=torch.where(inner, targets.label, -1),
        opinion=torch.where(inner, targets.opinion, -1.0),
    )
