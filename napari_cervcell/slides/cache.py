"""Decoded tiles, kept while there is room: one cache for all slides of the process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["TILES", "Place", "TileCache"]

RGB = NDArray[np.uint8]


class Place(NamedTuple):
    """Where a tile belongs: which slide on screen, which of its grids, and where in that."""

    owner: int
    grid: int
    column: int
    row: int


class TileCache:
    """Tiles by place, the least recently used given up first. May be used by several threads.

    Parameters
    ----------
    capacity : int
        Bytes that tiles may take.
    """

    def __init__(self, capacity: int) -> None:
        self._lock = threading.Lock()
        self._loose: OrderedDict[Place, RGB] = OrderedDict()
        self._pinned: dict[Place, RGB] = {}
        self._pinned_bytes = 0
        self._capacity = capacity
        self.nbytes = 0

    @property
    def capacity(self) -> int:
        """Bytes that tiles may take; a smaller number takes effect at once."""
        return self._capacity

    @capacity.setter
    def capacity(self, value: int) -> None:
        with self._lock:
            self._capacity = value
            self._shrink()

    def __contains__(self, place: object) -> bool:
        return place in self._loose or place in self._pinned

    def get(self, place: Place) -> RGB | None:
        """Return the tile of a place, which counts as a use, or None."""
        with self._lock:
            tile = self._loose.get(place)
            if tile is None:
                return self._pinned.get(place)
            self._loose.move_to_end(place)
            return tile

    def put(self, place: Place, tile: RGB, *, pinned: bool = False) -> None:
        """Keep a tile; a pinned one is not given up for others, as long as such take no more than half the room."""
        with self._lock:
            self._remove(place)
            if pinned and self._pinned_bytes + tile.nbytes <= self._capacity // 2:
                self._pinned[place] = tile
                self._pinned_bytes += tile.nbytes
            else:
                self._loose[place] = tile
            self.nbytes += tile.nbytes
            self._shrink()

    def discard(self, place: Place) -> None:
        """Forget one tile, if it is there."""
        with self._lock:
            self._remove(place)

    def drop(self, owner: int) -> None:
        """Forget all tiles of an owner."""
        with self._lock:
            for place in [p for tiles in (self._loose, self._pinned) for p in tiles if p.owner == owner]:
                self._remove(place)

    def _remove(self, place: Place) -> None:
        if (tile := self._loose.pop(place, None)) is not None:
            self.nbytes -= tile.nbytes
        elif (tile := self._pinned.pop(place, None)) is not None:
            self.nbytes -= tile.nbytes
            self._pinned_bytes -= tile.nbytes

    def _shrink(self) -> None:
        while self.nbytes > self._capacity and (self._loose or self._pinned):
            self._remove(next(iter(self._loose or self._pinned)))


TILES = TileCache(512 << 20)
"""The tiles of all slides that this process shows."""
