"""Reading beside decoding: single views with the cache cold, and a scan of the slide on all cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..slides import Slide
from .decoding import StoredTiles
from .peers import Reader
from .places import VIEW, Place

__all__ = ["Scan", "Views"]

_STRIP = 32  # tiles in a row that one thread reads at a time
_STRIPS = 32  # of a large slide so many are scanned, evenly spread: 0.27 Gpx with tiles of 512


class Views:
    """Views of level 0 at given centres, each read by everybody in turn; the file is in the system's cache."""

    def __init__(self, slide: Slide, stored: StoredTiles, readers: Sequence[Reader], places: Sequence[Place]) -> None:
        self._readers = readers
        self._stored = stored
        width, height = min(VIEW[0], slide.width), min(VIEW[1], slide.height)
        self._boxes = [(x - width // 2, y - height // 2, width, height) for x, y in places]

    def repeat(self, number: int) -> dict[str, list[float]]:
        """Return for each reader its time over that of decoding the same tiles on one thread, a view each."""
        ratios: dict[str, list[float]] = {reader.name: [] for reader in self._readers}
        for i, (x, y, width, height) in enumerate(self._boxes):
            tiles = self._stored.load((x, y, x + width, y + height))
            decoding = _seconds(lambda tiles=tiles: self._stored.decode(tiles))  # type: ignore[misc]
            for reader in _rotated(self._readers, i + number):
                read = _seconds(lambda reader=reader, box=(x, y, width, height): reader.read(*box))  # type: ignore[misc]
                ratios[reader.name].append(read / decoding)
        return ratios


class Scan:
    """All tiles of level 0, or of a large slide strips that are spread over it, on all cores.

    Attributes
    ----------
    share : float
        How much of the slide is scanned, 0 to 1.
    """

    def __init__(self, slide: Slide, stored: StoredTiles, readers: Sequence[Reader]) -> None:
        self._readers = readers
        self._stored = stored
        side, step = slide.tile_size, slide.tile_size * _STRIP
        strips = [
            (x, y, min(x + step, slide.width), min(y + side, slide.height))
            for y in range(0, slide.height, side)
            for x in range(0, slide.width, step)
        ]
        chosen = np.linspace(0, len(strips) - 1, min(_STRIPS, len(strips))).round().astype(int)
        self._strips = [strips[i] for i in chosen]
        self._side = side
        self.share = len(self._strips) / len(strips)
        self._bytes = [stored.load(strip) for strip in self._strips]

    def repeat(self, number: int) -> dict[str, list[float]]:
        """Return for each reader its time over that of decoding the same tiles."""
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(time.sleep, [0.01] * cores()))  # threads are there before the clock starts
            decoding = _seconds(lambda: self._stored.decode_all(self._bytes, pool))
            return {
                reader.name: [_seconds(lambda reader=reader: self._scan(reader, pool)) / decoding]  # type: ignore[misc]
                for reader in _rotated(self._readers, number)
            }

    def _scan(self, reader: Reader, pool: ThreadPoolExecutor) -> None:
        def read(strip: tuple[int, int, int, int]) -> None:
            left, top, right, bottom = strip
            for x in range(left, right, self._side):
                reader.read(x, top, min(self._side, right - x), bottom - top)

        if reader.spreads:
            for left, top, right, bottom in self._strips:
                reader.read(left, top, right - left, bottom - top)
        else:
            list(pool.map(read, self._strips))


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rotated(readers: Sequence[Reader], by: int) -> list[Reader]:
    at = by % len(readers)
    return [*readers[at:], *readers[:at]]


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
