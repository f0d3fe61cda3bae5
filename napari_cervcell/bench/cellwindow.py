"""A window with very many cells in it: ``python -m napari_cervcell.bench.cellwindow JOB``, a JSON object.

Started by `.windows`, one process for us and one for each of napari's own ways to show cells, with the same slide, the
same cells and the same hand.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import psutil

from ..slides import open_slide
from ..ui.app import dock
from ..ui.steadiness import keep_steady
from .cells import random_cells
from .figures import OURS
from .trace import Step, fit
from .window import Stage
from .windows import POINTS, SHAPES

__all__: list[str] = []

Values = dict[str, list[float]]

_POWERS = (1.0, 2.5, 5.0, 10.0, 40.0, 20.0)  # magnifications, beside the whole slide; at the last one the rest is done
_PANS = 4  # at each of them, and as many steps of the wheel
_MIB = 1 << 20
_LOOK = 0.12  # seconds in which what was done is drawn


class _Cells:
    """What a window is asked to do with cells, in one of the ways to show them."""

    def __init__(self, stage: Stage, job: dict[str, Any]) -> None:
        self.stage = stage
        self.n: int = job["cells"]
        with open_slide(stage.path) as slide:
            self.size, self.mpp = (slide.width, slide.height), slide.mpp or 0.25
        self.cells = random_cells(self.n, self.size)

    def open_slide(self) -> None:
        """Show the slide without any cell."""
        self.stage.open()

    def open_cells(self) -> None:
        """Show the cells too."""
        raise NotImplementedError

    def nbytes(self) -> int:
        """Return what the cells themselves take."""
        raise NotImplementedError

    def acts(self) -> dict[str, Iterator[Callable[[], object]]]:
        """Return, by figure, what a person does, one after the other."""
        raise NotImplementedError


class _Ours(_Cells):
    def open_slide(self) -> None:
        self.widget = dock(self.stage.viewer)
        keep_steady()  # as in a window of our own
        self.widget.desk.next_case_path = self.stage.path.with_name("no cells.cervcell")
        self.stage.open()

    def open_cells(self) -> None:
        self.stage.viewer.layers.clear()
        self.stage.open()  # with the case beside it

    def nbytes(self) -> int:
        rows = self.widget.desk.session.snapshot()
        return sum(a.nbytes for a in (rows.boxes, rows.labels, rows.scores, rows.class_scores, rows.states))

    def acts(self) -> dict[str, Iterator[Callable[[], object]]]:
        session, rng = self.widget.desk.session, np.random.default_rng(1)
        places = rng.uniform(0, 1, (200, 2)) * self.size

        def recolour() -> Iterator[Callable[[], object]]:
            for value in (0.55, 0.6, 0.65, 0.5):
                yield lambda value=value: setattr(session, "threshold", value)
            for shown in (False, True):
                yield lambda shown=shown: session.show_class(0, shown)

        def verdict() -> Iterator[Callable[[], object]]:
            in_view = self.widget.desk.view.rectangle()
            for row in session.visible(*in_view)[:5].tolist():
                yield lambda row=row: session.accept([row])
                yield lambda row=row: session.reject([row])
                yield lambda: session.add((in_view[0] + in_view[2]) / 2, (in_view[1] + in_view[3]) / 2)
                yield session.undo

        return {
            "recolour_ms": recolour(),
            "pick_ms": iter([lambda p=p: session.all_at(*p, 30.0) for p in places]),
            "verdict_ms": verdict(),
        }


class _Points(_Cells):
    def open_cells(self) -> None:
        boxes = self.cells.boxes
        self._colors = np.eye(6, 4)[self.cells.labels]
        self.layer = self.stage.viewer.add_points(
            self.cells.centres[:, ::-1], size=(boxes[:, 2] - boxes[:, 0]), symbol="square", face_color="transparent",
            border_color=self._colors, scale=(self.mpp, self.mpp), units=("um", "um"),
        )  # fmt: skip

    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.layer.data, self.layer.size, self.layer.border_color))

    def acts(self) -> dict[str, Iterator[Callable[[], object]]]:
        layer, rng = self.layer, np.random.default_rng(1)
        places = rng.uniform(0, 1, (10, 2)) * self.size * self.mpp
        return {
            "recolour_ms": iter([lambda: setattr(layer, "border_color", self._colors)] * 3),
            "pick_ms": iter([lambda p=p: layer.get_value(p[::-1], world=True) for p in places]),
            "verdict_ms": iter([lambda: layer.add(np.array([[1000.0, 1000.0]]))] * 3),
        }


class _Shapes(_Cells):
    def open_cells(self) -> None:
        x1, y1, x2, y2 = self.cells.boxes.T
        corners = np.stack(
            [np.stack([y1, x1], 1), np.stack([y1, x2], 1), np.stack([y2, x2], 1), np.stack([y2, x1], 1)], 1
        )
        self._colors = np.eye(6, 4)[self.cells.labels]
        self.layer = self.stage.viewer.add_shapes(
            corners, shape_type="rectangle", edge_width=4, edge_color=self._colors, face_color="transparent",
            scale=(self.mpp, self.mpp), units=("um", "um"),
        )  # fmt: skip

    def nbytes(self) -> int:
        return self.n * 64

    def acts(self) -> dict[str, Iterator[Callable[[], object]]]:
        layer, rng = self.layer, np.random.default_rng(1)
        places = rng.uniform(0, 1, (10, 2)) * self.size * self.mpp
        box = np.array([[900.0, 900.0], [900.0, 960.0], [960.0, 960.0], [960.0, 900.0]])
        return {
            "recolour_ms": iter([lambda: setattr(layer, "edge_color", self._colors)] * 3),
            "pick_ms": iter([lambda p=p: layer.get_value(p[::-1], world=True) for p in places]),
            "verdict_ms": iter([lambda: layer.add_rectangles([box])] * 3),
        }


_WAYS = {OURS: _Ours, POINTS: _Points, SHAPES: _Shapes}


def _looks(size: tuple[int, int], mpp: float) -> list[list[Step]]:
    """Return, for each magnification, small pans and steps of the wheel."""
    whole = fit(size)
    zooms = [whole.zoom, *(z for power in _POWERS if (z := power * mpp / 10) > whole.zoom)]
    looks = []
    for zoom in zooms:
        pans = [Step(size[0] / 2 + i * 60 / zoom, size[1] / 2 + i * 25 / zoom, zoom, 0) for i in range(_PANS)]
        wheel = [Step(size[0] / 2, size[1] / 2, zoom * 1.12**i, 0) for i in range(1, _PANS + 1)]
        looks.append(pans + wheel)
    return looks


def _walk(stage: Stage, looks: list[list[Step]]) -> list[list[float]]:
    """Pan and zoom; return, for each magnification, the ms that each step held the window.

    Twice, and the first time does not count: then the slide's tiles have been read, which is not what is measured.
    """
    stage.live(1.0)
    for _ in range(2):
        held = []
        for steps in looks:
            stage._move(steps[0])
            stage.live(0.3)
            held.append([_done(stage, partial(stage._move, step)) for step in steps[1:]])
    return held


def _done(stage: Stage, act: Callable[[], object]) -> float:
    """Do something; return the ms that it held the window, and then the longest time that drawing it did."""
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start + stage.live(_LOOK))


def _cells(stage: Stage, job: dict[str, Any]) -> Values:
    """Return what is measured of a window with cells, in ms, MiB and seconds."""
    way = _WAYS[job["way"]](stage, job)
    process = psutil.Process()
    looks = _looks(way.size, way.mpp)[: job.get("looks")]
    start, seen = time.perf_counter(), stage.pictures
    way.open_slide()
    stage.settle(start, seen)
    empty = _walk(stage, looks)
    before = process.memory_info().rss
    start, seen = time.perf_counter(), stage.pictures
    way.open_cells()
    stage.settle(start, seen)
    frames = [float(np.median(times)) for times in empty]
    values: Values = {"open_s": [time.perf_counter() - start], "empty_ms": frames}
    held = _walk(stage, looks)
    # above an empty frame: the same step on the same slide without cells
    pairs = [
        pair for with_cells, without in zip(held, empty, strict=True) for pair in zip(with_cells, without, strict=True)
    ]
    values["pan_ms"] = [max(0.0, t - e) for t, e in pairs]
    stage._move(looks[-1][0])
    stage.live(0.5)
    frame = frames[-1]
    for name, acts in way.acts().items():
        if name == "pick_ms":
            values[name] = []
            for act in acts:
                start = time.perf_counter()
                act()
                values[name].append(1000 * (time.perf_counter() - start))
        else:
            values[name] = [max(0.0, _done(stage, act) - frame) for act in acts]
    if isinstance(way, _Ours):
        values["gallery_ms"] = _gallery(stage, way)
    values["memory_mb"] = [(process.memory_info().rss - before - way.nbytes()) / _MIB]
    return values


def _gallery(stage: Stage, way: _Ours) -> list[float]:
    """Scroll through all cells; return the ms that each step held the window."""
    way.widget.commands.toggle_gallery()
    gallery = way.widget.gallery_panel.gallery
    end = time.perf_counter() + 30
    while not gallery.count and time.perf_counter() < end:
        stage.turn()
    stage.live(0.5)
    bar = gallery.verticalScrollBar()
    steps = [*np.linspace(0, bar.maximum(), 25), *(np.arange(25) * 60)]
    return [_done(stage, lambda value=value: bar.setValue(int(value))) for value in steps]


def main(job: dict[str, Any]) -> None:
    stage = Stage(job | {"peer": OURS, "size": [0, 0]})
    try:
        print(json.dumps(_cells(stage, job)), flush=True)
    finally:
        stage.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
