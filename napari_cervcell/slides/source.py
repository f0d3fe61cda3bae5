"""Where a slide's pixels come from: the one interface of all readers, and the choice among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["RGB", "Read", "Source", "open_source"]

RGB = NDArray[np.uint8]
Read = Callable[[int, int, int, int], RGB]
"""Returns writable uint8 (height, width, 3) of a level for (column, row, width, height)."""


class Source(Protocol):
    """An open slide file as stored levels. Reads may come from several threads.

    Attributes
    ----------
    reader : str
        How pixels are read: ``"direct"`` (stored tiles), ``"openslide"`` or ``"zarr"``.
    properties : dict of str to str
        All that the file says about itself, named as OpenSlide names it.
    sizes : sequence of (int, int)
        Width and height of each level, finest first.
    background : (int, int, int)
        RGB of what was not scanned.
    associated : tuple of str
        Names of the pictures beside the slide: ``"label"``, ``"macro"``, ...
    """

    reader: str
    properties: dict[str, str]
    sizes: tuple[tuple[int, int], ...]
    background: tuple[int, int, int]
    associated: tuple[str, ...]

    def read(self, level: int, column: int, row: int, width: int, height: int) -> RGB:
        """Return writable uint8 (height, width, 3) from a pixel of the level; all of it lies within the level.

        Raises SlideError if it cannot be read.
        """
        ...

    def shrunk(self, level: int, eighths: int) -> Read | None:
        """Return what reads a level made smaller to so many eighths of its size, 1 to 7; None where that saves nothing.

        The decoding of JPEG can stop short of the full size.
        """
        ...

    def start(self, level: int, pixel: int) -> float:
        """Return where reading from column or row `pixel` of a level in fact begins, in pixels of the level."""
        ...

    def read_associated(self, name: str) -> RGB:
        """Return one of the pictures beside the slide as uint8 (height, width, 3).

        Raises KeyError where there is none of that name, SlideError if it cannot be read.
        """
        ...

    def icc(self) -> bytes | None:
        """Return the colour profile stored in the file, if there is one."""
        ...

    def fingerprint(self) -> str:
        """Return a quick hash by which the slide is known again, whatever the file is called."""
        ...

    def close(self) -> None:
        """Let go of the file. Reads under way in other threads finish."""
        ...


def open_source(path: Path) -> Source:
    """Open a slide with the fastest reader that is right for it.

    Raises
    ------
    SlideError
        If the file is missing, damaged, or no slide.
    """
    if os.path.isdir(path):  # not Path.is_dir, which raises where one may not look
        from .omezarr import ZarrSource, is_zarr  # zarr is slow to import

        if is_zarr(path):
            return ZarrSource(path)
    from .handle import Handle
    from .tiff import TiffSource

    handle = Handle(path)
    return TiffSource.over(handle) or handle
