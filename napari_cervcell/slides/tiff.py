"""Reading tiled TIFF slides directly: each stored tile is found by the file's index, read once and decoded once.

OpenSlide composes regions in floating-point RGBA, which costs several times the decoding. It still says what the file
is; tiles are read past it only where both see the same levels, and the same pixels in a tile that was tried.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from . import ome, scn
from .codecs import PLANAR, Decoder, decoder_of, shrinks
from .grids import Box, common, paste
from .problems import SlideError, check_file, damaged, unreadable
from .source import RGB, Read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .handle import Handle

__all__ = ["TiffSource"]

# OpenSlide's names of the formats whose levels may be plain TIFF pages, or areas that are such. Where tiles of BIF
# overlap, they do by parts of a pixel: its levels are then smaller than the pages, and only it knows what to show.
_FORMATS = {"aperio", "generic-tiff", "leica", "philips", "ventana"}
_TOLERANCE = 2  # grey levels by which two right decoders of JPEG may differ
_MOST = 1 << 28  # bytes that no sound tile exceeds, packed or unpacked
_LARGE = 1_500_000  # px from which threads share a read: a screen; what a detector reads comes many at a time
_KEPT = 1 << 22  # bytes that a thread keeps for decoded tiles: a screen's width of them
_OF_THREAD = threading.local()


@dataclass(frozen=True, slots=True)
class _Tiles:
    """The stored tiles of one level, or of an area of it that lies at `place`, row by row.

    `scanned` (tiles,) says which there are. `offsets` and `lengths` are (tiles, parts): one part a tile, or three where
    red, green and blue are stored apart.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    columns: int
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    scanned: NDArray[np.bool_]
    decode: Decoder
    shrinks: bool
    place: tuple[int, int] = (0, 0)

    def box(self, eighths: int = 8) -> Box:
        """Return left, top, right, bottom in pixels of the level, made smaller to so many eighths."""
        (x, y), (width, height) = self.place, self.size
        left, top = x * eighths // 8, y * eighths // 8
        return left, top, left + width * eighths // 8, top + height * eighths // 8


class TiffSource:
    """The levels of a tiled TIFF (a `Source`), over the OpenSlide handle that knows the rest of the file."""

    reader = "direct"

    def __init__(self, handle: Handle, sizes: Sequence[tuple[int, int]], levels: Sequence[Sequence[_Tiles]]) -> None:
        self._handle = handle
        self._levels = levels  # as a rule one of tiles each, else several areas, what lies above others last
        self._lock = threading.Lock()
        self._file: _File | None = _File(handle.path)
        self.sizes = tuple(sizes)
        self.properties, self.background = handle.properties, handle.background
        self.associated = handle.associated

    @classmethod
    def over(cls, handle: Handle) -> TiffSource | None:
        """Return a source for the file of `handle`, or None where only OpenSlide reads it rightly.

        Raises
        ------
        SlideError
            If the pixels are of more than 8 bits, or their channels in several pages, which neither can show.
        """
        if handle.properties["openslide.vendor"] not in _FORMATS:
            return None
        try:
            found = _areas(handle) if handle.properties["openslide.vendor"] == "leica" else _index(handle)
        except SlideError:
            raise
        except Exception:
            # tifffile meets a damaged directory in many ways; what OpenSlide makes of it counts
            return None
        if found is None:
            return None
        source = cls(handle, *found)
        return source if all(map(source._agrees, source._levels[0])) else None

    def read(self, level: int, column: int, row: int, width: int, height: int) -> RGB:
        """Return uint8 (height, width, 3) from pixel (column, row) of a level."""
        return self._read(level, 8, column, row, width, height)

    def shrunk(self, level: int, eighths: int) -> Read | None:
        """Return what reads a level made smaller to so many eighths, or None where its tiles are not JPEG."""
        areas = self._levels[level]
        whole = all(side * eighths % 8 == 0 for tiles in areas for side in (*tiles.tile, *tiles.place))
        return partial(self._read, level, eighths) if whole and all(tiles.shrinks for tiles in areas) else None

    def _read(self, level: int, eighths: int, column: int, row: int, width: int, height: int) -> RGB:
        self._usable()
        result: RGB = np.empty((height, width, 3), np.uint8)
        box = column, row, column + width, row + height
        areas = [(tiles, common(box, tiles.box(eighths))) for tiles in self._levels[level]]
        if box not in [part for _, part in areas]:
            result[:] = self.background
        for tiles, (left, top, right, bottom) in areas:
            x, y, _, _ = tiles.box(eighths)
            part = result[top - row : bottom - row, left - column : right - column]
            if part.size:
                self._read_area(part, tiles, eighths, left - x, top - y)
        return result

    def _read_area(self, result: RGB, tiles: _Tiles, eighths: int, column: int, row: int) -> None:
        high = tiles.tile[1] * eighths // 8
        rows = range(row // high, -(-(row + len(result)) // high))
        if result.size < 3 * _LARGE:
            self._fill(result, tiles, eighths, column, row, [rows])
        else:
            bands = iter([range(i, i + 1) for i in rows])
            fill = partial(self._fill, result, tiles, eighths, column, row, bands)
            _together(fill, min(len(rows), os.cpu_count() or 1))

    def _fill(self, result: RGB, tiles: _Tiles, eighths: int, column: int, row: int, bands: Iterable[range]) -> None:
        """Read the tiles below `result`, whose corner is pixel (column, row) of the area: the rows of all `bands`.

        Threads that are given the same iterator share its bands.
        """
        wide, high = (side * eighths // 8 for side in tiles.tile)
        columns = range(column // wide, -(-(column + result.shape[1]) // wide))
        for rows in bands:
            top = rows[0] * high - row
            part = result[max(0, top) : top + len(rows) * high]
            shape = len(rows), len(columns), high, wide, 3
            whole = part.flags.c_contiguous and part.shape == (len(rows) * high, wide, 3)
            direct = len(columns) == 1 and whole  # where they belong
            decoded = part.reshape(shape) if direct else _scratch(shape)
            for i, tile_row in enumerate(rows):
                for j, tile_column in enumerate(columns):
                    index = tile_row * tiles.columns + tile_column
                    if tiles.scanned[index]:
                        self._decode(tiles, index, decoded[i, j])
                    else:
                        decoded[i, j] = self.background
            if not direct:
                _join(decoded, part, column - columns[0] * wide, max(0, -top))

    def start(self, level: int, pixel: int) -> float:
        """Return `pixel`: tiles are stored by whole pixels of their level."""
        return pixel

    def read_associated(self, name: str) -> RGB:
        """Return a picture beside the slide; OpenSlide reads it."""
        return self._handle.read_associated(name)

    def icc(self) -> bytes | None:
        """Return the colour profile stored in the file, if there is one."""
        return self._handle.icc()

    def fingerprint(self) -> str:
        """Return the hash that the slide has whichever way it is read."""
        return self._handle.fingerprint()

    def close(self) -> None:
        """Let go of the file. Reads under way in other threads finish."""
        with self._lock:
            self._file = None
        self._handle.close()

    def _decode(self, tiles: _Tiles, index: int, out: RGB) -> None:
        places = zip(tiles.offsets[index].tolist(), tiles.lengths[index].tolist(), strict=True)
        parts = [self._stored(*place) for place in places]
        channels = 3 // len(parts)
        try:
            for i, data in enumerate(parts):
                tiles.decode(data, out[:, :, i * channels : (i + 1) * channels])
        except Exception as error:
            # codecs have no common error
            raise unreadable(self._handle.path, error) from error

    def _stored(self, offset: int, length: int) -> bytes:
        """Return bytes of the file. A second try tells a passing fault (a network drive) from a lasting one."""
        file = self._usable()
        try:
            return file.read(offset, length)
        except OSError:
            with self._lock:
                if self._file is file:
                    check_file(self._handle.path)
                    self._file = _File(self._handle.path)
        try:
            return self._usable().read(offset, length)
        except OSError as error:
            raise unreadable(self._handle.path, error) from error

    def _usable(self) -> _File:
        file = self._file
        if file is None:
            raise SlideError(f"{self._handle.path} has been closed. Open it again.")
        return file

    def _agrees(self, tiles: _Tiles) -> bool:
        """Whether a tile amid an area looks the same to OpenSlide: writers are free with how they store colours."""
        scanned = np.flatnonzero(tiles.scanned)
        if not len(scanned):
            return False
        row, column = divmod(int(scanned[len(scanned) // 2]), tiles.columns)
        x, y = (place + step * side for place, step, side in zip(tiles.place, (column, row), tiles.tile, strict=True))
        left, top, right, bottom = common((x, y, x + tiles.tile[0], y + tiles.tile[1]), tiles.box())
        area = left, top, right - left, bottom - top
        try:
            ours, theirs = self.read(0, *area), self._handle.read(0, *area)
        except SlideError:
            return False
        return bool(np.abs(ours.astype(np.int16) - theirs).max() <= _TOLERANCE)


class _File:
    """A file read at any place by any thread. It closes when its last reader lets go of it."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def __del__(self) -> None:
        self._raw.close()

    def read(self, offset: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            data = os.pread(self._raw.fileno(), length, offset)
        else:  # Windows
            with self._lock:
                self._raw.seek(offset)
                data = self._raw.read(length)
        if len(data) < length:
            raise OSError(f"the file ends {length - len(data):,} bytes early")
        return data


def _scratch(shape: tuple[int, ...]) -> RGB:
    """Return memory for decoded tiles, to be done with before the thread asks again: as a rule the same as before."""
    size = math.prod(shape)
    if size > _KEPT:
        return _cached(size).reshape(shape)
    if not hasattr(_OF_THREAD, "memory"):
        _OF_THREAD.memory = _cached(_KEPT)
    memory: RGB = _OF_THREAD.memory[:size].reshape(shape)
    return memory


def _cached(size: int) -> RGB:
    """Return bytes that begin off a multiple of 32: rows that begin there libjpeg-turbo writes past the cache."""
    memory: RGB = np.empty(size + 31, np.uint8)
    start = (16 - memory.ctypes.data) % 32
    return memory[start : start + size]


def _join(tiles: RGB, target: RGB, x: int, y: int) -> None:
    """Fill `target` (h, w, 3) from `tiles` (rows, columns, high, wide, 3), beginning at their pixel (x, y)."""
    rows, columns, high, wide, _ = tiles.shape
    if target.flags.c_contiguous and target.shape == (rows * high, columns * wide, 3):
        # in one go: the seldomer a thread lets go of Python's lock, the seldomer it waits for it
        target.reshape(rows, high, columns, wide * 3)[:] = tiles.reshape(rows, columns, high, wide * 3).swapaxes(1, 2)
        return
    box = x, y, x + target.shape[1], y + target.shape[0]
    for i, j in itertools.product(range(rows), range(columns)):
        paste(target, box, tiles[i, j], (j * wide, i * high, (j + 1) * wide, (i + 1) * high))


def _together(work: Callable[[], None], threads: int) -> None:
    """Do `work` in so many threads, this one among them; raise what one of them raised."""
    others: list[Future[None]] = [Future() for _ in range(threads - 1)]

    def help_with(done: Future[None]) -> None:
        try:
            work()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    for done in others:  # no pool: its threads would keep the process from ending while a drive does not answer
        threading.Thread(target=help_with, args=(done,), name="cervcell-reader", daemon=True).start()
    work()
    for done in others:
        done.result()


_Found = tuple[Sequence[tuple[int, int]], Sequence[Sequence[_Tiles]]]
"""The sizes of the levels, and where their tiles are."""


def _areas(handle: Handle) -> _Found | None:
    """Return the areas of each level of an SCN file, or None where they are not all plain."""
    levels = []
    with tifffile.TiffFile(handle.path) as tiff:
        for areas in scn.areas_of(tiff.pages.first.description):
            pages: list[tuple[Any, tuple[int, int]]] = [(tiff.pages[area.page], area.place) for area in areas]
            found = [_tiles_of(page, (page.imagewidth, page.imagelength), place) for page, place in pages]
            levels.append([tiles for tiles in found if tiles is not None])
            if len(levels[-1]) < len(found):
                return None
    return (handle.sizes, levels) if len(levels) == len(handle.sizes) else None


def _index(handle: Handle) -> _Found | None:
    """Return where the tiles of each level are, or None if they are not laid out as OpenSlide sees them.

    An OME-TIFF, among others, keeps its coarser levels below its first page, where OpenSlide does not look.
    """
    properties = handle.properties
    with tifffile.TiffFile(handle.path) as tiff:
        first = tiff.pages.first
        _check_depth(handle.path, first)
        _check_planes(handle, first)
        pages: list[Any] = [page for page in tiff.pages if page.is_tiled]  # type: ignore[union-attr]
        levels = []
        for i, size in enumerate(handle.sizes):
            tile = tuple(int(properties.get(f"openslide.level[{i}].tile-{side}", 0)) for side in ("width", "height"))
            fitting = [page for page in pages if _fits(page, size)]
            if len(fitting) != 1 or tile not in ((fitting[0].tilewidth, fitting[0].tilelength), (0, 0)):
                return None  # (0, 0) where OpenSlide does not say
            levels.append(_tiles_of(fitting[0], size))
        if any(offset >= tiff.filehandle.size for offset in first.subifds or ()):
            raise damaged(handle.path, "its smaller levels are missing")
        if first.subifds and len(levels) == 1:
            below: list[Any] = list(first.pages or ())
            smaller = [_tiles_of(page, (page.imagewidth, page.imagelength)) for page in below]
            levels += [level for level in smaller if level is not None]  # one in strips is made, as others are
    found = [level for level in levels if level is not None]
    shrinking = all(b.size[0] < a.size[0] and b.size[1] < a.size[1] for a, b in itertools.pairwise(found))
    # tiles that Aperio left out of a level OpenSlide makes from the next finer one
    gaps = properties["openslide.vendor"] == "aperio" and any(not level.scanned.all() for level in found)
    if len(found) < len(levels) or not shrinking or gaps:
        return None
    return [level.size for level in found], [[level] for level in found]


def _check_depth(path: Path, first: Any) -> None:
    if first.is_tiled and first.bitspersample != 8:
        raise SlideError(
            f"{path} has {first.bitspersample} bits per channel, which cannot be shown as a slide: what is "
            "black and what is white is not known. Export it with 8 bits per channel."
        )


def _check_planes(handle: Handle, first: Any) -> None:
    counts = ome.planes(handle.ome, first.samplesperpixel)
    if said := ", ".join(f"{count} {name}" for name, count in counts.items() if count > 1):
        raise SlideError(
            f"{handle.path} is an OME-TIFF of {said} in pages of their own, of which a slide would show the first one "
            "only. Export it as RGB: its three channels in one page, one plane and one time point."
        )


def _fits(page: Any, size: tuple[int, int]) -> bool:
    """Whether a page may be the level of that size: Philips fills its pages up to whole tiles."""
    padded = tuple(-(-side // step) * step for side, step in zip(size, (page.tilewidth, page.tilelength), strict=True))
    return (page.imagewidth, page.imagelength) in (size, padded)


def _tiles_of(page: Any, size: tuple[int, int], place: tuple[int, int] = (0, 0)) -> _Tiles | None:
    """Return the tiles of a page, which may be filled up beyond `size`; None where they cannot be decoded here."""
    decode = decoder_of(page)
    if decode is None or not page.is_tiled:
        return None
    tile = page.tilewidth, page.tilelength
    columns, rows = -(-page.imagewidth // tile[0]), -(-page.imagelength // tile[1])
    parts = 3 if page.planarconfig == PLANAR else 1
    offsets, lengths = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
    if not (
        len(offsets) == len(lengths) == columns * rows * parts
        and lengths.max() < _MOST
        and tile[0] * tile[1] * 3 < _MOST
    ):
        return None
    offsets, lengths = (stored.reshape(parts, -1).T for stored in (offsets, lengths))  # all red ones come first
    scanned = np.all(lengths > 0, axis=1)
    return _Tiles(size, tile, columns, offsets, lengths, scanned, decode, shrinks(page), place)
