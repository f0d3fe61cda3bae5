"""One whole-slide image: its levels, its scale, and its pixels at any place and magnification."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .color import ToScreen
from .levels import Level, factor_of, scale_of, snap
from .problems import SlideError
from .source import RGB, Read, open_source

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["Slide", "open_slide"]

# µm per pixel that a microscope can have. TIFF writers leave print resolutions in the file (72 dpi would be
# 353 µm a pixel), which must count as "not known" rather than as a scale.
_PLAUSIBLE_MPP = (0.01, 20.0)
_TILE = 512
_MAX_SOURCE = 4096  # pixels a side decoded at once while resampling: bounds memory at 64 MiB


def open_slide(path: str | Path, *, mpp: float | None = None, color_managed: bool = False) -> Slide:
    """Open a slide: SVS, NDPI, MRXS, SCN, BIF, SVSLIDE, VMS, DICOM, tiled TIFF, or an OME-Zarr folder.

    SVS, SCN, the TIFF of Philips, OME-TIFF and other tiled TIFF are decoded directly where their tiles are plain, BIF
    where its tiles do not overlap; all else but OME-Zarr is read by OpenSlide.

    Parameters
    ----------
    path : str or Path
        The slide file; for a DICOM series any one of its files.
    mpp : float, optional
        µm per level-0 pixel, in place of what the file says; where it is the mean of what that says of x and y, these
        stay.
    color_managed : bool
        Whether pixels come in sRGB by the colour profile in the file; without one they are as stored.

    Returns
    -------
    Slide
        Open, and tried: one pixel in the last tile of every level has been decoded.

    Raises
    ------
    SlideError
        If the file is missing, no slide, cut short or damaged, its channels lie in pages of their own, `mpp` is no
        possible scale, or the colour profile that is to be applied is damaged.
    """
    return Slide(Path(path), mpp=mpp, color_managed=color_managed)


class Slide:
    """An open whole-slide image. Made by `open_slide`; may be used from several threads and as a context manager.

    Attributes
    ----------
    path : Path
        The file.
    format, vendor : str
        OpenSlide's name of the format, which is that of the maker (``"aperio"``, ``"generic-tiff"``, ...), or
        ``"ome-zarr"``.
    reader : str
        How pixels are read: ``"direct"`` (the tiles of a TIFF as they are stored), ``"openslide"`` or ``"zarr"``.
    width, height : int
        Size in level-0 pixels.
    levels : tuple of Level
        Stored resolutions, finest first.
    mpp_xy : (float, float) or None
        µm per level-0 pixel in x and y; None if the file does not say.
    objective_power : float or None
        Magnification of the objective, e.g. 40.0; None if the file does not say.
    fingerprint : str
        A quick hash by which a case knows its slide again; it does not depend on the name of the file.
    icc : bytes or None
        The colour profile in the file.
    background : (int, int, int)
        RGB of what lies outside the scanned area.
    properties : dict of str to str
        All that the file says about itself. May identify the patient: not for logs or exports.
    associated_images : tuple of str
        Names of the pictures beside the slide (``"label"``, ``"macro"``, ...), none of which has been read.
    tile_size : int
        Side, in pixels of a level, of the tiles that `tile` returns and the pyramid is chunked by.
    """

    def __init__(self, path: Path, *, mpp: float | None = None, color_managed: bool = False) -> None:
        self.path = path
        self._source = open_source(path)
        self.reader = self._source.reader
        self.properties = self._source.properties
        self.format = self.vendor = self.properties["openslide.vendor"]
        self.associated_images = self._source.associated
        self.width, self.height = self._source.sizes[0]
        self.levels = tuple(Level(w, h, factor_of(self.width, self.height, w, h)) for w, h in self._source.sizes)
        self._scales = tuple(
            (scale_of(self.width, n.width, n.downsample), scale_of(self.height, n.height, n.downsample))
            for n in self.levels
        )
        self.mpp_xy = self._stored_mpp()
        if mpp is not None and mpp != self.mpp:
            self.mpp = mpp
        self.objective_power = self._number("openslide.objective-power")
        self.fingerprint = self._source.fingerprint()
        self.background = self._source.background
        self.tile_size = self._whole_tiles()
        self.icc = self._source.icc()
        self._to_screen = self._profile() if color_managed else None
        for i, level in enumerate(self.levels):
            # tiles are mostly stored in order, so a file that is cut short lacks the last one
            self._read_level(i, level.width - 1, level.height - 1, 1, 1)

    def __repr__(self) -> str:
        return f"<Slide {self.path.name!r} {self.format} {self.width} x {self.height}>"

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # napari copies layers with their metadata, dask sends its graph to other processes: both open it anew
        return _reopen, (self.path, self.mpp_xy, self.color_managed)

    def __dask_tokenize__(self) -> tuple[str, str, bool]:
        return str(self.path), self.fingerprint, self.color_managed

    def close(self) -> None:
        """Let go of the file; reading afterwards raises SlideError. Reads under way in other threads finish."""
        self._source.close()

    @property
    def color_managed(self) -> bool:
        """Whether pixels come in sRGB by the colour profile in the file."""
        return self._to_screen is not None

    def as_stored(self) -> Slide:
        """Return the slide with colours as they are stored, which is how models know them; itself if they are.

        It reads the same open file, and closes with it.
        """
        if not self.color_managed:
            return self
        plain = Slide.__new__(Slide)
        plain.__dict__.update(self.__dict__, _to_screen=None)
        return plain

    # ----------------------------------------------------------------------------------------------- scale

    @property
    def mpp(self) -> float | None:
        """µm per level-0 pixel, mean of x and y; None if not known. May be set for a slide that does not say."""
        return None if self.mpp_xy is None else sum(self.mpp_xy) / 2

    @mpp.setter
    def mpp(self, value: float) -> None:
        if not _plausible(value):
            low, high = _PLAUSIBLE_MPP
            raise SlideError(
                f"{value:g} µm per pixel is not possible for {self.path}. Give a number between {low:g} and {high:g}; "
                "a 40x objective has about 0.25, a 20x objective about 0.5."
            )
        self.mpp_xy = (float(value), float(value))

    # ---------------------------------------------------------------------------------------------- pixels

    def read_region(self, x: int, y: int, width: int, height: int, level: int = 0) -> RGB:
        """Read a rectangle of one stored level.

        Parameters
        ----------
        x, y : int
            Top left corner in level-0 pixels; on a coarser level the nearest pixel of that level is taken.
        width, height : int
            Size in pixels of the level.
        level : int
            Index into `levels`.

        Returns
        -------
        uint8 (height, width, 3)
            RGB; outside the slide, and where nothing was scanned, the background colour.

        Raises
        ------
        SlideError
            If the file cannot be read there, or the slide is closed.
        """
        scale_x, scale_y = self._scales[level]
        return self._read_level(level, round(x / scale_x), round(y / scale_y), width, height)

    def read_scaled(self, x: float, y: float, width: float, height: float, downsample: float) -> RGB:
        """Read a rectangle at any magnification, from the coarsest stored level that is fine enough.

        Pixel (row, column) of the result covers level-0 x from ``x + column * downsample`` to
        ``x + (column + 1) * downsample`` and y likewise, whichever level the pixels come from.

        Parameters
        ----------
        x, y, width, height : float
            The rectangle in level-0 pixels.
        downsample : float
            Level-0 pixels per pixel of the result; below 1 enlarges.

        Returns
        -------
        uint8 (round(height / downsample), round(width / downsample), 3)
            RGB, at least one pixel each way; outside the slide the background colour.

        Raises
        ------
        SlideError
            If the file cannot be read there, or the slide is closed.
        """
        columns, rows = max(1, round(width / downsample)), max(1, round(height / downsample))
        return self.read_grid(x, y, columns, rows, downsample, downsample)

    def read_square(self, x: float, y: float, field: float, px: int) -> RGB:
        """Read the square of `field` µm around the level-0 place (x, y) as a picture: uint8 (px, px, 3).

        Raises SlideError, also where nobody knows the slide's µm per pixel.
        """
        if self.mpp_xy is None:
            raise SlideError(f"{self.path} does not say its µm per pixel, without which it has no squares of µm.")
        step_x, step_y = (field / mpp / px for mpp in self.mpp_xy)
        return self.read_grid(x - step_x * px / 2, y - step_y * px / 2, px, px, step_x, step_y)

    def read_grid(self, x: float, y: float, columns: int, rows: int, step_x: float, step_y: float) -> RGB:
        """Read as `read_scaled`, by the number of pixels and their size: uint8 (rows, columns, 3).

        Pixel (row, column) covers level-0 x from ``x + column * step_x`` to ``x + (column + 1) * step_x``, y likewise.
        """
        finest = min(step_x, step_y) * 1.01
        level = max(i for i, known in enumerate(self.levels) if i == 0 or known.downsample <= finest)
        scale_x, scale_y = self._scales[level]
        left, top, step_x, step_y = snap(x / scale_x), snap(y / scale_y), snap(step_x / scale_x), snap(step_y / scale_y)
        if step_x == step_y == 1 and left.is_integer() and top.is_integer():
            return self._read_level(level, int(left), int(top), columns, rows)
        if step_x == step_y and (pixels := self._shrunk(level, left, top, columns, rows, step_x)) is not None:
            return pixels
        block = max(1, int(_MAX_SOURCE / max(step_x, step_y)))
        result = np.empty((rows, columns, 3), np.uint8)
        for row in range(0, rows, block):
            for column in range(0, columns, block):
                part = result[row : row + block, column : column + block]
                box_x = left + column * step_x, left + (column + part.shape[1]) * step_x
                box_y = top + row * step_y, top + (row + part.shape[0]) * step_y
                part[:] = self._resample(level, box_x, box_y, part.shape[1], part.shape[0])
        return result

    def tile(self, level: int, column: int, row: int) -> RGB:
        """Read one tile of a stored level's grid of `tile_size`; tiles at the right and bottom edge are smaller.

        Raises IndexError where the level has no such tile, SlideError as `read_region`.
        """
        size, stored = self.tile_size, self.levels[level]
        left, top = column * size, row * size
        if not (0 <= left < stored.width and 0 <= top < stored.height):
            raise IndexError(f"level {level} of {self.path.name} has no tile ({column}, {row})")
        return self._read_level(level, left, top, min(size, stored.width - left), min(size, stored.height - top))

    def thumbnail(self, max_side: int = 1024) -> RGB:
        """Return the whole slide as uint8 (h, w, 3), its longer side `max_side` pixels, or its own if that is less."""
        downsample = max(1.0, max(self.width, self.height) / max_side)
        return self.read_scaled(0, 0, self.width, self.height, downsample)

    def read_associated_image(self, name: str) -> RGB:
        """Read one of the pictures beside the slide: uint8 (h, w, 3), its size as stored.

        May show the patient's name: only for who asks for it, not for logs, exports or thumbnails.

        Raises
        ------
        KeyError
            If `name` is not in `associated_images`.
        SlideError
            If it cannot be read, or the slide is closed.
        """
        return self._source.read_associated(name)

    def pyramid(self) -> list[da.Array]:
        """Return the slide as dask arrays, uint8 (h, w, 3), finest first, each half the size of the one before.

        Sizes that the file does not store are made from the next finer one: a viewer that finds only every fourth
        size would read sixteen times what it shows. Nothing is read until computed.
        """
        from .pyramid import build_pyramid  # dask is slow to import

        return build_pyramid(self)

    # --------------------------------------------------------------------------------------------- private

    def _resample(
        self, level: int, box_x: tuple[float, float], box_y: tuple[float, float], columns: int, rows: int
    ) -> RGB:
        """Return uint8 (rows, columns, 3) from the box, whose sides are in pixels of the level."""
        step = max((box_x[1] - box_x[0]) / columns, (box_y[1] - box_y[0]) / rows)
        pad = math.ceil(max(step, 1.0)) + 1  # what the filter sees beyond the box, so that tiles meet unseen
        left, right = _padded(box_x, pad, self.levels[level].width)
        top, bottom = _padded(box_y, pad, self.levels[level].height)
        source = Image.fromarray(self._read_level(level, left, top, right - left, bottom - top))
        x, y = (start if start < 0 else self._source.start(level, start) for start in (left, top))
        # what is read may begin, and so end, a fraction of a pixel before the box does
        box = (box_x[0] - x, box_y[0] - y, min(box_x[1] - x, right - left), min(box_y[1] - y, bottom - top))
        # Hamming is as free of aliasing as an area mean but, unlike it, right to a fraction of a pixel
        method = Image.Resampling.HAMMING if step > 1 else Image.Resampling.BILINEAR
        return np.asarray(source.resize((columns, rows), method, box))

    def _shrunk(self, level: int, left: float, top: float, columns: int, rows: int, step: float) -> RGB | None:
        """Return uint8 (rows, columns, 3) from (left, top), px of the level, decoded in the size that is wanted.

        None where that cannot be done: JPEG decodes to eighths of its size, and no part of a pixel can be cut off.
        """
        eighths, column, row = snap(8 / step), snap(left / step), snap(top / step)
        if not (eighths in range(1, 8) and column.is_integer() and row.is_integer()):
            return None
        read = self._source.shrunk(level, int(eighths))
        if read is None:
            return None
        width, height = (int(side * eighths / 8) for side in (self.levels[level].width, self.levels[level].height))
        return self._framed(read, width, height, int(column), int(row), columns, rows)

    def _read_level(self, level: int, column: int, row: int, width: int, height: int) -> RGB:
        """Return uint8 (height, width, 3) from pixel (column, row) of a level, background outside it."""
        stored = self.levels[level]
        return self._framed(partial(self._source.read, level), stored.width, stored.height, column, row, width, height)

    def _framed(
        self, read: Read, full_width: int, full_height: int, column: int, row: int, width: int, height: int
    ) -> RGB:
        """Return what `read` gives where there is something to read, `full_width` x `full_height` px of it."""
        left, top = max(0, column), max(0, row)
        right, bottom = min(full_width, column + width), min(full_height, row + height)
        inside = left < right and top < bottom
        if inside and (right - left, bottom - top) == (width, height):
            return self._on_screen(read(left, top, width, height))
        result: RGB = np.empty((height, width, 3), np.uint8)
        result[:] = self.background
        if inside:
            pixels = self._on_screen(read(left, top, right - left, bottom - top))
            result[top - row : bottom - row, left - column : right - column] = pixels
        return result

    def _on_screen(self, pixels: RGB) -> RGB:
        return pixels if self._to_screen is None else self._to_screen(pixels)

    def _profile(self) -> ToScreen | None:
        try:
            return None if self.icc is None else ToScreen(self.icc)
        except ValueError as error:
            raise SlideError(
                f"{self.path} has a colour profile that cannot be used: {error}. Open it without colour management."
            ) from error

    def _number(self, key: str) -> float | None:
        try:
            return float(self.properties[key])
        except (KeyError, ValueError):
            return None

    def _stored_mpp(self) -> tuple[float, float] | None:
        x, y = self._number("openslide.mpp-x"), self._number("openslide.mpp-y")
        return (x, y) if x is not None and y is not None and _plausible(x) and _plausible(y) else None

    def _whole_tiles(self) -> int:
        """Return the largest multiple of the stored tile's side up to 512, so that no stored tile is cut."""
        side = int(self._number("openslide.level[0].tile-width") or _TILE)
        return _TILE // side * side if 64 <= side <= _TILE else _TILE


def _reopen(path: Path, mpp_xy: tuple[float, float] | None, color_managed: bool) -> Slide:
    slide = open_slide(path, color_managed=color_managed)
    slide.mpp_xy = mpp_xy
    return slide


def _padded(span: tuple[float, float], pad: int, side: int) -> tuple[int, int]:
    """Return whole pixels around `span`, `pad` wider where the slide goes on: its edge must not take in background."""
    first, last = math.floor(span[0]), math.ceil(span[1])
    return max(first - pad, min(first, 0)), min(last + pad, max(last, side))


def _plausible(mpp: float) -> bool:
    return _PLAUSIBLE_MPP[0] <= mpp <= _PLAUSIBLE_MPP[1]
