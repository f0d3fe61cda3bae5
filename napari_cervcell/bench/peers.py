"""Other readers of slides, each asked for RGB of level 0 in the way that its manual shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..slides import Slide
from .figures import OURS

__all__ = ["Reader", "openslide_reader", "ours", "readers"]

RGB = NDArray[np.uint8]
Read = Callable[[int, int, int, int], Any]


@dataclass(frozen=True)
class Reader:
    """A way to read a box (x, y, width, height) of level 0 as an array.

    `spreads` says whether one read uses all cores by itself.
    """

    name: str
    read: Read
    spreads: bool = False


def ours(slide: Slide) -> Reader:
    """Return our own reader, which keeps no tiles."""
    return Reader(OURS, slide.read_region)


def readers(path: Path) -> tuple[list[Reader], list[str]]:
    """Return the peers that are installed and can read a file, and what is to be said of the others."""
    found, missing = [], []
    for name, opened in _PEERS.items():
        try:
            found.append(Reader(name, opened(path), name in _SPREAD))
            found[-1].read(0, 0, 64, 64)
        except ImportError:
            missing.append(f"{name} is not installed")
        except Exception as error:  # each has errors of its own
            found = [reader for reader in found if reader.name != name]
            missing.append(f"{name} cannot read {path.name}: {error}")
    return found, missing


def openslide_reader(path: Path) -> Read:
    """Return what reads level 0 through OpenSlide."""
    import openslide

    slide = openslide.OpenSlide(path)
    slide.set_cache(openslide.OpenSlideCache(0))  # the same places are read again and again

    def read(x: int, y: int, width: int, height: int) -> RGB:
        return np.asarray(slide.read_region((x, y), 0, (width, height)).convert("RGB"))

    return read


def _dask(path: Path) -> Read:
    import dask.array as da

    openslide = openslide_reader(path)
    with Slide(path) as slide:
        width, height = slide.width, slide.height
    side = 512

    def chunk(block_info: Any = None) -> RGB:
        (top, bottom), (left, right), _ = block_info[None]["array-location"]
        pixels: RGB = openslide(left, top, right - left, bottom - top)
        return pixels

    def lengths(total: int) -> tuple[int, ...]:
        return (side,) * (total // side) + ((total % side,) if total % side else ())

    level = da.map_blocks(  # type: ignore[no-untyped-call]
        chunk, chunks=(lengths(height), lengths(width), (3,)), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8)
    )
    return lambda x, y, width, height: np.asarray(level[y : y + height, x : x + width])


def _fastslide(path: Path) -> Read:
    import fastslide

    slide = fastslide.FastSlide.from_file_path(str(path))
    return lambda x, y, width, height: slide.read_region((x, y), 0, (width, height)).numpy()


def _cucim(path: Path) -> Read:
    from cucim import CuImage

    slide = CuImage(str(path))
    return lambda x, y, width, height: np.asarray(slide.read_region((x, y), (width, height), 0))


def _tiffslide(path: Path) -> Read:
    import tiffslide

    slide = tiffslide.TiffSlide(path)
    return lambda x, y, width, height: slide.read_region((x, y), 0, (width, height), as_array=True)


_PEERS: dict[str, Callable[[Path], Read]] = {
    "OpenSlide": openslide_reader,
    "dask on OpenSlide": _dask,
    "fastslide": _fastslide,
    "cucim": _cucim,
    "tiffslide": _tiffslide,
}
_SPREAD = {"dask on OpenSlide"}
