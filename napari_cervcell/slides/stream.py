"""A slide as a multiscale that answers at once: with what is known now, while the rest is being read."""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from .cache import TILES, Place, TileCache
from .faults import Faults, Hatched, hatched
from .grids import Box, Grid, common, grids_of, paste, region
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
_PATIENCE = 0.015  # seconds that asking may wait for pixels, until somebody says how long drawing them takes
_REST = 0.2  # seconds without anything new that tell that the hand was at rest; while it moves no picture will last
_FLING = 2  # pictures; what goes further is a jump, after which nobody goes on in its direction
_SOON = 1 / 3  # of the patience, in which some have come where all will come in time
_owners = itertools.count()


@dataclass
class _Shown:
    """The picture that was asked for last."""

    number: int
    box: Box
    pixels: RGB
    lacks: set[tuple[int, int]]
    hatched: set[tuple[int, int]] = field(default_factory=set)  # may be read at any time, for others that need them


class Stream:
    """The pixels of one slide, on their way to a viewer.

    While somebody listens to `landed`, nothing here waits for the file longer than `patience`: what is lacking is
    filled from the nearest coarser tiles that are there, and read in other threads. Tiles that cannot be read are
    hatched, and tried again when they are asked for some seconds later: a drive may be back by then. While nobody
    listens, asking waits, and gets every pixel or a SlideError.

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
    patience : float
        Seconds that asking for pixels waits where they are about to come, after a third of it in which that shows: as
        long as the drawing takes that is spared.
    """

    landed = Signal()
    """Tiles that are looked at have come: ask for the pixels again. Emitted in the reading threads."""
    failed = Signal(str)
    """A place cannot be read, in words. Emitted in the reading threads, once, however many places there are: again only
    for a file that goes away later, and after a place could be read that could not be before."""

    def __init__(self, slide: Slide, cache: TileCache = TILES) -> None:
        self.slide = slide
        self.grids = grids_of(slide)
        self.levels = [StreamLevel(self, number) for number in range(len(self.grids))]
        self._cache = cache
        self._owner = next(_owners)
        self._all = {grid.index: grid for shown in self.grids for grid in shown.chain()}
        self._pinned = {g.index for g in self._all.values() if 3 * g.rows * g.columns * _PINNED_SHARE <= cache.capacity}
        self.overview = Overview(self.grids[-1], slide.background)
        self._overview_is_near = len(self.grids[-1].chain()) <= _NEAR + 1
        self._shown: _Shown | None = None
        self._awaited: set[Place] = set()
        self.patience = _PATIENCE
        self._asked = 0.0, 0  # when the reading of what is looked at began, and of how many tiles
        self._reading = 0.0  # seconds that the last tile took to be read
        self._looked = 0.0  # when something new was looked at
        self._whole = threading.Event()  # set when the last tile of what is looked at has come
        self._overview_changed = False  # since pixels were asked for
        self._requested: list[Place] = []
        self._foreseen: list[Place] = []
        self._faults = Faults()
        self._has_failed = False
        self._anew: set[Place] = set()  # to be made, from what must be tried again itself
        self._told: set[bool] = set()  # whether it was there, of the file, each time that it could not be read
        self._readers = Readers(self._needs, self._make)
        weakref.finalize(self, cache.drop, self._owner)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream, (self.slide,)  # napari copies layers with their data: a copy has tiles and threads of its own

    @property
    def is_sharp(self) -> bool:
        """Whether all that was asked for last has been read."""
        return not self._awaited and (self.overview.complete.is_set() or not self._overview_is_near)

    @property
    def has_news(self) -> bool:
        """Whether something has come that the pixels that were asked for last do not show."""
        shown = self._shown
        if self._overview_changed or shown is None:
            return True
        there = (self._cache.get(self._place(shown.number, *key)) for key in shown.lacks | shown.hatched)
        return any(tile is not None and not isinstance(tile, Hatched) for tile in there)

    @property
    def remaining(self) -> float:
        """Seconds until all that was asked for last has been read, judged by those since; inf before any tile came."""
        lacking = len(self._awaited)
        began, asked = self._asked
        if not lacking:
            return 0.0
        return (time.monotonic() - began) * lacking / (asked - lacking) if asked > lacking else math.inf

    def begin(self, patience: float = 0.0) -> None:
        """Begin to read the overview, and wait for it up to `patience` seconds; to begin again does no harm."""
        self._request(self._requested)
        if self._overview_is_near:
            self.overview.complete.wait(patience)

    def foresee(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Have a rectangle, level-0 px, read in the size that is looked at, once all that is looked at is there."""
        if self._shown is None:
            return
        grid = self.grids[self._shown.number]
        step_x, step_y = self.slide.width / grid.extent[0], self.slide.height / grid.extent[1]
        box = int(x1 / step_x), int(y1 / step_y), math.ceil(x2 / step_x), math.ceil(y2 / step_y)
        self._foreseen = [self._place(self._shown.number, *key) for key in grid.tiles_in(box)]
        self._request(self._requested)

    def stop(self) -> None:
        """End the reading threads and give up the tiles; asking again begins anew."""
        self._readers.stop()
        self._awaited = set()
        self._shown = None
        self._requested, self._foreseen = [], []
        self._faults = Faults()
        self._has_failed = False
        self._anew.clear()
        self._told.clear()
        self._cache.drop(self._owner)

    # ---------------------------------------------------------------------------------------------- asking

    def view(self, number: int, box: Box) -> RGB:
        """Return the pixels of a box (left, top, right, bottom) of the level `number`, as far as they are known.

        The same box again returns the same array, with what has landed meanwhile; the coarsest level is one array,
        in which what lands appears by itself.
        """
        if not len(self.landed):
            grid = self.grids[number]
            return region(grid, box, lambda key: self._tile(grid, *key, strict=True))
        shown = self._shown
        self._overview_changed = False
        if shown is not None and (shown.number, shown.box) != (number, box):
            shown = None
        if shown is not None:
            self._fill(shown)
        if self._has_failed:
            self._reopen(number, box, shown)
        if number == len(self.grids) - 1:
            return self.overview.part(box)
        if shown is None:
            shown = self._look_at(number, box)
        places = (self._place(number, *key) for key in shown.lacks)
        if any(place not in self._awaited and place not in self._cache for place in places):
            self._await(shown)  # given up for others before they were pasted
        return shown.pixels

    def _reopen(self, number: int, box: Box, shown: _Shown | None) -> None:
        """Give up what is looked at and failed some time ago, so that it is read again; the overview always is."""
        last = len(self.grids) - 1
        if number < last:
            due = self._give_up(number, self.grids[number].tiles_in(box))
            if shown is not None:
                shown.lacks.update(due)
        if due := self._give_up(last, self.overview.tiles):
            self.overview.reopen(due)
            if self._shown is None:
                self._request([])
            else:
                self._await(self._shown)

    def _give_up(self, number: int, keys: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        places = {key: self._place(number, *key) for key in keys}
        due = [key for key, place in places.items() if self._is_bad(place) and self._faults.is_due(place)]
        for key in due:
            self._anew.add(places[key])
            self._cache.discard(places[key])
        return due

    def _look_at(self, number: int, box: Box) -> _Shown:
        grid = self.grids[number]
        left, top, right, bottom = box
        before = self._shown
        pixels = np.empty((bottom - top, right - left, 3), np.uint8)
        shown = self._shown = _Shown(number, box, pixels, set(grid.tiles_in(box)))
        self._await(shown, before)  # first: what lands while the rest is done here is told of
        self._linger()
        self._fill(shown)
        for key in shown.lacks:
            part = common(grid.box(*key), box)
            pixels[part[1] - top : part[3] - top, part[0] - left : part[2] - left] = self._coarser(number, part)
        return shown

    def _linger(self) -> None:
        """Wait a moment: a fast disk brings all in less than it takes to draw a picture that will not last."""
        now = time.monotonic()
        is_moving = now - self._looked < _REST
        self._looked = now
        soon = _SOON * self.patience
        if is_moving or self._reading > self.patience or not self._awaited or self._whole.wait(soon):
            return
        if self.remaining < self.patience:
            self._whole.wait(self.patience)

    def _fill(self, shown: _Shown) -> None:
        grid = self.grids[shown.number]
        for key in shown.lacks | shown.hatched:
            if (tile := self._cache.get(self._place(shown.number, *key))) is not None:
                paste(shown.pixels, shown.box, tile, grid.box(*key))
                shown.lacks.discard(key)
                shown.hatched.discard(key)
                if isinstance(tile, Hatched):
                    shown.hatched.add(key)

    def _await(self, shown: _Shown, before: _Shown | None = None) -> None:
        """Have what is lacking read, from the middle outwards, then what a pan like the last one will show."""
        number, (left, top, right, bottom) = shown.number, shown.box
        grid = self.grids[number]
        x, y = (left + right) / 2 / grid.tile - 0.5, (top + bottom) / 2 / grid.tile - 0.5
        lacks = sorted(shown.lacks, key=lambda key: (key[0] - x) ** 2 + (key[1] - y) ** 2)
        ahead: Iterable[tuple[int, int]] = ()
        if before is not None and before.number == number:
            moved = left - before.box[0], top - before.box[1]
            if abs(moved[0]) < _FLING * (right - left) and abs(moved[1]) < _FLING * (bottom - top):
                dx, dy = np.sign(moved) * grid.tile
                ahead = grid.tiles_in((left + min(0, dx), top + min(0, dy), right + max(0, dx), bottom + max(0, dy)))
        self._awaited = {self._place(number, *key) for key in lacks}
        self._awaited.difference_update([place for place in list(self._awaited) if place in self._cache])
        self._asked = time.monotonic(), len(self._awaited)
        self._whole.clear()
        self._request([self._place(number, *key) for key in itertools.chain(lacks, ahead)])

    def _request(self, places: list[Place]) -> None:
        self._requested = places
        number = len(self.grids) - 1
        overview = [self._place(number, *key) for key in list(self.overview.lacks)]
        wanted = [*overview, *places] if self._overview_is_near else [*places, *overview]
        lacks = set(overview)  # also of what was read before anybody listened, and is in the cache
        self._readers.want(p for p in [*wanted, *self._foreseen] if p in lacks or p not in self._cache)

    def _coarser(self, number: int, box: Box) -> RGB:
        """Return the pixels of a box, made from the nearest coarser level of which all of it is in the cache."""
        grid = self.grids[number]
        for other in self.grids[number + 1 :]:
            rows = ((np.arange(box[1], box[3]) + 0.5) * (other.rows / grid.rows)).astype(np.intp)
            columns = ((np.arange(box[0], box[2]) + 0.5) * (other.columns / grid.columns)).astype(np.intp)
            around = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
            if other is self.grids[-1]:
                source = self.overview.part(around)
            else:
                tiles = {key: self._cache.get(Place(self._owner, other.index, *key)) for key in other.tiles_in(around)}
                there = {key: tile for key, tile in tiles.items() if tile is not None}
                if len(there) < len(tiles):
                    continue
                source = region(other, around, there.__getitem__)
            # columns first, of the few rows that there are; whole rows are then quick to repeat
            return source.take(columns - around[0], axis=1).take(rows - around[1], axis=0)
        raise AssertionError("the last level, of which all is there, is never filled from another")

    # --------------------------------------------------------------------------------------------- reading

    def _place(self, number: int, column: int, row: int) -> Place:
        return Place(self._owner, self.grids[number].index, column, row)

    def _sources(self, grid: Grid, column: int, row: int) -> list[Place]:
        """Return the places of the tiles from which a tile is made; empty for one that is read."""
        if grid.finer is None:
            return []
        around = grid.finer.tiles_in(grid.source_box(column, row))
        return [Place(self._owner, grid.finer.index, *key) for key in around]

    def _is_bad(self, place: Place) -> bool:
        return isinstance(self._cache.get(place), Hatched)

    def _needs(self, place: Place) -> list[Place]:
        sources = self._sources(self._all[place.grid], place.column, place.row)
        if place in self._anew:
            self._anew.discard(place)
            for source in filter(self._is_bad, sources):
                self._anew.add(source)
                self._cache.discard(source)
        return [source for source in sources if source not in self._cache]

    def _make(self, place: Place) -> None:
        grid = self._all[place.grid]
        tile = self._tile(grid, place.column, place.row)
        seen = place in self._awaited
        self._awaited.discard(place)
        if seen and not self._awaited:
            self._whole.set()
        if self.overview.add(grid, place.column, place.row, tile):
            self._overview_changed = True
        elif not seen:
            return
        self.landed.emit()

    def _tile(self, grid: Grid, column: int, row: int, strict: bool = False) -> RGB:
        """Return a tile from the cache, else read or make it now; one that cannot be had is hatched, or raises."""
        place = Place(self._owner, grid.index, column, row)
        tile = self._cache.get(place)
        if tile is not None and not (strict and isinstance(tile, Hatched)):
            return tile
        try:
            tile = self._get(grid, column, row, strict)
        except Exception as error:  # whatever is wrong with one tile, the others are wanted
            if strict:
                raise
            self._tell(error)
            left, top, right, bottom = grid.box(column, row)
            tile = hatched(right - left, bottom - top)
        if isinstance(tile, Hatched):
            self._has_failed = True
            self._faults.add(place)
        elif self._faults.mend(place):
            self._told.clear()
        self._cache.put(place, tile, pinned=grid.index in self._pinned)
        return tile

    def _get(self, grid: Grid, column: int, row: int, strict: bool) -> RGB:
        if grid.finer is None:
            assert grid.stored is not None
            start = time.monotonic()
            tile = self.slide.tile(grid.stored, column, row)
            self._reading = time.monotonic() - start
            return tile
        finer, bad = grid.finer, False

        def source(key: tuple[int, int]) -> RGB:
            nonlocal bad
            tile = self._tile(finer, *key, strict)
            bad |= isinstance(tile, Hatched)
            return tile

        made = grid.make(column, row, source)
        return made.view(Hatched) if bad else made

    def _tell(self, error: Exception) -> None:
        is_there = os.path.exists(self.slide.path)  # not Path.exists, which raises where a drive has gone
        if self._readers.are_working and is_there not in self._told:
            self._told.add(is_there)
            words = str(error) if isinstance(error, SlideError) else f"{self.slide.path} cannot be read: {error}."
            self.failed.emit(f"{words} Places that cannot be read are hatched, and tried again when you come back.")
