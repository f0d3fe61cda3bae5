"""A window for the tests: on a virtual display where there is none, with settings and a data folder of its own."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from qtpy.QtGui import QCursor

from napari_cervcell.casefile import Case, open_case
from napari_cervcell.cells import Cells
from napari_cervcell.slides import open_slide, sample_slide
from napari_cervcell.ui.display import virtual_display

_own = ExitStack()
_folder = _own.enter_context(tempfile.TemporaryDirectory())
os.environ["NAPARI_CONFIG"] = str(Path(_folder) / "settings.yaml")  # napari reads it when it is imported
os.environ["XDG_RUNTIME_DIR"] = _folder
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    _own.enter_context(virtual_display(1600, 1000))


def pytest_unconfigure() -> None:
    _own.close()


@pytest.fixture
def slide_path(tmp_path: Path) -> Path:
    """The sample slide in a folder of its own, where a case file can lie beside it."""
    return Path(shutil.copy(sample_slide(), tmp_path / "slide.tiff"))


TILE = 4096.0


class Place(NamedTuple):
    x: int
    y: int
    size: int


class Scanned(NamedTuple):
    tile: Place
    cells: Cells


def lattice(columns: int = 8, rows: int = 5, pitch: float = 250.0) -> Cells:
    """Cells on a lattice around (1000, 1000), classes in turn, scores from 0.55 up."""
    row, column = np.divmod(np.arange(columns * rows), columns)
    x, y = 1000 + pitch * column, 1000 + pitch * row
    boxes = np.stack([x - 35, y - 35, x + 35, y + 35], 1)
    n = len(boxes)
    return Cells(boxes, np.arange(n) % 6, np.linspace(0.55, 0.95, n), np.full(n, 0.7))


@pytest.fixture
def case_path(slide_path: Path) -> Path:
    """A case beside the slide in which a model has found the cells of :func:`lattice`."""
    path = slide_path.with_name(slide_path.name + ".cervcell")
    with open_slide(slide_path) as slide, open_case(path, slide, reviewer="tester") as case:
        write_cells(case, lattice())
    return path


def write_cells(case: Case, cells: Cells, model_id: str = "abc", looks: np.ndarray | None = None) -> None:
    run = case.start_run(model_id, "a model", "slide")
    case.write_tile(run, 0, 0, int(TILE), cells, looks)
    case.finish_run(run, "done")


@pytest.fixture
def sit_down(make_napari_viewer: Callable, qtbot) -> Iterator[Callable]:
    """Return a function that docks the Review widget in a shown window, opens a slide, and returns its `Hands`."""
    from napari_cervcell.ui.app import dock, put_lists_away
    from napari_cervcell.ui.hands import Hands

    made: list[Hands] = []

    def begin(path: Path | None = None) -> Hands:
        gc.freeze()  # napari searches for garbage whenever a viewer closes, but not through all that was imported
        viewer = make_napari_viewer(show=True)
        viewer.window.resize(1050, 900)
        QCursor.setPos(0, 0)  # the display's own pointer shall lie over nothing
        hands = Hands(viewer, dock(viewer))
        put_lists_away(viewer)  # as in the window of our own
        made.append(hands)
        hands.rest(0.05)
        if path is not None:
            viewer.open(str(path), plugin="napari-cervcell")
            hands.rest(0.05)
            if hands.widget.desk.session is not None:
                hands.look_at((1000, 1000, 1750, 1500))
                viewer.scene.camera.zoom = 0.5 / viewer.layers[0].scale[0]
                hands.rest(0.15)
        return hands

    yield begin
    for hands in made:
        hands.__dict__.clear()  # pytest holds on to it for longer than napari's check for leaks allows


def said(hands: Any) -> list[int]:
    """Return the states of all cells of which something has been said."""
    return hands.widget.desk.case.annotations().states.tolist()


def picture(hands: Any) -> np.ndarray:
    """Return the canvas as int (h, w, 3)."""
    hands.rest(0.15)
    hands.wait_sharp()
    return hands.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def is_there(hands: Any, image: np.ndarray, place: tuple[float, float], color: str) -> bool:
    """Whether a line in `color` runs through a place on the slide, level-0 (x, y)."""
    x, y = (round(v) for v in hands.widget.desk.view.to_canvas(*place))
    around = image[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].reshape(-1, 3)
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return bool(len(around) and np.abs(around - wanted).max(axis=1).min() < 30)
