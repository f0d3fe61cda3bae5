"""Small pictures of cells, read in threads: what is in sight first, and nothing that is in sight no more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QImage

from ..errors import CervcellError
from ..slides.readers import Readers

if TYPE_CHECKING:
    from ..slides import Slide

__all__ = ["Crop", "Thumbnails", "as_image"]

_KEPT = 64 << 20  # bytes


class Crop(NamedTuple):
    """A square piece of a slide: its middle in level-0 px, its side in µm, and the side of its picture in px."""

    x: float
    y: float
    field: float
    px: int


class Thumbnails(QObject):
    """The pictures of one slide's cells.

    Parameters
    ----------
    slide : Slide
    """

    came = Signal()
    """a picture that was wanted is there; emitted in the window's thread"""
    _landed = Signal()

    def __init__(self, slide: Slide, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._slide = slide
        self._images: OrderedDict[Crop, QImage | None] = OrderedDict()
        self._bytes = 0
        self._readers: Readers[Crop] = Readers(lambda crop: [], self._read)
        self._landed.connect(self.came, Qt.ConnectionType.QueuedConnection)

    def get(self, crop: Crop) -> QImage | None:
        """Return the picture, None while it is not there or where the slide cannot be read."""
        image = self._images.get(crop)
        if image is not None:
            self._images.move_to_end(crop)
        return image

    def want(self, crops: Iterable[Crop]) -> None:
        """Read these, in this order; what was wanted before and has not begun is dropped."""
        self._readers.want(crop for crop in crops if crop not in self._images)

    def stop(self) -> None:
        """End the reading threads."""
        self._readers.stop()

    def _read(self, crop: Crop) -> None:
        step_x, step_y = (crop.field / mpp / crop.px for mpp in self._slide.mpp_xy)
        left, top = crop.x - step_x * crop.px / 2, crop.y - step_y * crop.px / 2
        try:
            image = as_image(self._slide.read_grid(left, top, crop.px, crop.px, step_x, step_y))
        except CervcellError:
            image = None  # the canvas tells of a damaged place; the picture stays empty
        self._images[crop] = image
        self._bytes += 0 if image is None else image.sizeInBytes()
        while self._bytes > _KEPT:
            _, old = self._images.popitem(last=False)
            self._bytes -= 0 if old is None else old.sizeInBytes()
        self._landed.emit()


def as_image(rgb: np.ndarray) -> QImage:
    """Return uint8 (h, w, 3) as a picture of its own."""
    rgb = np.ascontiguousarray(rgb)
    height, width = rgb.shape[:2]
    return QImage(rgb.data, width, height, 3 * width, QImage.Format.Format_RGB888).convertToFormat(
        QImage.Format.Format_RGB32
    )
