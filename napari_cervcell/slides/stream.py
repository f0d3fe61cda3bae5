"""A slide as a multiscale that answers at once: with what is known now, while the rest is being read."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from .cache import TILES, Place, TileCache
from .grids import Box, Grid, grids_of
from .overview import Overview
from .problems import SlideError
from .readers import Readers
from .streamlevel import StreamLevel

if TYPE_CHECKING:
    from .slide import Slide

__all__ = ["Stream"]

RGB = NDArray[np.uint8]

_PINNED_SHARE = 16  # grids that take less than this part of the cache stay in it
_NEAR = 2  # halvings from what is stored within which the overview costs few reads
_owners = itertools.count()


@dataclass
class _Shown:
    """The picture that was asked for last."""

    number: int
    box: Box
    pixels: RGB
    lacks: set[tuple[int, int]]


class Stream:
    """The pixels of one slide, on their way to a viewer.

    While somebody listens to `landed`, nothing here waits for the file: what is lacking is filled from the nearest
    coarser tiles that are there, and read in other threads. While nobody does, asking waits, and gets every pixel.

    Parameters
    ----------
    slide : Slide
    cache : TileCache
        Where its tiles are kept.

    Attributes
    ----------
    levels : list of StreamLevel
        The slide in its sizes, finest first, each half of the one before or near it: the data of a napari layer.
    overview : Overview
        The whole slide in small, which is the coarsest level.
    """

    landed = Signal()
    """Tiles that are looked at have come: ask for the pixels again. Emitted in the reading threads."""
    failed = Signal(str)
    """A place cannot be read, in words; told once, however many places there are. Emitted in the reading threads."""

    def __init__(self, slide: Slide, cache: TileCache = TILES) -> None:
        self.slide = slide
        self.grids = grids_of(slide)
        self.levels = [StreamLevel(self, number) for number in range(len(self.grids))]
        self._cache = cache
        self._owner = next(_owners)
        self._all = {grid.index: grid for shown in self.grids for grid in _chain(shown)}
        self._pinned = {g.index for g in self._all.values() if 3 * g.rows * g.columns * _PINNED_SHARE <= cache.capacity}
        self.overview = Overview(self.grids[-1], slide.background)
        self._overview_is_near = len(_chain(self.grids[-1])) <= _NEAR + 1
        self._shown: _Shown | None = None
        self._awaited: set[Place] = set()
        self._told = False
        self._readers = Readers(self._needs, self._make)
        weakref.finalize(self, cache.drop, self._owner)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream, (self.slide,)  # napari copies layers with their data: a copy has tiles and threads of its own

    @property
    def is_sharp(self) -> bool:
        """Whether all that was asked for last has been read."""
        return not self._awaited and (self.overview.complete.is_set() or not self._overview_is_near)

    def begin(self, patience: float = 0.0) -> None:
        """Begin to read the overview, and wait for it up to `patience` seconds."""
        self._request([])
        if self._overview_is_near:
            self.overview.complete.wait(patience)

    def stop(self) -> None:
        """End the reading threads and give up the tiles; asking again begins anew."""
        self._readers.stop()
        self._awaited = set()
        self._shown = None
        self._cache.drop(self._owner)

    # ---------------------------------------------------------------------------------------------- asking

    def view(self, number: int, box: Box) -> RGB:
        """Return the pixels of a box (left, top, right, bottom) of the level `number`, as far as they are known.

        The same box again returns the same array, with what has landed meanwhile; the coarsest level is one array,
        in which what lands appears by itself.
        """
        if not len(self.landed):
            return self._region(self.grids[number], box)
        if number == len(self.grids) - 1:
            return self.overview.part(box)
        shown = self._shown
        if shown is None or (shown.number, shown.box) != (number, box):
            return self._look_at(number, box)
        self._fill(shown)
        if any(self._place(number, *key) not in self._awaited for key in shown.lacks):
            self._await(shown)  # given up for others before they were seen
        return shown.pixels

    def _look_at(self, number: int, box: Box) -> RGB:
        grid = self.grids[number]
        left, top, right, bottom = box
        before = self._shown
        pixels = np.empty((bottom - top, right - left, 3), np.uint8)
        shown = self._shown = _Shown(number, box, pixels, set(grid.tiles_in(box)))
        # before looking into the cache: what lands in between is told of
        self._awaited = {self._place(number, *key) for key in shown.lacks}
        self._fill(shown)
        for key in shown.lacks:
            part = _common(grid.box(*key), box)
            pixels[part[1] - top : part[3] - top, part[0] - left : part[2] - left] = self._coarser(number, part)
        self._await(shown, before)
        return pixels

    def _fill(self, shown: _Shown) -> None:
        grid = self.grids[shown.number]
        for key in list(shown.lacks):
            if (tile := self._cache.get(self._place(shown.number, *key))) is not None:
                _paste(shown.pixels, shown.box, tile, grid.box(*key))
                shown.lacks.discard(key)

    def _await(self, shown: _Shown, before: _Shown | None = None) -> None:
        """Have what is lacking read, from the middle outwards, then what a pan like the last one will show."""
        number, (left, top, right, bottom) = shown.number, shown.box
        grid = self.grids[number]
        x, y = (left + right) / 2 / grid.tile - 0.5, (top + bottom) / 2 / grid.tile - 0.5
        lacks = sorted(shown.lacks, key=lambda key: (key[0] - x) ** 2 + (key[1] - y) ** 2)
        ahead: Iterable[tuple[int, int]] = ()
        if before is not None and before.number == number:
            dx, dy = (np.sign(shown.box[i] - before.box[i]) * grid.tile for i in (0, 1))
            ahead = grid.tiles_in((left + min(0, dx), top + min(0, dy), right + max(0, dx), bottom + max(0, dy)))
        self._awaited = {self._place(number, *key) for key in lacks}
        self._awaited.difference_update([place for place in list(self._awaited) if place in self._cache])
        self._request([self._place(number, *key) for key in itertools.chain(lacks, ahead)])

    def _request(self, places: list[Place]) -> None:
        number = len(self.grids) - 1
        overview = [self._place(number, *key) for key in list(self.overview.lacks)]
        wanted = [*overview, *places] if self._overview_is_near else [*places, *overview]
        self._readers.want(place for place in wanted if place not in self._cache)

    def _coarser(self, number: int, box: Box) -> RGB:
        """Return the pixels of a box, made from the nearest coarser level of which all of it is in the cache."""
        grid = self.grids[number]
        for other in self.grids[number + 1 :]:
            rows = ((np.arange(box[1], box[3]) + 0.5) * (other.rows / grid.rows)).astype(np.intp)
            columns = ((np.arange(box[0], box[2]) + 0.5) * (other.columns / grid.columns)).astype(np.intp)
            around = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
            if other is self.grids[-1]:
                source = self.overview.part(around)
            elif all(Place(self._owner, other.index, *key) in self._cache for key in other.tiles_in(around)):
                source = self._region(other, around)
            else:
                continue
            # columns first, of the few rows that there are; whole rows are then quick to repeat
            return source.take(columns - around[0], axis=1).take(rows - around[1], axis=0)
        raise AssertionError("the last level, of which all is there, is never filled from another")

    # --------------------------------------------------------------------------------------------- reading

    def _place(self, number: int, column: int, row: int) -> Place:
        return Place(self._owner, self.grids[number].index, column, row)

    def _needs(self, place: Place) -> list[Place]:
        grid = self._all[place.grid]
        if grid.finer is None:
            return []
        around = grid.finer.tiles_in(grid.source_box(place.column, place.row))
        places = [Place(self._owner, grid.finer.index, *key) for key in around]
        return [needed for needed in places if needed not in self._cache]

    def _make(self, place: Place) -> None:
        grid = self._all[place.grid]
        tile = self._tile(grid, place.column, place.row)
        seen = place in self._awaited
        self._awaited.discard(place)
        if self.overview.add(grid, place.column, place.row, tile) or seen:
            self.landed.emit()

    def _tile(self, grid: Grid, column: int, row: int) -> RGB:
        """Return a tile from the cache, else read or make it now."""
        place = Place(self._owner, grid.index, column, row)
        tile = self._cache.get(place)
        if tile is None:
            if grid.finer is None:
                tile = self._read(grid, column, row)
            else:
                tile = grid.make(column, row, self._region(grid.finer, grid.source_box(column, row)))
            self._cache.put(place, tile, pinned=grid.index in self._pinned)
        return tile

    def _read(self, grid: Grid, column: int, row: int) -> RGB:
        assert grid.stored is not None
        try:
            return self.slide.tile(grid.stored, column, row)
        except Exception as error:  # whatever is wrong with one tile, the others are wanted
            if not self._told:
                self._told = True
                words = str(error) if isinstance(error, SlideError) else f"{self.slide.path} cannot be read: {error}."
                self.failed.emit(f"{words} Places that cannot be read are hatched.")
            left, top, right, bottom = grid.box(column, row)
            return _hatched(right - left, bottom - top)

    def _region(self, grid: Grid, box: Box) -> RGB:
        """Return all pixels of a box, waiting for them; beyond the grid its edge is repeated."""
        left, top, right, bottom = box
        inside = _common(box, (0, 0, grid.columns, grid.rows))
        pixels = np.empty((inside[3] - inside[1], inside[2] - inside[0], 3), np.uint8)
        for key in grid.tiles_in(inside):
            _paste(pixels, inside, self._tile(grid, *key), grid.box(*key))
        if inside == box:
            return pixels
        beyond = ((inside[1] - top, bottom - inside[3]), (inside[0] - left, right - inside[2]), (0, 0))
        return np.pad(pixels, beyond, mode="edge")


def _chain(grid: Grid) -> list[Grid]:
    """Return a grid and all that it is made from."""
    return [grid] if grid.finer is None else [grid, *_chain(grid.finer)]


def _common(a: Box, b: Box) -> Box:
    left, top = max(a[0], b[0]), max(a[1], b[1])
    return left, top, max(left, min(a[2], b[2])), max(top, min(a[3], b[3]))


def _paste(target: RGB, target_box: Box, tile: RGB, box: Box) -> None:
    """Copy what a tile and a target have in common; both boxes are in pixels of the same grid."""
    left, top, right, bottom = _common(target_box, box)
    x, y = target_box[:2]
    target[top - y : bottom - y, left - x : right - x] = tile[
        top - box[1] : bottom - box[1], left - box[0] : right - box[0]
    ]


def _hatched(width: int, height: int) -> RGB:
    """Return a grey tile with slanting lines, which nobody takes for part of a slide."""
    slant = (np.arange(height)[:, None] + np.arange(width)) % 32 < 4
    return np.repeat(np.where(slant, np.uint8(90), np.uint8(150))[..., None], 3, axis=2)
