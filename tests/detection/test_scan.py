"""A real model over the real sample slide."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_cervcell.casefile import Case, open_case
from napari_cervcell.cells import Cells, GridIndex
from napari_cervcell.detection import DetectionError, Progress, Scan, Tile, TileGrid, pick_device
from napari_cervcell.errors import CervcellError
from napari_cervcell.models import Model, decode, predict, to_input
from napari_cervcell.priority import THREADS_GIVE_WAY
from napari_cervcell.slides import Slide, foreground, open_slide, sample_slide

from .same import assert_each_once, assert_same_cells

Region = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def region(grid: TileGrid) -> Region:
    """A part of four tiles around a corner of the grid: every kind of border lies between them.

    They are of two blocks, so that each is looked at by itself.
    """
    size = grid.size
    return (1.9 * size, 0.9 * size, 2.1 * size, 1.1 * size)


@pytest.fixture(scope="module")
def last_tile(grid: TileGrid) -> Region:
    """The middle of that of these four which is looked at last, unless it is on screen."""
    size = grid.size
    return (2.4 * size, 1.4 * size, 2.6 * size, 1.6 * size)


@pytest.fixture(scope="module")
def steps(sample: Slide, quick_model: Model, region: Region) -> list[Progress]:
    return list(Scan(sample, quick_model, region=region).run())


def test_a_scan_reports_every_tile_and_counts_up(steps: list[Progress]) -> None:
    assert [s.done for s in steps] == [1, 2, 3, 4]
    assert all(s.total == 4 for s in steps)
    assert steps[-1].found == sum(len(s.cells) for s in steps) > 10
    assert steps[-1].seconds_left == 0
    assert steps[-1].unreadable == 0


def test_a_cell_on_a_border_is_reported_once(steps: list[Progress]) -> None:
    assert_each_once(Cells.concatenate([s.cells for s in steps]))


def test_no_cell_is_lost_at_a_border(steps: list[Progress], sample: Slide, quick_model: Model, grid: TileGrid) -> None:
    """What a model sees that looks at the border from its middle, the tiles see too."""
    size, (step, _) = grid.size, grid.steps
    corner = 1.5 * size, 0.5 * size  # a square whose middle is the point where the four tiles meet
    image = sample.read_scaled(*corner, size, size, step)
    with torch.inference_mode():
        found = decode(predict(quick_model.network, to_input(image[None])), 0.6)[0].moved(*corner, step)
    middle = np.abs(found.centres - (2 * size, size)).min(1) < 60
    index = GridIndex(Cells.concatenate([s.cells for s in steps]).centres)
    assert middle.sum() > 0
    for x, y in found.centres[middle]:
        assert index.nearest(x, y, 24) is not None


def test_a_scan_is_the_same_every_time(
    steps: list[Progress], sample: Slide, quick_model: Model, region: Region
) -> None:
    again = Cells.concatenate([s.cells for s in Scan(sample, quick_model, region=region).run()])
    before = Cells.concatenate([s.cells for s in steps])
    np.testing.assert_array_equal(again.boxes, before.boxes)
    np.testing.assert_array_equal(again.scores, before.scores)


def test_the_cells_lie_where_the_cytologists_saw_them(steps: list[Progress], sample_truth: Path) -> None:
    table = np.genfromtxt(sample_truth, delimiter=",", names=True, dtype=None, encoding="utf-8")
    x1, y1 = min(s.tile.x for s in steps), min(s.tile.y for s in steps)
    side = 2 * steps[0].tile.size
    inside = (table["x"] > x1) & (table["x"] < x1 + side) & (table["y"] > y1) & (table["y"] < y1 + side)
    cells = Cells.concatenate([s.cells for s in steps])
    index = GridIndex(cells[cells.scores > 0.3].centres)
    found = [index.nearest(x, y, 24) is not None for x, y in zip(table["x"][inside], table["y"][inside], strict=True)]
    assert len(found) > 5
    assert np.mean(found) > 0.75


def test_a_scan_lands_in_the_case_and_is_not_done_twice(
    sample: Slide, quick_model: Model, region: Region, tmp_path: Path
) -> None:
    with open_case(tmp_path / "a.cervcell", sample) as case:
        stop = threading.Event()
        scan = Scan(sample, quick_model, region=region, case=case)
        for step in scan.run(stop):
            if step.done == 2:
                stop.set()
        assert case.runs()[-1].state == "cancelled"
        half = len(case.detections().cells)
        assert half == step.found
    with Case.open(tmp_path / "a.cervcell") as case:
        rest = list(Scan(sample, quick_model, region=region, case=case).run())
        assert [s.done for s in rest] == [3, 4]
        whole = case.detections().cells
        assert len(whole) == half + rest[-1].found
        assert_each_once(whole)


@pytest.fixture(scope="module")
def next_model(quick_model: Model) -> Model:
    """What a round makes of a model: nearly the same."""
    model = copy.deepcopy(quick_model)
    with torch.no_grad():
        model.network.head.cell.bias += 0.05
    return model


@pytest.fixture
def scanned_case(steps: list[Progress], sample: Slide, quick_model: Model, tmp_path: Path) -> Iterator[Case]:
    """A case in which `quick_model` has looked at the region."""
    with open_case(tmp_path / "scanned.cervcell", sample) as case:
        run = case.start_run(quick_model.id, quick_model.name, "region")
        case.write_tiles(run, ((s.tile.x, s.tile.y, s.tile.size, s.cells) for s in steps))
        case.finish_run(run)
        yield case


def test_a_cell_on_the_border_of_what_another_model_scanned_is_there_once(
    scanned_case: Case, sample: Slide, next_model: Model, grid: TileGrid
) -> None:
    size = grid.size
    (step,) = Scan(sample, next_model, region=(2.2 * size, 0.2 * size, 2.8 * size, 0.8 * size), case=scanned_case).run()
    assert step.found > 100
    assert_each_once(scanned_case.detections().cells)


def test_a_model_that_looks_again_everywhere_finds_what_it_would_have_found_alone(
    scanned_case: Case, sample: Slide, next_model: Model, region: Region, last_tile: Region
) -> None:
    """What an earlier model found hides nothing for good, also where the scan is stopped and goes on later."""
    where = {"region": region, "view": last_tile}
    alone = Cells.concatenate([s.cells for s in Scan(sample, next_model, **where).run()])
    stop = threading.Event()
    for step in Scan(sample, next_model, **where, case=scanned_case).run(stop):
        if step.done == 2:
            stop.set()
    assert_each_once(scanned_case.detections().cells)
    rest = list(Scan(sample, next_model, **where, case=scanned_case).run())
    assert [s.done for s in rest] == [3, 4]
    found = scanned_case.detections().cells
    assert_same_cells(found, alone)


def test_a_scan_that_fails_leaves_no_cell_twice_beside_what_it_has_not_come_to(
    steps: list[Progress], sample: Slide, next_model: Model, region: Region, last_tile: Region, tmp_path: Path
) -> None:
    """And of each that stays what it looks like."""
    size = steps[0].tile.size
    with open_case(tmp_path / "a.cervcell", sample) as case:
        run = case.start_run("earlier", "earlier", "region")
        for s in steps:
            looks = np.repeat(s.cells.scores[:, None], 4, 1).astype(np.float16)  # to know each by
            case.write_tile(run, s.tile.x, s.tile.y, size, s.cells, looks)
        case.finish_run(run)
        again = Scan(sample, next_model, region=region, view=last_tile, case=case).run()
        next(again)
        again.close()
        detections = case.detections()
        assert_each_once(detections.cells)
        before = sum(len(s.cells) for s in steps[:-1])
        stands = 0
        for x, y, by, which in detections.by_tile():
            if by == run:
                cells = detections.cells[which]
                stands += len(cells)
                looks = case.looks(by, x, y, size, len(cells))
                np.testing.assert_array_equal(looks[:, 0], cells.scores.astype(np.float16))
        assert before - 40 < stands < before


@pytest.mark.parametrize("lost", ["first", "last"])
def test_what_stands_in_a_tile_that_cannot_be_read_is_not_found_again_beside_it(
    lost: str, scanned_case: Case, next_model: Model, region: Region, grid: TileGrid, tmp_path: Path, scratch: Callable
) -> None:
    path = Path(shutil.copy(sample_slide(), tmp_path / "damaged.tiff"))
    size = grid.size
    scratch(path, 1.5 * size, 0.5 * size)
    with open_slide(path) as slide:
        where = {"region": (*region[:2], region[2], 0.95 * size)}
        if lost == "last":
            where["view"] = (2.4 * size, 0.4 * size, 2.6 * size, 0.6 * size)
        steps = list(Scan(slide, next_model, **where, case=scanned_case).run())
    order = 1 if lost == "first" else -1
    assert [(s.tile.x, s.readable) for s in steps][::order] == [(size, False), (2 * size, True)]
    assert_each_once(scanned_case.detections().cells)


@pytest.mark.skipif(not THREADS_GIVE_WAY, reason="threads cannot give way here")
def test_a_scan_beside_a_window_gives_way_to_it(sample: Slide, quick_model: Model, region: Region) -> None:
    def niceness() -> dict[str, int]:
        return {t.name.split("_")[0]: os.getpriority(os.PRIO_PROCESS, t.native_id) for t in threading.enumerate()}

    before = os.getpriority(os.PRIO_PROCESS, 0)
    for _ in Scan(sample, quick_model, region=region, gives_way=True).run():
        now = niceness()
        assert now["cervcell-infer"] > before
        assert now["cervcell-read"] > before
        assert now["MainThread"] == before


def test_a_scan_that_was_killed_goes_on_and_ends_with_the_same_cells(
    steps: list[Progress], sample: Slide, quick_file: Path, quick_model: Model, region: Region, tmp_path: Path
) -> None:
    path = tmp_path / "a.cervcell"
    x1, y1, x2, y2 = region
    where = map(str, (x1, y1, x2 - x1, y2 - y1))
    command = [
        sys.executable,
        "-m",
        "napari_cervcell.cli",
        "detect",
        sample_slide(),
        "--case",
        path,
        "--model",
        quick_file,
        "--region",
        *where,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    saved = 0
    while not saved and process.poll() is None:
        time.sleep(0.02)
        if path.exists():
            with contextlib.suppress(CervcellError), Case.open(path) as case:
                saved = len(case.detections().tiles)
    process.kill()
    process.wait()
    with Case.open(path) as case:
        assert case.runs()[-1].state == "running"
        rest = list(Scan(sample, quick_model, region=region, case=case).run())
        assert rest[-1].done == 4
        assert len(rest) < 4
        detections = case.detections()
        found = detections.cells
        saved_looks = np.concatenate(
            [
                case.looks(run, x, y, detections.tile_size, n)
                for x, y, run, which in detections.by_tile()
                if (n := len(found[which]))
            ]
        )
    whole = Cells.concatenate([s.cells for s in steps])
    order, as_found = (np.lexsort(c.boxes.T) for c in (whole, found))
    np.testing.assert_array_equal(found.boxes[as_found], whole.boxes[order])
    np.testing.assert_array_equal(found.scores[as_found], whole.scores[order])
    looks = np.concatenate([step.looks for step in steps])
    assert looks.shape == (len(whole), 128)
    np.testing.assert_array_equal(saved_looks[as_found], looks[order])


def test_glass_is_skipped(sample: Slide, quick_model: Model) -> None:
    whole = Scan(sample, quick_model)
    smear = Scan(sample, quick_model, foreground=foreground(sample))
    assert 0 < smear.total < whole.total


def test_a_slide_without_scale_is_refused(tmp_path: Path, quick_model: Model) -> None:
    path = tmp_path / "no scale.tiff"
    tifffile.imwrite(path, np.full((600, 600, 3), 230, np.uint8), tile=(256, 256), photometric="rgb")
    with open_slide(path) as slide, pytest.raises(DetectionError, match=r"no scale\.tiff.*µm per pixel"):
        Scan(slide, quick_model)


def test_unreadable_tiles_are_skipped_counted_and_tried_again(
    steps: list[Progress], tmp_path: Path, quick_model: Model, region: Region, scratch: Callable
) -> None:
    """The scan goes on where some of the slide's pixels are lost, and looks there alone once they are back."""
    path = Path(shutil.copy(sample_slide(), tmp_path / "damaged.tiff"))
    size = steps[0].tile.size
    lost = Tile(2 * size, size, size)
    mend = scratch(path, 2.5 * size, 1.5 * size)  # in its middle: none of the others sees it in its halo
    with open_slide(path) as slide, open_case(tmp_path / "a.cervcell", slide) as case:
        first = list(Scan(slide, quick_model, region=region, case=case).run())
        assert [s.tile for s in first if not s.readable] == [lost]
        assert (first[-1].done, first[-1].unreadable) == (4, 1)
        assert case.runs()[-1].state == "done"
        assert len(case.detections().tiles) == 3

        assert [s.tile for s in Scan(slide, quick_model, region=region, case=case).run()] == [lost]
        mend()
        (last,) = Scan(slide, quick_model, region=region, case=case).run()
        assert last.readable
        found, whole = case.detections().cells, Cells.concatenate([s.cells for s in steps])
    near = GridIndex(found.centres)
    sure = whole.centres[whole.scores > 0.3]
    assert all(near.nearest(x, y, 8) is not None for x, y in sure)
    assert abs(len(found) - len(whole)) <= 2  # of two looks at a cell on a border the first counts


def test_a_full_disk_ends_a_scan_and_keeps_what_was_found(
    sample: Slide, quick_model: Model, region: Region, tmp_path: Path
) -> None:
    with open_case(tmp_path / "a.cervcell", sample) as case:
        steps = Scan(sample, quick_model, region=region, case=case).run()
        next(steps)
        with case._store.access() as connection:  # no room for another page from now on
            connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(CervcellError, match=r"disk is full"):
            list(steps)
        kept = len(case.detections().tiles)
        assert 1 <= kept < 4
        with case._store.access() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        assert len(list(Scan(sample, quick_model, region=region, case=case).run())) == 4 - kept
        assert len(case.detections().tiles) == 4


def test_a_slide_far_coarser_than_the_model_is_refused(tmp_path: Path, quick_model: Model) -> None:
    path = tmp_path / "overview.tiff"
    tifffile.imwrite(path, np.full((600, 600, 3), 230, np.uint8), tile=(256, 256), photometric="rgb")
    with open_slide(path, mpp=4.0) as slide, pytest.raises(DetectionError, match=r"overview\.tiff has 4 µm.*0\.8"):
        Scan(slide, quick_model)


def test_jpeg_decoded_small_has_the_same_cells(
    steps: list[Progress], sample: Slide, quick_model: Model, tmp_path: Path
) -> None:
    """As many, where they are, and as sure, as in the same pixels decoded whole and then made smaller."""
    side = steps[0].tile.size
    found = []
    pixels = sample.read_region(side // 2, side // 2, side // 2, side // 2)
    for compression in ("jpeg", "zlib"):
        path = tmp_path / f"{compression}.tiff"
        tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression=compression)
        with open_slide(path, mpp=0.25) as slide:
            found.append(Cells.concatenate([s.cells for s in Scan(slide, quick_model).run()]))
            pixels = slide.read_region(0, 0, slide.width, slide.height)  # what JPEG has left of them
    small, whole = found
    index = GridIndex(whole.centres)
    sure = small[small.scores > 0.3]
    near = [index.nearest(x, y, 8) for x, y in sure.centres]
    assert len(sure) > 50
    assert sum(i is None for i in near) <= 0.02 * len(sure)
    differences = [abs(whole.scores[i] - score) for i, score in zip(near, sure.scores, strict=True) if i is not None]
    assert np.mean(differences) < 0.03
    assert abs(len(sure) - (whole.scores > 0.3).sum()) <= 0.05 * len(sure)


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_the_same_cells_are_found_at_another_scale(
    steps: list[Progress], sample: Slide, quick_model: Model, tmp_path: Path, factor: float
) -> None:
    """A slide of twice as many pixels, and one of about half as many, none of which has the model's µm per px."""
    left, side = 2000, 2400
    pixels = sample.read_grid(left, left, round(side / factor), round(side / factor), factor, factor)
    path = tmp_path / "scaled.tiff"
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb")
    with open_slide(path, mpp=0.25 * factor) as slide:
        found = Cells.concatenate([s.cells for s in Scan(slide, quick_model).run()])
    index = GridIndex(found[found.scores > 0.3].moved(left, left, factor).centres)
    whole = Cells.concatenate([s.cells for s in steps])
    inside = ((whole.centres > left + 64) & (whole.centres < left + side - 64)).all(1)
    certain = whole[(whole.scores > 0.6) & inside]
    assert len(certain) > 5
    assert np.mean([index.nearest(x, y, 12) is not None for x, y in certain.centres]) > 0.9


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DetectionError, match="no 'abacus' device"):
        pick_device("abacus")
    assert pick_device("cpu-torch") == "cpu-torch"
    assert pick_device("cpu").startswith("cpu-")


def test_cells_are_found_where_pixels_are_not_square(
    steps: list[Progress], sample: Slide, quick_model: Model, tmp_path: Path
) -> None:
    """The same cells, scanned with lines twice as far apart as the pixels of one."""
    left, side = 2000, 2400  # amid what was scanned
    flat = sample.read_grid(left, left, side, side // 2, 1, 2)
    path = tmp_path / "flat.tiff"
    scale = {"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, flat, tile=(256, 256), photometric="rgb", metadata=None, **scale)
    with open_slide(path) as slide:
        assert slide.mpp_xy == pytest.approx((0.25, 0.5))
        found = Cells.concatenate([s.cells for s in Scan(slide, quick_model).run()])
    back = found.moved(left, left, (1, 2))
    index = GridIndex(back[back.scores > 0.3].centres)
    whole = Cells.concatenate([s.cells for s in steps])
    certain = whole[(whole.scores > 0.6) & ((whole.centres > left + 64) & (whole.centres < left + side - 64)).all(1)]
    assert len(certain) > 5
    near = [index.nearest(x, y, 16) for x, y in certain.centres]
    assert np.mean([i is not None for i in near]) > 0.85
    sizes = back[back.scores > 0.3].boxes
    shapes = np.array([sizes[i, 2:] - sizes[i, :2] for i in near if i is not None])
    assert np.median(shapes[:, 1] / shapes[:, 0]) == pytest.approx(1, abs=0.15)  # of a nucleus: it is round
