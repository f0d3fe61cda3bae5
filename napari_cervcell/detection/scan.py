"""One pass of a model over a slide: read ahead, infer, merge across tiles, write to the case, report."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..casefile import Case, RunState
from ..cells import Cells, iou_with
from ..errors import CervcellError
from ..models import OVERLAP, Model, decode, predict, to_input
from ..slides import Foreground, Slide, SlideError
from .tiles import HALO, Rectangle, Tile, TileGrid, plan

__all__ = ["LOWEST_SCORE", "DetectionError", "Progress", "Scan", "pick_device"]

LOWEST_SCORE = 0.1
"""Detections below this are not kept: too many to be worth asking about."""

_MARGIN = (
    12.0  # a tile also reports cells centred this far (network px) outside its core, lest two tiles each leave one
)


class DetectionError(CervcellError):
    """A scan cannot be done."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a scan reports after every tile.

    Attributes
    ----------
    cells : Cells
        New in this tile, level-0 px.
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
    """

    cells: Cells
    tile: Tile
    done: int
    total: int
    found: int
    seconds: float
    tiles_per_second: float
    seconds_left: float
    readable: bool
    unreadable: int


def pick_device(wanted: str = "auto") -> str:
    """Return "cuda", "mps" or "cpu" for `wanted` ("auto" or one of them). Raises DetectionError if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, ok in there.items() if ok)
    if not there.get(wanted, False):
        raise DetectionError(f"This machine has no {wanted!r} device for detection. Choose auto or cpu.")
    return wanted


class Scan:
    """A scan of `slide` by `model`.

    Parameters
    ----------
    view, region : rectangle (x1, y1, x2, y2), level-0 px, optional
        See :func:`plan`.
    foreground : Foreground, optional
        Tiles without foreground are left out.
    device : str
        "auto", "cpu", "cuda" or "mps".
    case : Case, optional
        Every tile is written there as it comes, and tiles that this very model did before are not done again.
    threads : int, optional
        CPU threads of the network; all cores by default. A window leaves one for itself.

    Raises DetectionError for a slide without mpp.
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
    ) -> None:
        if slide.mpp_xy is None:
            raise DetectionError(
                f"{slide.path} does not say its µm per pixel, without which cells have no size. Give it."
            )
        self.slide, self.model, self.case = slide, model, case
        self.device = pick_device(device)
        self.grid = TileGrid.of(slide.width, slide.height, slide.mpp_xy, model.mpp)
        tiles = plan(self.grid, view=view, region=region, wanted=foreground.covers if foreground else None)
        earlier = case.scanned(model.id) if case else set()
        self.tiles = [t for t in tiles if (t.x, t.y) not in earlier]
        self.total = len(tiles)
        self._threads = threads
        self._scope = "region" if region else "slide"
        # what neighbouring tiles have reported already; an earlier part of the same model's work counts
        self._reported: dict[tuple[int, int], Cells] = {}
        if case and earlier:
            self._reported = _found_by(model.id, case)

    def run(self, stop: threading.Event | None = None) -> Iterator[Progress]:
        """Do the scan, yielding after every tile; set `stop` to end it after the current batch.

        The tiles written so far stay in the case whatever happens. Raises CervcellError where the case cannot be
        written.
        """
        stop = stop or threading.Event()
        run = self.case.start_run(self.model.id, self.model.name, self._scope) if self.case else 0
        state: RunState = "failed"
        try:
            yield from self._tiles(run, stop)
            state = "cancelled" if stop.is_set() else "done"
        except GeneratorExit:
            state = "cancelled"
            raise
        finally:
            if self.case:
                self.case.finish_run(run, state)

    def _tiles(self, run: int, stop: threading.Event) -> Iterator[Progress]:
        start = time.monotonic()
        before = self.total - len(self.tiles)
        found = unreadable = 0
        done = before
        for tile, pixels in self._read_ahead(stop):
            if pixels is None:
                unreadable += 1
                cells = Cells()
            else:
                cells = self._merged(tile, self._infer(pixels))
                if self.case:
                    self.case.write_tile(run, tile.x, tile.y, tile.size, cells)
            self._reported[tile.x, tile.y] = cells
            done, found = done + 1, found + len(cells)
            seconds = time.monotonic() - start
            rate = (done - before) / max(seconds, 1e-6)
            left = (self.total - done) / rate
            yield Progress(cells, tile, done, self.total, found, seconds, rate, left, pixels is not None, unreadable)

    def _read(self, tile: Tile) -> NDArray[np.uint8] | None:
        grid = self.grid
        step_x, step_y = grid.steps
        left, top = tile.x - HALO * step_x, tile.y - HALO * step_y
        try:
            return self.slide.read_grid(left, top, grid.columns + 2 * HALO, grid.rows + 2 * HALO, step_x, step_y)
        except SlideError:
            return None

    def _read_ahead(self, stop: threading.Event) -> Iterator[tuple[Tile, NDArray[np.uint8] | None]]:
        waiting: deque[tuple[Tile, Future[NDArray[np.uint8] | None]]] = deque()
        with ThreadPoolExecutor(2, "cervcell-read") as pool:
            try:
                for tile in self.tiles:
                    if stop.is_set():
                        return
                    waiting.append((tile, pool.submit(self._read, tile)))
                    if len(waiting) > 4:
                        first, pixels = waiting.popleft()
                        yield first, pixels.result()
                while waiting and not stop.is_set():
                    first, pixels = waiting.popleft()
                    yield first, pixels.result()
            finally:
                for _, pixels in waiting:
                    pixels.cancel()

    def _infer(self, pixels: NDArray[np.uint8]) -> Cells:
        """Return the cells of a tile with its halo, boxes in px of the network's input, (0, 0) at the core's corner."""
        if self._threads:
            torch.set_num_threads(self._threads)
        network = self.model.network.to(self.device)
        with torch.inference_mode(), torch.autocast("cuda", enabled=self.device == "cuda"):
            dense = predict(network, to_input(pixels[None]).to(self.device))
        return decode(dense, LOWEST_SCORE)[0].moved(-HALO, -HALO)

    def _merged(self, tile: Tile, cells: Cells) -> Cells:
        """Return the tile's own new cells in level-0 px: each cell on a border is reported by one tile only."""
        x, y = cells.centres.T
        columns, rows = self.grid.columns, self.grid.rows
        near = (x >= -_MARGIN) & (x < columns + _MARGIN) & (y >= -_MARGIN) & (y < rows + _MARGIN)
        own = cells[near].moved(tile.x, tile.y, self.grid.steps)
        x, y = own.centres.T
        own = own[(x >= 0) & (x < self.slide.width) & (y >= 0) & (y < self.slide.height)]
        size = tile.size
        around = [
            self._reported[key]
            for dx in (-size, 0, size)
            for dy in (-size, 0, size)
            if (dx or dy) and (key := (tile.x + dx, tile.y + dy)) in self._reported
        ]
        others = Cells.concatenate(around).boxes
        if not len(others) or not len(own):
            return own
        new = np.array([iou_with(box, others).max() <= OVERLAP for box in own.boxes])
        return own[new]


def _found_by(model_id: str, case: Case) -> dict[tuple[int, int], Cells]:
    """Return, by tile, the present cells of a case that a model found."""
    found = case.detections()
    ends = np.cumsum(found.counts)
    return {
        (x, y): found.cells[end - n : end]
        for (x, y), n, end in zip(found.tiles.tolist(), found.counts.tolist(), ends.tolist(), strict=True)
        if n and found.model_ids[int(found.runs[end - n])] == model_id
    }
