"""Patches around places in fields: what single-cell networks see, cut, checked and augmented."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..cells import centres_of
from .crops import resample
from .fields import DataError, Field

__all__ = ["augmented", "checked_patches", "cut_patches", "known_cells"]


def known_cells(field: Field, n_classes: int) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Return the centres (n, 2), px of the field's image, and labels (n,) of its known cells.

    Labels outside the image are dropped, and of several on one spot (within 1 px) the last one stays. Raises DataError
    for a class that the model does not have.
    """
    centres, labels = centres_of(field.boxes), field.labels
    unseen = (labels < 0) | (labels >= n_classes)
    if unseen.any():
        raise DataError(
            f"{field.name} labels a cell with class {int(labels[unseen][0])}, but the model names {n_classes} classes, "
            "from 0. Map the label to one of them, or leave it out."
        )
    height, width = field.rgb.shape[:2]
    inside = ((centres >= 0) & (centres < (width, height))).all(1)  # and so not NaN
    centres, labels = centres[inside], labels[inside]
    _, last = np.unique(np.round(centres[::-1]), axis=0, return_index=True)
    kept = np.sort(len(centres) - 1 - last)
    return centres[kept], labels[kept]


def cut_patches(field: Field, centres: NDArray[np.float32], side: int, mpp: float) -> NDArray[np.uint8]:
    """Return uint8 (n, side, side, 3): patches at `mpp` around `centres` (n, 2), px of the field's image.

    Raises DataError where the field's image is not of 8 bits.
    """
    if field.rgb.dtype != np.uint8:
        raise DataError(f"The image of {field.name} holds {field.rgb.dtype}. Convert it to RGB of 8 bits first.")
    whole = side * mpp / field.mpp
    patches = np.zeros((len(centres), side, side, 3), np.uint8)
    for i, (x, y) in enumerate(centres):
        patches[i] = resample(field.rgb, x - whole / 2, y - whole / 2, whole, side)
    return patches


def checked_patches(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `images` if they are uint8 (n, s, s, 3); raise DataError if not, e.g. for floats that may hold NaN."""
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise DataError(f"Patches must be square RGB images of 8 bits, not {images.dtype} of shape {shape}.")
    return images


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Vary patches the way slides differ, each by itself; float (n, 3, s, s) as from ``models.to_input``.

    Quarter turns and mirror images, scale and shift, stain and light in optical density, saturation, blur.
    """
    n = len(x)

    def normal(sd: float, *channels: int) -> Tensor:
        return sd * torch.randn(n, *(channels or (1,)), 1, 1, generator=generator)

    turns = torch.randint(8, (n,), generator=generator)
    parts = [(t, torch.nonzero(turns == t).flatten()) for t in range(8)]
    x = torch.cat([x[at].rot90(t % 4, (2, 3)).flip(3) if t > 3 else x[at].rot90(t, (2, 3)) for t, at in parts])
    x = x[torch.cat([at for _, at in parts]).argsort()]

    frame = torch.zeros(n, 2, 3)
    scale = torch.exp(0.3 * torch.rand(n, generator=generator) - 0.15)
    frame[:, 0, 0] = frame[:, 1, 1] = scale
    frame[:, :, 2] = 0.1 * (2 * torch.rand(n, 2, generator=generator) - 1)
    x = F.grid_sample(x, F.affine_grid(frame, list(x.shape), align_corners=False), align_corners=False)

    density = -torch.log(((x * 128 + 127) / 255).clamp_min(1 / 255))
    gain = ((1 + normal(0.1, 3)) * (1 + normal(0.15))).clamp(0.55, 1.6)
    x = torch.exp(-(density * gain + normal(0.03, 3)))
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + normal(0.15)).clamp(0.5, 1.6)
    blurred = torch.rand(n, 1, 1, 1, generator=generator) < 0.25
    x = torch.where(blurred, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x)
    return (x.clamp(0, 1) * 255 - 127) / 128
