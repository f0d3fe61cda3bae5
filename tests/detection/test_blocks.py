"""Tiles that are looked at together: the same cells as one by one, whatever comes between."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import open_case
from napari_cervcell.cells import Cells
from napari_cervcell.detection import Progress, Scan, TileGrid
from napari_cervcell.detection.engines import TorchEngine
from napari_cervcell.detection.tiles import CORE
from napari_cervcell.models import Model
from napari_cervcell.models.heads import Dense
from napari_cervcell.slides import Slide, open_slide, sample_slide

from .same import EXACT, assert_each_once, assert_same_cells

Region = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def square(grid: TileGrid) -> Region:
    """Four tiles that are looked at together."""
    return (0.5 * grid.size, 0.5 * grid.size, 1.5 * grid.size, 1.5 * grid.size)


@pytest.fixture(scope="module")
def together(sample: Slide, quick_model: Model, square: Region) -> list[Progress]:
    scan = Scan(sample, quick_model, region=square, device=EXACT)
    assert [block.across for block in scan.blocks] == [2]
    return list(scan.run())


def test_tiles_looked_at_together_have_the_cells_that_each_has_alone(
    together: list[Progress], sample: Slide, quick_model: Model, square: Region, grid: TileGrid
) -> None:
    """Within 1 px of the network and 0.01 of score, but for those that two tiles see on their border."""
    alone = list(Scan(sample, quick_model, region=square, view=square, device=EXACT).run())
    ours, theirs = ({s.tile: s.cells for s in steps} for steps in (together, alone))
    assert ours.keys() == theirs.keys()
    step, _ = grid.steps
    for tile, cells in ours.items():
        from_middle = np.abs(cells.centres - (tile.x, tile.y) - tile.size / 2).max(1)
        middle = (cells.scores > 0.15) & (from_middle < 0.48 * tile.size)
        assert middle.sum() > 20
        for i in np.flatnonzero(middle):
            same = np.abs(theirs[tile].boxes - cells.boxes[i]).max(1) <= step
            assert same.sum() == 1
            assert np.abs(theirs[tile].scores[same] - cells.scores[i]).max() <= 0.01
    assert_each_once(Cells.concatenate(list(ours.values())))


def test_a_scan_goes_on_in_the_middle_of_tiles_looked_at_together(
    together: list[Progress], sample: Slide, quick_model: Model, square: Region, tmp_path: Path
) -> None:
    stop = threading.Event()
    with open_case(tmp_path / "a.cervcell", sample) as case:
        for step in Scan(sample, quick_model, region=square, case=case, device=EXACT).run(stop):
            if step.done == 3:
                stop.set()
        (last,) = Scan(sample, quick_model, region=square, case=case, device=EXACT).run()
        assert last.tile == together[-1].tile
        found = case.detections().cells
    whole = Cells.concatenate([s.cells for s in together])
    assert_same_cells(found, whole)


def test_where_pixels_are_lost_the_tiles_beside_them_are_looked_at(
    together: list[Progress], sample: Slide, quick_model: Model, square: Region, tmp_path: Path, scratch: Callable
) -> None:
    path = Path(shutil.copy(sample_slide(), tmp_path / "damaged.tiff"))
    size = together[0].tile.size
    scratch(path, 1.5 * size, 0.5 * size)
    with open_slide(path) as slide:
        steps = list(Scan(slide, quick_model, region=square).run())
    assert {(s.tile.x, s.tile.y): s.readable for s in steps} == {
        (0, 0): True,
        (size, 0): False,
        (0, size): True,
        (size, size): True,
    }
    assert all(len(s.cells) > 20 for s in steps if s.readable)


class SmallMemory(TorchEngine):
    """A device that has room for one tile, not for four together."""

    in_vain: weakref.ref[np.ndarray]

    def __call__(self, pixels: np.ndarray) -> Dense:
        if pixels.shape[1] > 2 * CORE:
            computed = np.zeros(1)
            SmallMemory.in_vain = weakref.ref(computed)
            raise MemoryError
        assert SmallMemory.in_vain() is None, "what was computed in vain still takes up the memory"
        return super().__call__(pixels)


def test_where_memory_is_short_tiles_are_looked_at_one_by_one(
    together: list[Progress], sample: Slide, quick_model: Model, square: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "napari_cervcell.detection.scan.make_engine", lambda model, device, *_: SmallMemory(model, device)
    )
    steps = list(Scan(sample, quick_model, region=square, device="cpu-torch").run())
    assert [s.tile for s in steps] == [s.tile for s in together]
    for ours, theirs in zip(steps, together, strict=True):
        assert len(ours.cells) == pytest.approx(len(theirs.cells), abs=2)
