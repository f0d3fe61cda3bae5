"""Slides for tests and benchmarks: any size, real cells, and the truth beside them."""

from __future__ import annotations

import csv
import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from .problems import SlideError
from .smear import MPP, STEPS, Smear, cut_stamps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Made", "make_slide"]

_TILE = 256
_UNIT = 4 * _TILE  # what is painted at once: 16 tiles of level 0, one of level 1, a sixteenth of one of level 2
_THUMBNAIL_STEP = 8  # px of level 2 a pixel
_GLASS = (240, 242, 243)
_NOISES = 4  # pictures of noise that take turns, one a unit
_LIMITS = {
    "seed": (0, 2**63),
    "width": (2048, 400_000),
    "height": (2048, 400_000),
    "density": (0, 1500),
    "noise": (0, 20),
    "quality": (30, 100),
}
_SUFFIXES = (".svs", ".tif", ".tiff")
_DESCRIPTION = (
    "Aperio layout. Not a scan: cells of CRIC Cervix fields (CC BY 4.0) laid out by napari-cervcell\r\n"
    "{width}x{height} ({tile}x{tile}) JPEG/RGB Q={quality}|AppMag = 40|MPP = {mpp}"
)

Progress = Callable[[int, int], object]


class Made(NamedTuple):
    """What `make_slide` wrote: the slide, its truth, how many nuclei are in it, and bytes per level-0 pixel."""

    slide: Path
    truth: Path
    nuclei: int
    bytes_per_pixel: float


class _Unit(NamedTuple):
    """A painted square of the slide."""

    tiles: list[list[bytes]]  # of level 0, row by row
    quarter: bytes  # the tile of level 1
    sixteenth: Image.Image  # its part of level 2


class _Coarse(NamedTuple):
    """What is ready of the coarser levels: tiles of level 1 in a file, with their sizes; the others are small."""

    waiting: IO[bytes]
    sizes: list[int]
    sixteenths: list[bytes]
    strips: list[Image.Image]  # of the thumbnail


def make_slide(
    path: str | Path,
    width: int,
    height: int,
    *,
    seed: int = 0,
    density: float = 300.0,
    noise: float = 2.0,
    quality: int = 80,
    progress: Progress = lambda done, total: None,
) -> Made:
    """Write a pyramidal slide in Aperio's layout (BigTIFF, JPEG tiles of 256 px, levels 1, 4, 16) and its truth.

    Cells and clumps are those of the sample slide, which the shipped model never saw in training. The picture is never
    in memory as a whole. The same arguments give the same bytes.

    Parameters
    ----------
    path : str or Path
        The slide; ``.svs``, ``.tif`` or ``.tiff``. The truth goes beside it as ``.csv``: columns x, y (level-0 px),
        class.
    width, height : int
        Level-0 px, of 0.25 µm.
    seed : int
        Of the layout and the noise.
    density : float
        Labelled nuclei per mm².
    noise : float
        Standard deviation of the camera's noise on glass, grey levels. 0 gives a smooth slide of few bytes a pixel; 10
        at quality 90 more than 0.3.
    quality : int
        Of the JPEG tiles.
    progress : callable
        Told (done, total) now and then.

    Raises
    ------
    SlideError
        If an argument is out of bounds, a file is there already, or cannot be written; then nothing is left behind.
    """
    path = Path(path)
    truth = path.with_suffix(".csv")
    _check(path, truth, seed=seed, width=width, height=height, density=density, noise=noise, quality=quality)
    rng = np.random.default_rng(seed)
    smear = Smear(width, height, density=density, rng=rng, stamps=cut_stamps())
    nuclei = smear.truth()
    parts = [p.with_name(p.name + ".part") for p in (path, truth)]
    try:
        with parts[1].open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("x", "y", "class"))
            writer.writerows((f"{x:.1f}", f"{y:.1f}", name) for x, y, name in nuclei)
        _Painter(smear, rng, noise, quality).write(parts[0], progress)
        for part, final in zip(parts, (path, truth), strict=True):
            part.replace(final)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = "the disk is full" if full else error.strerror or str(error)
        todo = "Make room, or choose another disk or a smaller size." if full else "Choose another folder."
        raise SlideError(f"{path} cannot be written: {reason}. {todo}") from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return Made(path, truth, len(nuclei), path.stat().st_size / (width * height))


def _check(path: Path, truth: Path, **given: float) -> None:
    for name, value in given.items():
        low, high = _LIMITS[name]
        if not low <= value <= high:
            raise SlideError(f"The {name} of a slide to make must be from {low:,} to {high:,}, not {value:,}.")
    if path.suffix.lower() not in _SUFFIXES:
        raise SlideError(f"{path} does not end in {', '.join(_SUFFIXES)}, so it would not be opened as a slide.")
    if not os.path.isdir(path.parent):
        raise SlideError(f"There is no folder {path.parent} to put {path.name} into.")
    for known in (path, truth):
        if os.path.exists(known):
            raise SlideError(f"{known} is there already. Choose another name, or delete it first.")


class _Painter:
    """Paints a smear unit by unit and writes the tiles as they come."""

    def __init__(self, smear: Smear, rng: np.random.Generator, noise: float, quality: int) -> None:
        self._smear, self._quality = smear, quality
        self._width, self._height = smear.width, smear.height
        self._columns, self._rows = -(-smear.width // _UNIT), -(-smear.height // _UNIT)
        self._squares = smear.squares(_UNIT)
        spread = noise / 255 * STEPS
        empty = round(3 * spread)  # optical density of glass: noise must find room below it
        self._noises = np.empty((_NOISES, _UNIT, _UNIT, 4), np.uint8)
        for picture in self._noises:
            drawn = empty + spread * rng.standard_normal(picture.shape, np.float32)
            picture[:] = np.clip(np.rint(drawn), 0, 255)
        light = np.exp((empty - np.arange(256)) / STEPS)
        self._curves = [int(v) for glass in (*_GLASS, 255) for v in np.clip(np.rint(glass * light), 0, 255)]
        self._blank = cache(self._paint_blank)

    def write(self, path: Path, progress: Progress) -> None:
        """Write the whole pyramid. Levels follow each other in the file, so the second waits in a temporary one."""
        import tifffile

        with tempfile.TemporaryFile(dir=path.parent) as waiting, tifffile.TiffWriter(path, bigtiff=True) as tiff:
            coarse = _Coarse(waiting, [], [], [])
            self._write_page(tiff, 1, self._finest(coarse, progress), tile=(_TILE, _TILE))
            # in the second place readers of Aperio's slides expect the thumbnail, which is not tiled
            step = _THUMBNAIL_STEP * 16
            thumbnail = self._thumbnail(coarse.strips)
            self._write_page(tiff, step, iter([thumbnail]), rowsperstrip=self._height // step)
            waiting.seek(0)
            quarters = (waiting.read(size) for size in coarse.sizes)
            self._write_page(tiff, 4, quarters, tile=(_TILE, _TILE))
            self._write_page(tiff, 16, iter(coarse.sixteenths), tile=(_TILE, _TILE))

    def _write_page(self, tiff: Any, factor: int, data: Iterator[bytes], **layout: Any) -> None:
        per_cm = 10_000 / (MPP * factor)
        tiff.write(
            data,
            shape=(self._height // factor, self._width // factor, 3),
            dtype=np.uint8,
            photometric="ycbcr",
            compression="jpeg",
            subsampling=(2, 2),
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            description=_DESCRIPTION.format(
                width=self._width, height=self._height, tile=_TILE, quality=self._quality, mpp=MPP
            ),
            metadata=None,
            software=False,
            **layout,
        )

    def _finest(self, coarse: _Coarse, progress: Progress) -> Iterator[bytes]:
        """Yield the tiles of level 0 row by row; put what is coarser aside as it gets ready."""
        columns, rows = (-(-side // _TILE) for side in (self._width, self._height))
        columns4, rows4 = (-(-(side // 4) // _TILE) for side in (self._width, self._height))
        columns16 = -(-(self._width // 16) // _TILE)
        strip = Image.new("RGBX", (-(-self._columns // 4) * _TILE, _TILE))
        for row, units in enumerate(self._units()):
            if row < rows4:
                coarse.sizes.extend(coarse.waiting.write(unit.quarter) for unit in units[:columns4])
            for column, unit in enumerate(units):
                strip.paste(unit.sixteenth, (column * _TILE // 4, row % 4 * _TILE // 4))
            if row % 4 == 3 or row == self._rows - 1:
                coarse.sixteenths.extend(self._encode(strip, x * _TILE, 0) for x in range(columns16))
                coarse.strips.append(strip.reduce(_THUMBNAIL_STEP))
            progress(row + 1, self._rows)
            # last: after the last tile nobody asks for more
            for line in range(min(4, rows - 4 * row)):
                yield from [tile for unit in units for tile in unit.tiles[line]][:columns]

    def _thumbnail(self, strips: list[Image.Image]) -> bytes:
        step = _THUMBNAIL_STEP * 16
        image = Image.new("RGBX", (self._width // step, self._height // step))
        for i, strip in enumerate(strips):
            image.paste(strip, (0, i * strip.height))
        return self._jpeg(image)

    def _units(self) -> Iterator[list[_Unit]]:
        """Yield the units row by row; while one row is written, the next is painted."""
        pool = ThreadPoolExecutor(os.cpu_count())

        def begin(row: int) -> list[Future[_Unit]]:
            return [pool.submit(self._paint, column, row) for column in range(self._columns)]

        try:
            ahead = begin(0)
            for row in range(1, self._rows + 1):
                ready = [future.result() for future in ahead]
                ahead = begin(row) if row < self._rows else []
                yield ready
        finally:
            pool.shutdown(cancel_futures=True)

    def _paint(self, column: int, row: int) -> _Unit:
        noise = (column + 2 * row) % _NOISES
        places = self._squares.get((column, row))
        if places is None:
            return self._blank(noise)
        canvas = self._noises[noise].copy()
        self._smear.paint(canvas, column * _UNIT, row * _UNIT, places)
        return self._finish(canvas)

    def _paint_blank(self, noise: int) -> _Unit:
        return self._finish(self._noises[noise])

    def _finish(self, canvas: NDArray[np.uint8]) -> _Unit:
        image = Image.frombuffer("RGBX", (_UNIT, _UNIT), canvas, "raw", "RGBX", 0, 1).point(self._curves)
        quarter = image.reduce(4)
        tiles = [[self._encode(image, x, y) for x in range(0, _UNIT, _TILE)] for y in range(0, _UNIT, _TILE)]
        return _Unit(tiles, self._encode(quarter, 0, 0), quarter.reduce(4))

    def _encode(self, image: Image.Image, x: int, y: int) -> bytes:
        return self._jpeg(image.crop((x, y, x + _TILE, y + _TILE)))

    def _jpeg(self, image: Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=self._quality, subsampling="4:2:0")
        return file.getvalue()
