"""A slow disk: every read waits first, by its size, whoever reads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import openslide

from ..slides import slide as slide_module
from ..slides.source import RGB, Source, open_source

__all__ = ["Slowness"]

_TILE = 512 * 512  # pixels


class Slowness:
    """Slows reading in this process from `begin` on, by `seconds` a tile of 512 x 512 px; they may be changed.

    Whoever reads smaller pieces waits for each accordingly less: what counts is the area.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def begin(self) -> None:
        """Slow the slides of this package, and OpenSlide for whoever uses it."""
        read_region = openslide.OpenSlide.read_region

        def slow_region(file: Any, location: tuple[int, int], level: int, size: tuple[int, int]) -> Any:
            self.wait(*size)
            return read_region(file, location, level, size)

        def slow_source(path: Path) -> Source:
            source = open_source(path)
            return source if source.reader == "openslide" else _SlowSource(source, self)

        setattr(openslide.OpenSlide, "read_region", slow_region)  # noqa: B010
        setattr(slide_module, "open_source", slow_source)  # noqa: B010

    def wait(self, width: int, height: int) -> None:
        """Wait for the reading of so many pixels."""
        time.sleep(self.seconds * width * height / _TILE)


class _SlowSource:
    """A source whose reads take longer."""

    def __init__(self, source: Source, slowness: Slowness) -> None:
        self._source = source
        self._slowness = slowness
        self.reader, self.properties = source.reader, source.properties
        self.sizes, self.background = source.sizes, source.background

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, level: int, column: int, row: int, width: int, height: int) -> RGB:
        self._slowness.wait(width, height)
        return self._source.read(level, column, row, width, height)

    def start(self, level: int, pixel: int) -> float:
        return self._source.start(level, pixel)

    def icc(self) -> bytes | None:
        return self._source.icc()

    def fingerprint(self) -> str:
        return self._source.fingerprint()

    def close(self) -> None:
        self._source.close()
