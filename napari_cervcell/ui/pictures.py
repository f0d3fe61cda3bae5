"""Pixels of a slide as pictures of Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from qtpy.QtGui import QImage

from ..errors import CervcellError

if TYPE_CHECKING:
    from ..slides import Slide

__all__ = ["Crop", "as_image"]


class Crop(NamedTuple):
    """A square piece of a slide: its middle in level-0 px, its side in µm, and the side of its picture in px."""

    x: float
    y: float
    field: float
    px: int

    def read(self, slide: Slide) -> QImage | None:
        """Return the picture; None where the slide cannot be read: the canvas tells of that."""
        try:
            return as_image(slide.read_square(self.x, self.y, self.field, self.px))
        except CervcellError:
            return None


def as_image(rgb: np.ndarray) -> QImage:
    """Return uint8 (h, w, 3) as a picture of its own."""
    rgb = np.ascontiguousarray(rgb)
    height, width = rgb.shape[:2]
    return QImage(rgb.data, width, height, 3 * width, QImage.Format.Format_RGB888).convertToFormat(
        QImage.Format.Format_RGB32
    )
