"""The nucleus of one cell, measured on the slide: its outline, its size, and its share of the cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ..cells import FloatArray
from ..errors import CervcellError
from ..slides import Slide
from .outlines import outlines
from .unet import Outliner

__all__ = ["Nucleus", "NucleusError", "nucleus_of"]

_FIELD = 32.0  # µm: side of what is looked at around a cell
_REACH = 2.0  # times the cell's box, within which its nucleus lies: boxes are of the usual size, some nuclei are larger
_SMALLEST = 6.0  # µm²: what is smaller is no nucleus of a cell
_SMOOTH = 2.0  # px that the outline, which runs along the edges of pixels, is smoothed by


class NucleusError(CervcellError):
    """A nucleus cannot be measured."""


@dataclass(frozen=True, slots=True)
class Nucleus:
    """The nucleus of a cell.

    Attributes
    ----------
    outline : float32 (m, 2)
        Its corners (x, y) in level-0 px, without the first again.
    area : float
        µm².
    share : float
        Of the area of the cell's box, at most 1.
    """

    outline: FloatArray
    area: float
    share: float


def nucleus_of(model: Outliner, slide: Slide, box: FloatArray, others: FloatArray) -> Nucleus | None:
    """Find the nucleus of the cell in `box` (4,), level-0 px; None where there is none to be seen.

    `others` (n, 4) are the boxes of cells near it, which have nuclei of their own. Raises SlideError, and
    NucleusError for a slide without mpp.
    """
    if slide.mpp is None:
        raise NucleusError(f"{slide.path} does not say its µm per pixel, without which nuclei have no size. Give it.")
    downsample = model.mpp / slide.mpp
    side = int(_FIELD / model.mpp)
    corner = (box[:2] + box[2:]) / 2 - side * downsample / 2
    x, y = corner.tolist()
    rgb = slide.read_scaled(x, y, side * downsample, side * downsample, downsample)
    boxes = ((np.concatenate([box[None], others]) - np.tile(corner, 2)) / downsample).astype(np.float32)
    nuclei = outlines(model(rgb), boxes, _REACH)
    area = float(nuclei.areas[0]) * model.mpp**2
    if area < _SMALLEST:
        return None
    outline = _smoothed(nuclei.polygons[0]) * np.float32(downsample) + corner.astype(np.float32)
    return Nucleus(outline, area, float(nuclei.shares[0]))


def _smoothed(polygon: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a closed polygon without the steps of pixels, its corners about 1 px apart."""
    closed = np.concatenate([polygon, polygon[:1]])
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(closed, axis=0)).sum(1))])
    at = np.arange(0, along[-1], 1.0)
    points = np.stack([np.interp(at, along, closed[:, i]) for i in (0, 1)], 1)
    smooth: NDArray[np.float32] = gaussian_filter1d(points, _SMOOTH, axis=0, mode="wrap").astype(np.float32)
    return smooth
