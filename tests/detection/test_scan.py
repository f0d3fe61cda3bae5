"""A real model over the real sample slide."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_cervcell.casefile import Case, open_case
from napari_cervcell.cells import Cells, GridIndex, iou_with
from napari_cervcell.detection import DetectionError, Progress, Scan, TileGrid, pick_device
from napari_cervcell.errors import CervcellError
from napari_cervcell.models import OVERLAP, Model, decode, predict, to_input
from napari_cervcell.slides import Slide, foreground, open_slide, sample_slide

Region = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def region(sample: Slide, shipped_model: Model) -> Region:
    """A part of four tiles around a corner of the grid: every kind of border lies between them."""
    size = TileGrid.of(sample.width, sample.height, sample.mpp_xy, shipped_model.mpp).size
    return (1.9 * size, 1.9 * size, 2.1 * size, 2.1 * size)


@pytest.fixture(scope="module")
def steps(sample: Slide, shipped_model: Model, region: Region) -> list[Progress]:
    return list(Scan(sample, shipped_model, region=region).run())


def test_a_scan_reports_every_tile_and_counts_up(steps: list[Progress]) -> None:
    assert [s.done for s in steps] == [1, 2, 3, 4]
    assert all(s.total == 4 for s in steps)
    assert steps[-1].found == sum(len(s.cells) for s in steps) > 10
    assert steps[-1].seconds_left == 0
    assert steps[-1].unreadable == 0


def test_a_cell_on_a_border_is_reported_once(steps: list[Progress]) -> None:
    cells = Cells.concatenate([s.cells for s in steps])
    for i, box in enumerate(cells.boxes):
        assert (iou_with(box, np.delete(cells.boxes, i, 0)) <= OVERLAP).all()


def test_no_cell_is_lost_at_a_border(steps: list[Progress], sample: Slide, shipped_model: Model) -> None:
    """What a model sees that looks at the border from its middle, the tiles see too."""
    size = steps[0].tile.size
    corner = 1.5 * size  # a square whose middle is the point where the four tiles meet
    image = sample.read_scaled(corner, corner, size, size, size / 512)
    with torch.inference_mode():
        found = decode(predict(shipped_model.network, to_input(image[None])), 0.6)[0].moved(corner, corner, size / 512)
    middle = np.abs(found.centres - 2 * size).min(1) < 60
    index = GridIndex(Cells.concatenate([s.cells for s in steps]).centres)
    assert middle.sum() > 0
    for x, y in found.centres[middle]:
        assert index.nearest(x, y, 24) is not None


def test_a_scan_is_the_same_every_time(
    steps: list[Progress], sample: Slide, shipped_model: Model, region: Region
) -> None:
    again = Cells.concatenate([s.cells for s in Scan(sample, shipped_model, region=region).run()])
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
    sample: Slide, shipped_model: Model, region: Region, tmp_path: Path
) -> None:
    with open_case(tmp_path / "a.cervcell", sample) as case:
        stop = threading.Event()
        scan = Scan(sample, shipped_model, region=region, case=case)
        for step in scan.run(stop):
            if step.done == 2:
                stop.set()
        assert case.runs()[-1].state == "cancelled"
        half = len(case.detections().cells)
        assert half == step.found
    with Case.open(tmp_path / "a.cervcell") as case:
        rest = list(Scan(sample, shipped_model, region=region, case=case).run())
        assert [s.done for s in rest] == [3, 4]
        whole = case.detections().cells
        assert len(whole) == half + rest[-1].found
        for i, box in enumerate(whole.boxes):
            assert (iou_with(box, np.delete(whole.boxes, i, 0)) <= OVERLAP).all()


def test_a_scan_that_was_killed_goes_on_and_ends_with_the_same_cells(
    steps: list[Progress], sample: Slide, shipped_model: Model, region: Region, tmp_path: Path
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
        rest = list(Scan(sample, shipped_model, region=region, case=case).run())
        assert rest[-1].done == 4
        assert len(rest) < 4
        detections = case.detections()
        found, ends = detections.cells, np.cumsum(detections.counts)
        saved_looks = np.concatenate(
            [
                case.looks(int(detections.runs[end - n]), x, y, detections.tile_size, n)
                for (x, y), n, end in zip(
                    detections.tiles.tolist(), detections.counts.tolist(), ends.tolist(), strict=True
                )
                if n
            ]
        )
    whole = Cells.concatenate([s.cells for s in steps])
    order, as_found = (np.lexsort(c.boxes.T) for c in (whole, found))
    np.testing.assert_array_equal(found.boxes[as_found], whole.boxes[order])
    np.testing.assert_array_equal(found.scores[as_found], whole.scores[order])
    looks = np.concatenate([step.looks for step in steps])
    assert looks.shape == (len(whole), 128)
    np.testing.assert_array_equal(saved_looks[as_found], looks[order])


def test_glass_is_skipped(sample: Slide, shipped_model: Model) -> None:
    whole = Scan(sample, shipped_model)
    smear = Scan(sample, shipped_model, foreground=foreground(sample))
    assert 0 < smear.total < whole.total


def test_a_slide_without_scale_is_refused(tmp_path: Path, shipped_model: Model) -> None:
    path = tmp_path / "no scale.tiff"
    tifffile.imwrite(path, np.full((600, 600, 3), 230, np.uint8), tile=(256, 256), photometric="rgb")
    with open_slide(path) as slide, pytest.raises(DetectionError, match=r"no scale\.tiff.*µm per pixel"):
        Scan(slide, shipped_model)


def test_unreadable_tiles_are_skipped_and_counted(tmp_path: Path, shipped_model: Model, region: Region) -> None:
    """The slide goes on where some of its pixels are lost."""
    data = bytearray(sample_slide().read_bytes())
    middle = (region[0] + region[2]) / 2  # where four tiles meet, in x as in y
    with tifffile.TiffFile(sample_slide()) as tiff:
        for page, downsample in zip(tiff.pages[:2], (1, 2), strict=True):
            index = int(middle / downsample) // 256
            number = index * -(-page.imagewidth // 256) + index
            offset, size = page.dataoffsets[number], page.databytecounts[number]
            data[offset : offset + size] = b"\x00" * size
    path = tmp_path / "damaged.tiff"
    path.write_bytes(bytes(data))
    with open_slide(path) as slide:
        last = list(Scan(slide, shipped_model, region=region).run())[-1]
    assert last.done == last.total
    assert last.unreadable == 4  # all four see it, in their core or in their halo


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DetectionError, match="no 'abacus' device"):
        pick_device("abacus")
    assert pick_device("cpu-torch") == "cpu-torch"
    assert pick_device("cpu").startswith("cpu-")


def test_cells_are_found_where_pixels_are_not_square(
    steps: list[Progress], sample: Slide, shipped_model: Model, tmp_path: Path
) -> None:
    """The same cells, scanned with lines twice as far apart as the pixels of one."""
    left, side = 1350, 1366  # amid what was scanned, and as large as four tiles of the other slide
    flat = sample.read_grid(left, left, side, side // 2, 1, 2)
    path = tmp_path / "flat.tiff"
    scale = {"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, flat, tile=(256, 256), photometric="rgb", metadata=None, **scale)
    with open_slide(path) as slide:
        assert slide.mpp_xy == pytest.approx((0.25, 0.5))
        found = Cells.concatenate([s.cells for s in Scan(slide, shipped_model).run()])
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
