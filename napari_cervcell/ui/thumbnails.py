"""Small pictures of cells, read in threads: what is in sight first, and nothing that is in sight no more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QImage

from ..slides.readers import Readers
from .pictures import Crop

if TYPE_CHECKING:
    from ..slides import Slide

__all__ = ["Thumbnails"]

_KEPT = 32 << 20  # bytes


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
        image = crop.read(self._slide)
        self._images[crop] = image
        self._bytes += 0 if image is None else image.sizeInBytes()
        while self._bytes > _KEPT:
            _, old = self._images.popitem(last=False)
            self._bytes -= 0 if old is None else old.sizeInBytes()
        self._landed.emit()
