"""Training crops: drawn around what is known, at the network's mpp, augmented the way slides and stains differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..models import NOTHING, STRIDE, to_input
from .assignment import FCOS, Assignment
from .fields import DataError, Field
from .targets import Targets, assign, collate

__all__ = ["CropSampler", "Crops", "resample", "stained"]

REJECTED_SHARE = 0.25
CELL_SHARE = 0.6

_Box = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Crops:
    """How crops are cut.

    Attributes
    ----------
    size : int
        Side of a crop, px of the network's input, a multiple of 32.
    mpp : float
        µm per px of the network's input.
    rim : int
        A crop may reach so many px of the network's input over an image's edge, into nothing. For images that end
        where the microscope's field ended: nuclei that the edge cuts are labelled by chance, and only a network that
        sees the edge can tell them from the others.
    assignment : Assignment
        Which locations a cell is learnt from: that of the network's head.
    """

    size: int
    mpp: float
    rim: int = 0
    assignment: Assignment = FCOS


class CropSampler:
    """Draws batches of augmented crops from fields.

    In every batch a quarter of the crops, rounded up, lie around rejected places, where there are any: hard negatives
    are always in the mix, and never more than that; in a batch of one by chance. Of the others most lie around a known
    cell, its class drawn with probability proportional to the square root of the class's count, so that rare classes
    are seen often without their few cells being all that is seen; the rest lie anywhere. Where rejections are not to
    count for more than cells, each is drawn as often as a cell.

    Parameters
    ----------
    fields : sequence of Field
    crops : Crops
    rng : numpy Generator
        The source of every random draw.
    hard : bool
        Whether rejections count for more than cells.
    even : bool
        Whether all classes are drawn equally often, however few cells they have.

    Cells at places that are no numbers are dropped. Raises DataError for an image that is not of 8 bits, and so may
    hold what is no number either.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        crops: Crops,
        rng: np.random.Generator,
        *,
        hard: bool = True,
        even: bool = False,
    ) -> None:
        self.fields = [_sound(f) for f in fields]
        self.crops = crops
        self.rng = rng
        self._hard = hard
        owner = [np.full(len(f.labels), i) for i, f in enumerate(self.fields)]
        self._cell_field = np.concatenate(owner) if owner else np.zeros(0, int)
        self._cell_box = np.concatenate([f.boxes for f in self.fields])
        labels = np.concatenate([f.labels for f in self.fields])
        _, inverse, count = np.unique(labels, return_inverse=True, return_counts=True)
        weight = 1 / count[inverse] ** (1.0 if even else 0.5)
        self._cell_weight = weight / weight.sum() if len(labels) else weight
        self._rejected_field = np.concatenate([np.full(len(f.rejected), i) for i, f in enumerate(self.fields)])
        self._rejected_box = np.concatenate([f.rejected for f in self.fields])

    def batch(self, n: int) -> tuple[Tensor, Targets]:
        """Return the network's input float32 (n, 3, size, size) and its targets."""
        hard = 0
        if self._hard and len(self._rejected_box):
            hard = math.ceil(n * REJECTED_SHARE) if n > 1 else int(self.rng.random() < REJECTED_SHARE)
        drawn = [self._at_rejected() for _ in range(hard)] + [self._draw() for _ in range(n - hard)]
        images, targets = zip(*drawn, strict=True)
        return self._stack(images), collate(list(targets))

    def _stack(self, images: Sequence[Any]) -> Tensor:
        return to_input(np.stack(images))

    def _at_rejected(self) -> tuple[Any, Targets]:
        i = int(self.rng.integers(len(self._rejected_box)))
        return self._cut(self.fields[self._rejected_field[i]], self._rejected_box[i])

    def _draw(self) -> tuple[Any, Targets]:
        cells, rejected = len(self._cell_box), 0 if self._hard else len(self._rejected_box)
        if cells + rejected and self.rng.random() < CELL_SHARE:
            if rejected and self.rng.integers(cells + rejected) >= cells:
                return self._at_rejected()
            i = int(self.rng.choice(len(self._cell_box), p=self._cell_weight))
            return self._cut(self.fields[self._cell_field[i]], self._cell_box[i])
        return self._cut(self.fields[int(self.rng.integers(len(self.fields)))], None)

    def _cut(self, field: Field, around: _Box | None) -> tuple[Any, Targets]:
        rng, size = self.rng, self.crops.size
        scale = self.crops.mpp / field.mpp * float(np.exp(rng.uniform(-0.22, 0.22)))  # field px per network px
        side = size * scale
        height, width = field.rgb.shape[:2]
        if around is None:
            x, y = rng.uniform(0, width), rng.uniform(0, height)
        else:
            x, y = (around[0] + around[2]) / 2, (around[1] + around[3]) / 2
        # anywhere in the crop but not at its rim, and the crop inside the image where it fits
        rim = self.crops.rim * scale
        x1 = _inside(x - side * rng.uniform(0.1, 0.9), side, width, rim)
        y1 = _inside(y - side * rng.uniform(0.1, 0.9), side, height, rim)
        image = resample(field.rgb, x1, y1, side, size)

        def mapped(boxes: _Box) -> _Box:
            moved: _Box = (boxes - np.array([x1, y1, x1, y1], np.float32)) / np.float32(scale)
            return moved

        boxes, labels = mapped(field.boxes), field.labels
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        seen = ((centre > 0) & (centre < size)).all(1)
        # of a cell whose centre is just outside, what is inside is no background
        around_it = boxes[~seen & ((centre > -size) & (centre < 2 * size)).all(1)]
        frame = mapped(np.array([[0, 0, width, height]], np.float32))
        left_out = np.concatenate([mapped(field.left_out), around_it])
        parts = [boxes[seen], mapped(field.rejected), mapped(field.checked), left_out, frame]
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        image, parts = _turned(image, parts, size, turns, mirror)
        cells, rejected, checked, left_out, frame = parts
        known = cells, labels[seen], rejected, checked, frame[0], left_out
        opinion = None
        if field.opinion is not None:
            grid = (np.arange(size // STRIDE) + 0.5) * STRIDE * scale
            opinion = np.rot90(field.opinion.at(x1 + grid, y1 + grid), turns)
            opinion = opinion[:, ::-1] if mirror else opinion
        targets = assign((size, size), *known, self.crops.assignment, opinion)
        return stained(image, rng), targets


def _sound(field: Field) -> Field:
    if field.rgb.dtype != np.uint8:
        raise DataError(f"The image of {field.name} holds {field.rgb.dtype}. Convert it to RGB of 8 bits first.")
    known, rejected = (np.isfinite(boxes).all(1) for boxes in (field.boxes, field.rejected))
    if known.all() and rejected.all():
        return field
    return replace(field, boxes=field.boxes[known], labels=field.labels[known], rejected=field.rejected[rejected])


def _inside(start: float, side: float, length: int, rim: float) -> float:
    return float(np.clip(start, -rim, length - side + rim)) if side < length else (length - side) / 2


def resample(rgb: NDArray[np.uint8], x1: float, y1: float, side: float, size: int) -> NDArray[np.uint8]:
    """Return the square of `side` px at (x1, y1) as uint8 (size, size, 3); outside the image is NOTHING."""
    height, width = rgb.shape[:2]
    left, top = int(np.floor(x1)) - 2, int(np.floor(y1)) - 2
    right, bottom = int(np.ceil(x1 + side)) + 2, int(np.ceil(y1 + side)) + 2
    part = rgb[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if part.shape[:2] != (bottom - top, right - left):
        canvas = np.full((bottom - top, right - left, 3), NOTHING, np.uint8)
        dy, dx = max(-top, 0), max(-left, 0)
        canvas[dy : dy + part.shape[0], dx : dx + part.shape[1]] = part
        part = canvas
    box = (x1 - left, y1 - top, x1 - left + side, y1 - top + side)
    return np.asarray(Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR, box=box))


def _turned(
    image: NDArray[np.uint8], boxes: list[_Box], size: int, turns: int, mirror: bool
) -> tuple[NDArray[np.uint8], list[_Box]]:
    """Turn a square image and boxes in its frame by `turns` quarter turns, and mirror them."""
    for _ in range(turns):  # (x, y) -> (y, size - x): a quarter turn to the left
        boxes = [np.stack([b[:, 1], size - b[:, 2], b[:, 3], size - b[:, 0]], 1) for b in boxes]
    image = np.rot90(image, turns)
    if mirror:
        boxes = [np.stack([size - b[:, 2], b[:, 1], size - b[:, 0], b[:, 3]], 1) for b in boxes]
        image = image[:, ::-1]
    return np.ascontiguousarray(image), boxes


def stained(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Vary stain and light: gain and gamma per colour channel in optical density, saturation, noise, blur."""
    x = torch.tensor(image).float() / 255
    density = -torch.log(x.clamp_min(1 / 255))
    gain = torch.tensor(rng.normal(1, 0.1, 3) * rng.normal(1, 0.15), dtype=torch.float32).clamp(0.55, 1.6)
    shift = torch.tensor(rng.normal(0, 0.03, 3), dtype=torch.float32)
    x = torch.exp(-(density * gain + shift))
    x = x @ (torch.eye(3) + torch.tensor(rng.normal(0, 0.03, (3, 3)), dtype=torch.float32))
    grey = x.mean(-1, keepdim=True)
    x = grey + (x - grey) * float(np.clip(rng.normal(1, 0.15), 0.5, 1.6))
    if rng.random() < 0.25:
        kernel = torch.ones(3, 1, 3, 3) / 9
        x = torch.nn.functional.conv2d(x.permute(2, 0, 1)[None], kernel, padding=1, groups=3)[0].permute(1, 2, 0)
    return (x.clamp(0, 1) * 255).to(torch.uint8).numpy()
