"""The benchmarks measure what they say; how fast anything is depends on the machine and is not tested here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_cervcell.bench.cells import fill_case, random_cells
from napari_cervcell.bench.figures import OURS, figure
from napari_cervcell.bench.places import VIEW, places_with_cells
from napari_cervcell.bench.slowness import Slowness
from napari_cervcell.bench.trace import fit, recorded_trace
from napari_cervcell.bench.windows import STOCK, a_display, measure
from napari_cervcell.casefile import open_case
from napari_cervcell.cli import main
from napari_cervcell.detection import pick_device
from napari_cervcell.slides import foreground, open_slide, sample_slide
from napari_cervcell.slides import slide as slide_module
from napari_cervcell.slides.make import make_slide

SIZE = 3000, 2048


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_slide(tmp_path_factory.mktemp("bench") / "made.svs", *SIZE, noise=10, quality=90).slide


def test_reading_is_measured_beside_its_peers(slide_path: Path) -> None:
    """In a process of its own, as users have it: not all peers can live in one with Qt."""
    command = [sys.executable, "-m", "napari_cervcell.cli", "bench", "streaming", str(slide_path)]
    only = ["--only", "read_vs_decode", "scan_vs_decode", "--repeats", "1", "--json"]
    done = subprocess.run([*command, *only], capture_output=True, text=True, check=True, timeout=400)
    figures = json.loads(done.stdout)
    assert list(figures) == ["read_vs_decode", "scan_vs_decode"]
    views = figures["read_vs_decode"]
    assert 0 < views["value"] <= views["p95"] <= views["p99"] <= views["worst"]
    for said in figures.values():
        assert {"OpenSlide", "dask on OpenSlide"} <= set(said["peers"])
        assert all(peer["value"] > 0 for peer in said["peers"].values())


def test_detection_is_measured_beside_its_parts_and_peers(quick_file: Path) -> None:
    """In a process of its own: SAHI brings an OpenCV that brings a Qt."""
    command = [sys.executable, "-m", "napari_cervcell.cli", "bench", "detect", str(sample_slide())]
    options = ["--model", str(quick_file), "--tiles", "8", "--repeats", "1", "--json"]  # of one, chance decides
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=300)
    figures = json.loads(done.stdout)
    assert figures["pipeline_vs_limit"]["value"] > 0
    if pick_device() == "cpu-openvino":
        assert figures["cpu_vs_torch"]["value"] > 0
    assert 0 < figures["skipped"]["value"] < 1
    assert 0 <= figures["skipped"]["cells_lost"] < 0.1
    if importlib.util.find_spec("sahi"):
        assert figures["peer"]["value"] == figures["peer"]["peers"]["SAHI"]["value"] > 0
        assert figures["peer"]["peers"]["SAHI"]["same_cells"] > 0.8, "the same weights see the same slide"
    else:
        assert "peer" not in figures


def test_a_file_that_is_no_slide_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = tmp_path / "strips.tiff"
    Image.new("RGB", (600, 600)).save(flat)
    assert main(["bench", "streaming", str(flat), "--only", "read_vs_decode", "--repeats", "1"]) == 1
    assert "strips.tiff" in capsys.readouterr().err


def test_the_window_is_measured_with_settings_of_its_own(
    slide_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "settings.yaml"
    monkeypatch.setenv("NAPARI_CONFIG", str(mine))
    job = {"kind": "trace", "slide": str(slide_path), "size": SIZE, "place": [1500, 1000], "steps": 3, "delay": 0.05}
    with a_display():
        held = {peer: measure(job | {"peer": peer}, 10)["held_ms"] for peer in (OURS, STOCK)}
    assert all(len(steps) == 3 and min(steps) > 0 for steps in held.values())
    assert max(held[STOCK]) > 50, "stock napari waits for the disk"
    assert not mine.exists()


def test_a_slow_disk_gives_the_same_pixels_later(slide_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openslide

    monkeypatch.setattr(slide_module, "open_source", slide_module.open_source)
    monkeypatch.setattr(openslide.OpenSlide, "read_region", openslide.OpenSlide.read_region)
    with open_slide(slide_path) as slide:
        truth = slide.tile(0, 1, 1)
    slowness = Slowness()
    slowness.begin()
    with open_slide(slide_path) as slide, openslide.OpenSlide(slide_path) as peer:
        slowness.seconds = 0.2
        start = time.monotonic()
        np.testing.assert_array_equal(slide.tile(0, 1, 1), truth)
        between = time.monotonic()
        peer.read_region((0, 0), 0, (512, 512))
        assert between - start >= 0.2
        assert time.monotonic() - between >= 0.2


def test_places_have_cells_and_lie_in_the_slide(slide_path: Path) -> None:
    with open_slide(slide_path) as slide:
        places = places_with_cells(slide, 12)
        cells = foreground(slide)
    assert len(places) == 12
    for x, y in places:
        view = x - VIEW[0] / 2, y - VIEW[1] / 2, x + VIEW[0] / 2, y + VIEW[1] / 2
        assert view[0] >= 0
        assert view[1] >= 0
        assert view[2] <= SIZE[0]
        assert view[3] <= SIZE[1]
        assert cells.covers(*view)


@pytest.mark.parametrize("size", [SIZE, (100_000, 80_000)])
def test_the_trace_is_the_one_described(size: tuple[int, int]) -> None:
    steps = recorded_trace(size, (1000, 1000))
    zooms = [step.zoom for step in steps]
    assert zooms[:51] == [1.0] * 51, "a jump, 40 pans, 10 flings"
    assert min(zooms) <= fit(size).zoom
    assert zooms[-1] == 1.0
    assert all(0 <= step.x <= size[0] and 0 <= step.y <= size[1] for step in steps)


def test_a_figure_is_the_median_of_its_repeats() -> None:
    ours = [[1.0, 2.0, 30.0], [1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]
    said = figure({OURS: ours, "other": [[7.0], [9.0]]})
    assert said["value"] == 3
    assert said["worst"] == 6, "a hiccup in one repeat is not the slide's"
    assert said["worst_repeat"] == 30, "but it is told"
    assert said["peers"]["other"]["value"] == 8


def test_a_figure_that_there_is_not_is_refused(slide_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "streaming", str(slide_path), "--only", "speed"]) == 1
    assert "read_vs_decode" in capsys.readouterr().err


def test_the_window_with_many_cells_is_measured(slide_path: Path) -> None:
    with open_slide(slide_path) as slide, open_case(slide_path.with_name("made.svs.cervcell"), slide) as case:
        fill_case(case, random_cells(300, SIZE))
        assert len(case.detections().cells) == 300
    with a_display():
        values = measure({"way": OURS, "slide": str(slide_path), "cells": 300, "looks": 1}, 60, "cellwindow")
    assert {"pan_ms", "recolour_ms", "pick_ms", "verdict_ms", "memory_mb", "open_s", "gallery_ms"} <= set(values)
    assert len(values["verdict_ms"]) == 20
    assert all(ms > 0 for ms in values["pick_ms"] + values["gallery_ms"])
