"""One pass of a model over a slide: read ahead, infer, merge across tiles, write to the case, report."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby, islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..casefile import Case, CaseError, Looks, RunState
from ..cells import Cells, iou_with
from ..models import OVERLAP, Model, decode_embedded
from ..priority import THREADS_GIVE_WAY, thread_gives_way
from ..slides import Foreground, Slide, SlideError
from .engines import DetectionError, Engine, NoRoomError, infer, make_engine, pick_device
from .tiles import HALO, Block, Rectangle, Tile, TileGrid, plan

__all__ = ["LOWEST_SCORE", "Progress", "Scan"]

LOWEST_SCORE = 0.1
"""Detections below this are not kept: too many to be worth asking about."""

_COARSEST = 4.0
"""Beyond so many times the model's µm per px a cell is a few pixels, and what a model says of them means nothing."""

_READERS = 2
_AHEAD = 3  # blocks read while others are looked at, beyond the batch in hand
_MARGIN = (
    12.0  # a tile also reports cells centred this far (network px) outside its core, lest two tiles each leave one
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a scan reports after every tile.

    Attributes
    ----------
    cells : Cells
        New in this tile, level-0 px.
    looks : float16 (n, d)
        What each of them looks like: d numbers of unit length, none (d is 0) where the model does not say.
    tile : Tile
    done, total : int
        Tiles; those done by an earlier, interrupted scan of the same model count as done.
    found : int
        Cells so far in this scan.
    seconds, tiles_per_second, seconds_left : float
    readable : bool
        Whether the tile's pixels could be read; one that could not is skipped, and what was known of it stands.
    unreadable : int
        How many could not, so far.
    engine : str
        What computes, in words.
    """

    cells: Cells
    looks: Looks
    tile: Tile
    done: int
    total: int
    found: int
    seconds: float
    tiles_per_second: float
    seconds_left: float
    readable: bool
    unreadable: int
    engine: str


_Read = tuple[Block, NDArray[np.uint8] | None]
_Found = tuple[Cells, Looks]
_Looked = tuple[Tile, _Found | None, str]  # with what computed, in words
_T = TypeVar("_T")
_R = TypeVar("_R")


class Scan:
    """A scan of `slide` by `model`.

    Parameters
    ----------
    view, region : rectangle (x1, y1, x2, y2), level-0 px, optional
        See :func:`plan`.
    foreground : Foreground, optional
        Tiles without foreground are left out.
    device : str
        One of `DEVICES`. `Scan.device` says which one was taken; once the scan runs, with what it fell back on.
    case : Case, optional
        Every tile is written there as it comes, and tiles that this very model did before are not done again.
    threads : int, optional
        CPU threads of the network; all cores by default.
    gives_way : bool
        Whether its threads let all other work go first, for a window is in use; where the system cannot do so for
        threads, the network leaves a core free.

    Attributes
    ----------
    blocks : list of Block
        What there is to look at, in order.
    total : int
        Tiles, with those that were done before.

    Raises DetectionError for a slide without mpp, or one much coarser than what the model learnt from.
    """

    def __init__(
        self,
        slide: Slide,
        model: Model,
        *,
        view: Rectangle | None = None,
        region: Rectangle | None = None,
        foreground: Foreground | None = None,
        device: str = "auto",
        case: Case | None = None,
        threads: int | None = None,
        gives_way: bool = False,
    ) -> None:
        if slide.mpp_xy is None:
            raise DetectionError(
                f"{slide.path} does not say its µm per pixel, without which cells have no size. Give it."
            )
        mpp = sum(slide.mpp_xy) / 2
        if mpp > _COARSEST * model.mpp:
            raise DetectionError(
                f"{slide.path} has {mpp:.3g} µm per pixel, too coarse for the model {model.name}, which looks at "
                f"{model.mpp:.3g}: cells could not be told from dirt. Scan at 20x or more, or correct the µm per pixel."
            )
        self.slide, self.model, self.case = slide, model, case
        self.device = pick_device(device)
        self.grid = TileGrid.of(slide.width, slide.height, slide.mpp_xy, model.mpp)
        blocks = plan(self.grid, view=view, region=region, wanted=foreground.covers if foreground else None)
        self.total = sum(len(block.tiles) for block in blocks)
        earlier = case.scanned(model.id, self.grid.size) if case else set()
        self.blocks = [left for block in blocks if (left := block.without(earlier)).tiles]
        if gives_way and not THREADS_GIVE_WAY:
            threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self._threads = threads
        self._begin = thread_gives_way if gives_way else None  # of every thread
        self._scope = "region" if region else "slide"
        # what neighbouring tiles have reported, whichever model looked at them; but what stands in one that waits to be
        # looked at anew counts for nothing, for it will go
        self._reported: dict[tuple[int, int], Cells] = {}
        # what an earlier run has found in the tiles that are not looked at anew so far
        self._stands: dict[tuple[int, int], tuple[int, Cells]] = {}
        if case:
            known = case.detections(size=self.grid.size)
            for x, y, run, which in known.by_tile():
                cells = known.cells[which]
                self._reported[x, y] = Cells.concatenate([self._reported.get((x, y), Cells()), cells])
                if run:  # no imported ones
                    self._stands[x, y] = run, cells
        self._waiting = {(t.x, t.y) for t in self.tiles}
        self._one_by_one = False  # for want of memory

    @property
    def tiles(self) -> list[Tile]:
        """The tiles that there are to look at, in order."""
        return [tile for block in self.blocks for tile in block.tiles]

    def size_of(self, across: int) -> tuple[int, int]:
        """Return height and width of what the network sees of so many tiles across and down, halo and all, px."""
        return self.grid.rows * across + 2 * HALO, self.grid.columns * across + 2 * HALO

    def read(self, block: Block) -> NDArray[np.uint8]:
        """Return the pixels of a block and its halo as the network sees them. Raises SlideError."""
        (step_x, step_y), (height, width) = self.grid.steps, self.size_of(block.across)
        return self.slide.read_grid(block.x - HALO * step_x, block.y - HALO * step_y, width, height, step_x, step_y)

    def run(self, stop: threading.Event | None = None, pause: threading.Event | None = None) -> Iterator[Progress]:
        """Do the scan, yielding after every tile; set `stop` to end it there.

        While `pause` is set nothing new is begun. The tiles written so far stay in the case whatever happens.
        Raises CervcellError where the case cannot be written or the device fails.
        """
        stop, pause = stop or threading.Event(), pause or threading.Event()
        run = self.case.start_run(self.model.id, self.model.name, self._scope) if self.case else 0
        state: RunState = "failed"
        try:
            yield from self._tiles(run, stop, pause)
            state = "cancelled" if stop.is_set() else "done"
        except (GeneratorExit, KeyboardInterrupt):
            state = "cancelled"
            raise
        finally:
            if self.case:
                with suppress(CaseError):  # finish_run says so, too
                    self._leave_no_doubles(self.case)
                self.case.finish_run(run, state)

    def _tiles(self, run: int, stop: threading.Event, pause: threading.Event) -> Iterator[Progress]:
        start = time.monotonic()
        before = self.total - len(self._waiting)
        found = unreadable = 0
        done = before
        for tile, raw, engine in self._looked_at(stop):
            self._waiting.discard((tile.x, tile.y))
            if raw is None:
                unreadable += 1
                cells, looks = Cells(), np.zeros((0, 0), np.float16)
            else:
                cells, looks = self._merged(tile, *raw)
                if self.case:
                    self.case.write_tile(run, tile.x, tile.y, tile.size, cells, looks)
                self._reported[tile.x, tile.y] = cells
                self._stands.pop((tile.x, tile.y), None)
            done, found = done + 1, found + len(cells)
            seconds = time.monotonic() - start
            rate = (done - before) / max(seconds, 1e-6)
            left = (self.total - done) / rate
            readable = raw is not None
            yield Progress(
                cells, looks, tile, done, self.total, found, seconds, rate, left, readable, unreadable, engine
            )
            paused = time.monotonic()
            while pause.is_set() and not stop.wait(0.05):
                pass
            start += time.monotonic() - paused
            if stop.is_set():
                return

    def _looked_at(self, stop: threading.Event) -> Iterator[_Looked]:
        """Yield every tile with its cells and their looks, in px of the network's input, (0, 0) at the core's corner.

        Reading, the network and what becomes of its answers each have threads of their own; at most two batches and
        `_AHEAD` blocks are in memory. Ends at once where `stop` is set, whatever the network is at.
        """
        if not self.blocks:
            return  # nothing is worth making an engine for
        with ExitStack() as stack:
            readers = stack.enter_context(ThreadPoolExecutor(_READERS, "cervcell-read", self._begin))
            one = ThreadPoolExecutor(1, "cervcell-infer", self._begin)
            stack.callback(one.shutdown, wait=False, cancel_futures=True)

            @cache
            def engine_for(across: int) -> Engine:
                return make_engine(self.model, self.device, *self.size_of(across), self._threads)

            @cache
            def making(across: int) -> Future[Engine]:
                return one.submit(engine_for, across)

            def look(batch: list[_Read]) -> list[_Looked]:
                return self._infer(engine_for, batch)

            making(self.blocks[0].across)  # while the first ones are read
            ahead = stack.enter_context(closing(_ahead(readers, self._read, self.blocks, _AHEAD, stop)))
            batches = _batches(chain.from_iterable(ahead), making, stop)
            for batch in stack.enter_context(closing(_ahead(one, look, batches, 1, stop))):
                yield from batch

    def _infer(self, engine_for: Callable[[int], Engine], batch: list[_Read]) -> list[_Looked]:
        """Look at blocks of one size; where memory does not suffice for one of them, at its tiles one by one."""
        across = batch[0][0].across
        engine = engine_for(across)
        seen = [pixels for _, pixels in batch if pixels is not None]
        try:
            found = iter(decode_embedded(infer(engine, np.stack(seen)), LOWEST_SCORE) if seen else [])
        except NoRoomError:
            if across == 1:
                raise
            found = None
        if found is None:  # out here, where what was computed in vain is no longer in memory
            self._one_by_one = True
            return [
                said for block, _ in batch for read in self._read(block) for said in self._infer(engine_for, [read])
            ]
        self.device = engine.name
        result: list[_Looked] = []
        for block, pixels in batch:
            if pixels is None:
                result += [(tile, None, engine.words) for tile in block.tiles]
                continue
            cells, looks, _ = next(found)
            short = looks.astype(np.float16)
            for tile in block.tiles:
                column, row = (tile.x - block.x) // tile.size, (tile.y - block.y) // tile.size
                left, top = HALO + column * self.grid.columns, HALO + row * self.grid.rows
                result.append((tile, (cells.moved(-left, -top), short), engine.words))
        return result

    def _read(self, block: Block) -> list[_Read]:
        """Read a block, or the tiles of it one by one where some of its pixels cannot be read, or memory is short."""
        if block.across == 1 or not self._one_by_one:
            try:
                return [(block, self.read(block))]
            except SlideError:
                if block.across == 1:
                    return [(block, None)]
        return [read for tile in block.tiles for read in self._read(Block.of(tile))]

    def _merged(self, tile: Tile, cells: Cells, looks: Looks) -> _Found:
        """Return the tile's own new cells in level-0 px: each cell on a border is reported by one tile only."""
        x, y = cells.centres.T
        columns, rows = self.grid.columns, self.grid.rows
        near = (x >= -_MARGIN) & (x < columns + _MARGIN) & (y >= -_MARGIN) & (y < rows + _MARGIN)
        own, looks = cells[near].moved(tile.x, tile.y, self.grid.steps), looks[near]
        x, y = own.centres.T
        inside = (x >= 0) & (x < self.slide.width) & (y >= 0) & (y < self.slide.height)
        own, looks = own[inside], looks[inside]
        new = self._not_in(own, self._around(tile.x, tile.y) - self._waiting)
        return own[new], looks[new]

    def _leave_no_doubles(self, case: Case) -> None:
        """Where the scan has not come to all tiles, take out of these what it has found anew beside them.

        Not what is new, lest a scan that goes on later ends with other cells than one that was never stopped.
        """
        left = self._stands.keys() & {(t.x, t.y) for t in self.tiles}
        for x, y in left:
            run, old = self._stands[x, y]
            kept = self._not_in(old, self._around(x, y) - left)
            if not kept.all():
                case.keep_in_tile(run, x, y, self.grid.size, kept)

    def _around(self, x: int, y: int) -> set[tuple[int, int]]:
        """Return (x, y) of the eight tiles around one."""
        steps = (-self.grid.size, 0, self.grid.size)
        return {(x + dx, y + dy) for dx in steps for dy in steps if dx or dy}

    def _not_in(self, cells: Cells, tiles: set[tuple[int, int]]) -> NDArray[np.bool_]:
        """Return bool (n,): which of n `cells` none of `tiles` has reported."""
        others = Cells.concatenate([self._reported[tile] for tile in tiles if tile in self._reported]).boxes
        if not len(others):
            return np.ones(len(cells), bool)
        return np.array([iou_with(box, others).max() <= OVERLAP for box in cells.boxes], bool)


def _ahead(
    pool: Executor, work: Callable[[_T], _R], items: Iterable[_T], depth: int, stop: threading.Event
) -> Generator[_R, None, None]:
    """Yield ``work(item)`` in the order of the items, `depth` of them being worked at while one is looked at."""
    running: deque[Future[_R]] = deque()
    try:
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) > depth:
                if not _is_done(running[0], stop):
                    return
                yield running.popleft().result()
        while running and _is_done(running[0], stop):
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _batches(
    reads: Iterator[_Read], making: Callable[[int], Future[Engine]], stop: threading.Event
) -> Iterator[list[_Read]]:
    """Group blocks of one size for their engine, which is waited for only once the first of them has been read."""
    for across, of_size in groupby(reads, lambda read: read[0].across):
        if not _is_done(making(across), stop):
            return
        while batch := list(islice(of_size, making(across).result().batch)):
            yield batch


def _is_done(future: Future[Any], stop: threading.Event) -> bool:
    """Wait for the future; return False where `stop` is set before."""
    while not wait([future], 0.05).done:
        if stop.is_set():
            return False
    return True
