"""The limit of all reading: decoding the stored tiles from memory, by the fastest decoder that there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import simplejpeg
import tifffile

from ..errors import CervcellError
from ..slides.codecs import PLANAR, Decoder, decoder_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NoStoredTilesError", "StoredTiles"]

Box = tuple[int, int, int, int]

_JPEG, _YCBCR = 7, 6  # compression, photometric interpretation
_TOLERANCE = 2  # grey levels by which two right decoders of JPEG may differ
_TRIED = 64  # tiles on which decoders are compared


class NoStoredTilesError(CervcellError):
    """A file does not hold its pixels as tiles that can be decoded one by one."""


class StoredTiles:
    """The stored tiles of level 0 of a tiled TIFF.

    Attributes
    ----------
    decoder : str
        The library that decodes them here.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._path = path
        try:
            with tifffile.TiffFile(path) as tiff:
                pages: list[Any] = [page for page in tiff.pages if page.is_tiled]  # type: ignore[union-attr]
                page = next(page for page in pages if (page.imagewidth, page.imagelength) == size)
        except (StopIteration, tifffile.TiffFileError):
            page = None
        decode = page and page.planarconfig != PLANAR and decoder_of(page)
        if not decode:
            raise NoStoredTilesError(f"{path} is not a TIFF of tiles that can be decoded one by one.")
        self._side: tuple[int, int] = page.tilewidth, page.tilelength
        self._columns: int = -(-page.imagewidth // page.tilewidth)
        self._rows: int = -(-page.imagelength // page.tilelength)
        self._offsets, self._lengths = page.dataoffsets, page.databytecounts
        self._tables: bytes | None = page.jpegtables
        self._decode: Decoder = decode
        self.decoder = "imagecodecs"
        if page.compression == _JPEG and any(self._lengths):
            self._choose("YCbCr" if page.photometric == _YCBCR else "RGB")

    @property
    def bytes_per_pixel(self) -> float:
        """Stored bytes per pixel of level 0."""
        return sum(map(int, self._lengths)) / (self._columns * self._rows * self._side[0] * self._side[1])

    def load(self, box: Box) -> list[bytes]:
        """Return the bytes of the tiles that a box (left, top, right, bottom) touches, as far as they were scanned."""
        (wide, high), (left, top, right, bottom) = self._side, box
        numbers = [
            row * self._columns + column
            for row in range(top // high, min(self._rows, -(-bottom // high)))
            for column in range(left // wide, min(self._columns, -(-right // wide)))
        ]
        return self._read([n for n in numbers if self._lengths[n]])

    def decode(self, tiles: Sequence[bytes]) -> None:
        """Decode tiles into one buffer, each over the one before."""
        out = self._buffer()
        for data in tiles:
            self._decode(data, out)

    def decode_all(self, parts: Sequence[Sequence[bytes]], pool: Executor) -> None:
        """Decode tiles on all threads of a pool, a part each at a time."""
        list(pool.map(self.decode, parts))

    def _read(self, numbers: Sequence[int]) -> list[bytes]:
        with self._path.open("rb") as file:
            read = []
            for n in numbers:
                file.seek(self._offsets[n])
                data = file.read(self._lengths[n])
                # every tile a JPEG of its own: what it shares with the others is put into it before the clock starts
                read.append(self._tables[:-2] + data[2:] if self._tables else data)
        return read

    def _buffer(self) -> NDArray[np.uint8]:
        return np.empty((self._side[1], self._side[0], 3), np.uint8)

    def _choose(self, colorspace: str) -> None:
        """Take simplejpeg where it gives the same pixels as imagecodecs and is faster."""

        def usual(data: bytes, out: NDArray[np.uint8]) -> None:
            imagecodecs.jpeg8_decode(data, colorspace=colorspace, outcolorspace="RGB", out=out)

        def other(data: bytes, out: NDArray[np.uint8]) -> None:
            simplejpeg.decode_jpeg(data, "RGB", buffer=out)

        step = max(1, len(self._offsets) // _TRIED)
        tiles = self._read([n for n in range(0, len(self._offsets), step) if self._lengths[n]])
        ours, theirs = self._buffer(), self._buffer()
        usual(tiles[0], ours)
        other(tiles[0], theirs)
        same = np.abs(ours.astype(np.int16) - theirs).max() <= _TOLERANCE
        if same and _seconds(other, tiles, ours) < _seconds(usual, tiles, ours):
            self._decode, self.decoder = other, "simplejpeg"
        else:
            self._decode = usual


def _seconds(decode: Callable[[bytes, NDArray[np.uint8]], None], tiles: list[bytes], out: NDArray[np.uint8]) -> float:
    """Return the best time out of some that it takes to decode tiles."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        for data in tiles:
            decode(data, out)
        times.append(time.perf_counter() - start)
    return min(times)
