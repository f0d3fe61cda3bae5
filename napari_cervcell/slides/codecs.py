"""Decoders of the stored tiles of a TIFF: bytes in, RGB out, outside the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import simplejpeg
from PIL import Image

from .source import RGB

__all__ = ["PLANAR", "Decoder", "decoder_of", "shrinks"]

Decoder = Callable[[bytes, RGB], None]
"""Decodes the bytes of one tile into a contiguous uint8 (h, w, 3), some even into a smaller one: see `shrinks`.

Raises whatever the codec raises if the bytes are damaged or of another size than the tile: libraries differ.
"""

_Unpack = Callable[[bytes, int], bytes | bytearray]

_HEAD = 1024  # bytes of a JPEG within which its markers are
_RGB, _YCBCR = 2, 6  # photometric interpretations
PLANAR = 2  # configuration: each channel has tiles of its own
_HORIZONTAL = 2  # predictor: each pixel is stored as the difference from its left neighbour


def decoder_of(page: Any) -> Decoder | None:
    """Return the decoder for the tiles of a `tifffile.TiffPage`, or None if they are no plain 8-bit RGB or YCbCr.

    Where red, green and blue are stored apart (planar), it decodes one of them into a uint8 (h, w, 1).
    """
    plain = (
        page.samplesperpixel == 3
        and page.bitspersample == 8
        and page.sampleformat == 1
        and page.planarconfig in (1, PLANAR)
        and page.fillorder == 1
        and page.tags.valueof(274, 1) == 1  # not rotated
        and page.tiledepth == 1
        and page.photometric in (_RGB, _YCBCR)
    )
    if not plain:
        return None
    if page.photometric == _RGB and page.compression in _UNPACK and page.predictor in (1, _HORIZONTAL):
        return _packed(_UNPACK[page.compression], page.predictor == _HORIZONTAL)
    if page.planarconfig == PLANAR:
        return None
    if page.compression == 7:
        if page.photometric == _YCBCR:
            return _jpeg_ycbcr(page.jpegtables, (page.tilelength, page.tilewidth))
        return _jpeg(page.jpegtables, "RGB")
    if page.compression == 33003:
        return _jpeg2000_ycbcr
    if page.compression == 33005:
        return _jpeg2000
    return None


def shrinks(page: Any) -> bool:
    """Whether the decoder of a page also fills an `out` of fewer eighths of the tile's size, at less cost."""
    return bool(page.compression == 7 and page.photometric == _YCBCR)


def _jpeg(tables: bytes | None, colorspace: str) -> Decoder:
    def decode(data: bytes, out: RGB) -> None:
        # the colour space is that of the directory: many scanners leave none, or a wrong one, in the stream
        imagecodecs.jpeg8_decode(data, tables=tables, colorspace=colorspace, outcolorspace="RGB", out=out)

    return decode


def _jpeg_ycbcr(tables: bytes | None, size: tuple[int, int]) -> Decoder:
    """Return a decoder that takes four fifths of the time of the other, for colours as nearly all JPEG have them.

    `size` is that of a tile, (h, w).
    """
    otherwise = _jpeg(tables, "YCbCr")
    before = tables[:-2] if tables else b""  # without the end-of-image marker

    def decode(data: bytes, out: RGB) -> None:
        # simplejpeg believes what the stream says of its colours, which only an Adobe marker can make it say wrongly
        if data.find(b"Adobe", 0, _HEAD) < 0:
            try:
                whole = before + data[2:] if before else data
                least = {} if out.shape[:2] == size else {"min_height": out.shape[0], "min_width": out.shape[1]}
                if simplejpeg.decode_jpeg(whole, "RGB", buffer=out, **least).shape == out.shape:
                    return
            except ValueError:
                pass  # whether it can be used all the same, the other decides
        if out.shape[:2] == size:
            otherwise(data, out)
        else:
            pixels: RGB = np.empty((*size, 3), np.uint8)
            otherwise(data, pixels)
            out[:] = np.asarray(Image.fromarray(pixels).resize(out.shape[1::-1], Image.Resampling.HAMMING))

    return decode


def _jpeg2000(data: bytes, out: RGB) -> None:
    imagecodecs.jpeg2k_decode(data, out=out)


def _jpeg2000_ycbcr(data: bytes, out: RGB) -> None:
    imagecodecs.jpeg2k_decode(data, out=out)
    height, width = out.shape[:2]
    out[:] = np.asarray(Image.frombuffer("YCbCr", (width, height), out.tobytes()).convert("RGB"))


def _packed(unpack: _Unpack, differences: bool) -> Decoder:
    def decode(data: bytes, out: RGB) -> None:
        out[:] = np.frombuffer(unpack(data, out.nbytes), np.uint8, out.nbytes).reshape(out.shape)
        if differences:
            np.cumsum(out, axis=1, dtype=np.uint8, out=out)

    return decode


def _inflate(data: bytes, size: int) -> bytes | bytearray:
    return imagecodecs.zlib_decode(data, out=size)


def _unlzw(data: bytes, size: int) -> bytes | bytearray:
    return imagecodecs.lzw_decode(data, out=size)


def _as_is(data: bytes, size: int) -> bytes:
    return data


_UNPACK: dict[int, _Unpack] = {1: _as_is, 5: _unlzw, 8: _inflate, 32946: _inflate}
