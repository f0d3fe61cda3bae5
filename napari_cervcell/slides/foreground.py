"""Where on a slide there is anything but empty glass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from .marks import marks
from .problems import SlideError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .slide import Slide

__all__ = ["Foreground", "foreground"]

_MICRONS = 4.0  # a pixel of the mask: a nucleus is two of them across, its cytoplasm ten or more
_MAX_SIDE = 4096
_BLOCK = 128  # mask pixels (half a millimetre) over which the colour of the glass is taken to be one
_GLASS = 210  # glass on a bright-field slide is at least this bright, whatever covers it
_GLASS_RANGE = 30  # and differs by no more than this across the slide: what is darker still is cells
_CONTRAST = 10  # how much darker than glass the palest cytoplasm is, in its darkest channel
_NOT_SCANNED = 8  # areas that the scanner left out are filled with black; stain never is that dark


@dataclass(frozen=True, slots=True)
class Foreground:
    """A coarse map of what is worth looking at.

    Attributes
    ----------
    mask : bool (h, w)
        True where there is something.
    downsample : float
        Level-0 pixels per pixel of the mask.
    """

    mask: NDArray[np.bool_]
    downsample: float

    @property
    def share(self) -> float:
        """The share of the slide that is foreground, 0 to 1."""
        return float(self.mask.mean())

    def covers(self, x1: float, y1: float, x2: float, y2: float) -> bool:
        """Whether any of the rectangle, in level-0 pixels, is foreground."""
        left, top = (max(0, int(v // self.downsample)) for v in (x1, y1))
        right, bottom = (max(0, int(-(-v // self.downsample))) for v in (x2, y2))
        return bool(self.mask[top:bottom, left:right].any())


def foreground(slide: Slide) -> Foreground:
    """Find where on a slide cells may be: everything but empty glass, pale cytoplasm included.

    What counts is how much darker a place is than the glass around it in any one channel: cytoplasm may be as bright
    as glass in red or in blue, never in all three. Strokes of a pen and the thin grey lines of bubbles' rims and
    coverslip edges are left out where they cannot be taken for cells; in doubt a place is kept, and so is one that
    cannot be read at this size.

    Raises
    ------
    SlideError
        If nothing of the slide can be read.
    """
    wanted = max(_MICRONS / (slide.mpp or 0.25), max(slide.width, slide.height) / _MAX_SIDE)
    downsample = 2.0 ** round(np.log2(wanted))  # a power of two: where the slide has that level, it is read as it is
    pixels, lost = _whole(slide, downsample)
    glass = _glass(pixels)
    darkness = np.clip(glass.astype(np.int16) - pixels, 0, 255).max(axis=2).astype(np.uint8)
    darkness[pixels.max(axis=2) < _NOT_SCANNED] = 0
    smooth = Image.fromarray(darkness).filter(ImageFilter.BoxBlur(1))  # grain and specks go, a nucleus stays
    found = np.asarray(smooth.point(lambda v: 255 * (v >= _CONTRAST))) > 0
    found &= ~marks(pixels, glass, (slide.mpp or 0.25) * downsample)
    found |= lost
    grown = Image.fromarray(np.uint8(255) * found).filter(ImageFilter.MaxFilter(5))
    return Foreground(np.asarray(grown) > 0, downsample)


def _whole(slide: Slide, downsample: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the slide in small, uint8 (h, w, 3), and where that could not be read, bool (h, w)."""
    try:
        pixels = slide.read_scaled(0, 0, slide.width, slide.height, downsample)
        return pixels, np.zeros(pixels.shape[:2], bool)
    except SlideError as error:
        failure = error
    columns, rows = max(1, round(slide.width / downsample)), max(1, round(slide.height / downsample))
    pixels, lost = np.empty((rows, columns, 3), np.uint8), np.zeros((rows, columns), bool)
    pixels[:] = slide.background
    for top in range(0, rows, _BLOCK):
        for left in range(0, columns, _BLOCK):
            part = pixels[top : top + _BLOCK, left : left + _BLOCK]
            x, y = left * downsample, top * downsample
            try:
                part[:] = slide.read_grid(x, y, part.shape[1], part.shape[0], downsample, downsample)
            except SlideError:
                lost[top : top + _BLOCK, left : left + _BLOCK] = True
    if lost.all():
        raise failure
    return pixels, lost


def _glass(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colour that empty glass has or would have at each pixel, uint8 like `pixels`."""
    height, width = pixels.shape[:2]
    everywhere = np.maximum(np.percentile(pixels[::4, ::4], 95, axis=(0, 1)), _GLASS)
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    local = np.empty((rows, columns, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            block = pixels[row * _BLOCK : (row + 1) * _BLOCK : 2, column * _BLOCK : (column + 1) * _BLOCK : 2]
            bright = np.percentile(block, 90, axis=(0, 1))
            local[row, column] = np.clip(bright, everywhere - _GLASS_RANGE, 255)
    box = (0.0, 0.0, width / _BLOCK, height / _BLOCK)
    return np.asarray(Image.fromarray(local).resize((width, height), Image.Resampling.BILINEAR, box))
