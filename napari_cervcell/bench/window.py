"""A window of its own for each measurement: ``python -m napari_cervcell.bench.window JOB``, a JSON object.

Started by `.windows`, one process a job, so that no peer inherits memory, caches or threads of another. Prints what was
measured as one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
import psutil
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QWidget

from ..slides import Slide, open_slide
from ..slides.readers import THREADS
from ..ui.app import put_lists_away
from ..ui.streaming import is_sharp, stream_of
from .figures import OURS
from .places import VIEW
from .slowness import Slowness
from .trace import Step, fit, panning, recorded_trace
from .windows import BLANK, NAPARI_WSI, STOCK

__all__: list[str] = []

Values = dict[str, list[float]]

_PATIENCE = 60.0  # seconds in which a slide becomes sharp, or never
_IDLE = 0.0005  # seconds: a turn of the event loop that is shorter found nothing to do
_QUIET = 3  # turns without a new picture after which none is on its way
_MIB = 1 << 20


class Stage:
    """A napari window with a slide opened the way of one of the peers."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.path = Path(job["slide"])
        self.size: tuple[int, int] = tuple(job["size"])
        self.peer: str = job["peer"]
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*VIEW)
        put_lists_away(self.viewer)  # as the window of our own has it, for all that are measured
        window = self.viewer.window._qt_window
        self._canvas = next(w for w in window.findChildren(QWidget) if type(w).__name__ == "CanvasBackendDesktop")
        self._canvas.frameSwapped.connect(self._shown)
        self.pictures = 0
        self._empty: int | None = None  # what is in the middle of the screen before there is a slide
        self._first = 0.0  # when that changed
        self.layer: Any = None
        self.live(1.0)

    def _shown(self) -> None:
        self.pictures += 1
        if self._empty is not None and not self._first and self._middle() != self._empty:
            self._first = time.perf_counter()

    def _middle(self) -> int:
        """Return the colour that a person sees in the middle of the canvas."""
        x, y = self._canvas.width() // 2, self._canvas.height() // 2
        screen = QApplication.primaryScreen()
        return int(screen.grabWindow(self._canvas.winId(), x, y, 1, 1).toImage().pixel(0, 0))

    def first_picture(self, act: Callable[[], object]) -> float:
        """Do what brings a slide into the empty window; return the seconds until something of it is on the screen."""
        self._empty, self._first = self._middle(), 0.0
        start = time.perf_counter()
        act()
        while not self._first:
            self.turn()
            if time.perf_counter() > start + _PATIENCE:
                raise TimeoutError(f"{self.peer} shows nothing of {self.path.name} within {_PATIENCE:.0f} s.")
        return self._first - start

    def turn(self) -> float:
        """Let the event loop do what is there to be done; return the seconds for which that held it."""
        start = time.perf_counter()
        QApplication.processEvents()
        held = time.perf_counter() - start
        if held < _IDLE:
            time.sleep(0.001)
        return held

    def live(self, seconds: float) -> float:
        """Let the window live for a while; return the longest time for which it was held."""
        end = time.perf_counter() + seconds
        longest = self.turn()
        while time.perf_counter() < end:
            longest = max(longest, self.turn())
        return longest

    def settle(self, start: float, seen: int | None = None) -> float:
        """Wait until the right picture is on screen; return the seconds from `start` until it appeared.

        `seen` is the number of pictures before `start`, where that is not now.
        """
        seen, last, quiet = self.pictures if seen is None else seen, start, 0
        while quiet < _QUIET or last == start:
            self.turn()
            quiet += 1
            if self.pictures != seen or not is_sharp(self.layer):
                seen, last, quiet = self.pictures, time.perf_counter(), 0
            if time.perf_counter() > start + _PATIENCE:
                raise TimeoutError(f"{self.peer} shows no picture of {self.path.name} within {_PATIENCE:.0f} s.")
        return last - start

    def open(self) -> None:
        """Open the slide as a user of this peer does, or a blank picture of the same size."""
        viewer = self.viewer
        if self.peer == OURS:
            (self.layer,) = viewer.open(str(self.path), plugin="napari-cervcell")
        elif self.peer == STOCK:
            self.layer = viewer.add_image(open_slide(self.path).pyramid(), rgb=True, multiscale=True)
        elif self.peer == NAPARI_WSI:
            from napari_wsi.reader import wsi_reader_openslide

            (data, settings, _), *_ = wsi_reader_openslide(str(self.path))(str(self.path))
            self.layer = viewer.add_image(data, **settings)
        elif self.peer == BLANK:
            side = 64
            scale = self.size[1] / side, self.size[0] / side
            self.layer = viewer.add_image(np.full((side, side, 3), 240, np.uint8), rgb=True, scale=scale)

    def go(self, step: Step) -> None:
        """Take the window somewhere, from within the event loop as a hand does."""
        QTimer.singleShot(0, partial(self._move, step))

    def _move(self, step: Step) -> None:
        unit = 1.0 if self.peer == BLANK else float(self.layer.scale[-1])
        camera = self.viewer.scene.camera
        camera.center = (step.y * unit, step.x * unit)
        camera.zoom = step.zoom / unit

    def overview(self) -> None:
        """Show the whole slide, and wait for it."""
        start = time.perf_counter()
        self.go(fit(self.size))
        self.settle(start)

    def close(self) -> None:
        self.viewer.close()


def _trace(stage: Stage, job: dict[str, Any]) -> Values:
    """Play the recorded trace; return the longest hold of each step in ms."""
    slowness = Slowness()
    slowness.begin()
    stage.open()
    stage.overview()
    slowness.seconds = job["delay"]
    held = []
    for step in recorded_trace(stage.size, job["place"])[: job.get("steps")]:
        stage.go(step)
        held.append(1000 * stage.live(step.seconds))
    slowness.seconds = 0.0
    return {"held_ms": held}


def _jumps(stage: Stage, job: dict[str, Any]) -> Values:
    """Jump from the whole slide to places at level 0; return ms until all tiles are there at their right level, until
    they are on the screen too, and ms that reading alone takes."""
    slowness = Slowness()
    slowness.begin()
    stage.open()
    slide = open_slide(stage.path)
    came: list[float] = []  # peers have no tile before all of them are drawn
    if (stream := stream_of(stage.layer.data)) is not None:
        stream.landed.connect(lambda: came.append(time.perf_counter()))
    sharp, shown, read = [], [], []
    for place in job["places"]:
        slowness.seconds = 0.0
        stage.overview()
        stage.live(0.2)
        slowness.seconds = job["delay"]
        came.clear()
        start = time.perf_counter()
        stage.go(Step(*place, 1.0, 0.0))
        shown.append(1000 * stage.settle(start))
        sharp.append(1000 * (came[-1] - start) if came else shown[-1])
        read.append(1000 * _reading_alone(slide, stage.layer))
    ratio = [s / r for s, r in zip(sharp, read, strict=True)]
    # the first jump also loads what later ones find loaded
    return {"sharp_ms": sharp[1:], "shown_ms": shown[1:], "read_ms": read[1:], "ratio": ratio[1:]}


def _reading_alone(slide: Slide, layer: Any) -> float:
    """Return the seconds it takes to read the tiles that a layer shows, with as many threads as the window has."""
    (top, left), (bottom, right) = layer.corner_pixels[:, :2].astype(int)
    side = slide.tile_size
    tiles = [
        (0, column, row)
        for row in range(max(0, top // side), min(-(-slide.height // side), bottom // side + 1))
        for column in range(max(0, left // side), min(-(-slide.width // side), right // side + 1))
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(time.sleep, [0.01] * THREADS))  # threads are there before the clock starts
        start = time.perf_counter()
        list(pool.map(lambda tile: slide.tile(*tile), tiles))
        return time.perf_counter() - start


def _open(stage: Stage, job: dict[str, Any]) -> Values:
    """Open the slide in an empty window twice; return ms until its first picture: first in the process, and again."""
    napari.utils.resize_dask_cache(0)  # the second opening shall find no chunks of the first
    first, sharp = [], []
    for _ in range(2):
        start, seen = time.perf_counter(), stage.pictures
        first.append(1000 * stage.first_picture(stage.open))
        sharp.append(1000 * stage.settle(start, seen))
        stage.viewer.layers.clear()
        stage.live(0.5)
    return {"first_in_process": first[:1], "open_ms": first[1:], "sharp_ms": sharp[1:]}


def _memory(stage: Stage, job: dict[str, Any]) -> Values:
    """Pan at level 0 for a while; return by how many MiB the process has grown, at the end and at most."""
    process = psutil.Process()
    empty = process.memory_info().rss
    stage.open()
    stage.overview()
    end = time.perf_counter() + job["seconds"]
    most = 0
    for step in panning(stage.size, job["place"]):
        stage.go(step)
        stage.live(step.seconds)
        most = max(most, process.memory_info().rss)
        if time.perf_counter() > end:
            break
    return {"rss_mb": [(process.memory_info().rss - empty) / _MIB], "most_mb": [(most - empty) / _MIB]}


_JOBS: dict[str, Callable[[Stage, dict[str, Any]], Values]] = {
    "trace": _trace,
    "jumps": _jumps,
    "open": _open,
    "memory": _memory,
}


def _main(job: dict[str, Any]) -> None:
    stage = Stage(job)
    try:
        print(json.dumps(_JOBS[job["kind"]](stage, job)), flush=True)
    finally:
        stage.close()


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
