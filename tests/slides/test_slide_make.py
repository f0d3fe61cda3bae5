"""Made slides as benchmarks and readers use them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.cli import main
from napari_cervcell.slides import SlideError, open_slide
from napari_cervcell.slides.make import Made, make_slide
from napari_cervcell.slides.smear import Smear, Stamp
from napari_cervcell.taxonomy import BETHESDA

WIDTH, HEIGHT = 4100, 3001  # no multiple of a tile
COMMAND = [sys.executable, "-m", "napari_cervcell.cli", "make-slide"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_slide(tmp_path_factory.mktemp("made") / "a.svs", WIDTH, HEIGHT, seed=5, noise=0)


def truth_of(made: Made) -> list[tuple[float, float, str]]:
    with made.truth.open(newline="") as file:
        return [(float(r["x"]), float(r["y"]), r["class"]) for r in csv.DictReader(file)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_readers_take_it_for_an_aperio_slide(made: Made) -> None:
    sizes = [(WIDTH // f, HEIGHT // f) for f in (1, 4, 16)]
    with open_slide(made.slide) as slide:
        assert slide.vendor == "aperio"
        assert [(v.width, v.height) for v in slide.levels] == sizes
        assert slide.mpp == pytest.approx(0.25)
        assert slide.objective_power == 40
    with openslide.OpenSlide(made.slide) as slide:
        assert set(slide.associated_images) == {"thumbnail"}
    with tifffile.TiffFile(made.slide) as tiff:
        assert tiff.is_bigtiff
        assert [v.shape[1::-1] for v in tiff.series[0].levels] == sizes
        assert {page.tile for page in tiff.series[0].levels[0].pages} == {(256, 256)}


def test_its_levels_show_the_same(made: Made) -> None:
    with open_slide(made.slide) as slide:
        fine = slide.read_region(0, 0, WIDTH, HEIGHT).astype(float)
        for level in (1, 2):
            step = 4**level
            h, w = HEIGHT // step, WIDTH // step
            mean = fine[: h * step, : w * step].reshape(h, step, w, step, 3).mean(axis=(1, 3))
            shown = slide.read_region(0, 0, w, h, level).astype(float)
            assert np.abs(shown - mean).mean() < 5
            for shifted in (np.roll(mean, 1, 0), np.roll(mean, 1, 1)):
                assert np.abs(shown - mean).mean() < 0.6 * np.abs(shown - shifted).mean()


def test_its_truth_lies_on_dark_nuclei_of_known_classes(made: Made) -> None:
    truth = truth_of(made)
    assert len(truth) == made.nuclei > 30
    assert {name for _, _, name in truth} <= set(BETHESDA.names)
    with open_slide(made.slide) as slide:
        pixels = slide.read_region(0, 0, WIDTH, HEIGHT).mean(axis=2)
    at_nuclei = np.array([pixels[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5].mean() for x, y, _ in truth])
    assert np.median(at_nuclei) < 130
    assert (at_nuclei < 190).mean() > 0.95
    assert np.median(pixels) > 230  # most of it is glass


def test_the_same_seed_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    again = make_slide(tmp_path / "again.svs", WIDTH, HEIGHT, seed=5, noise=0)
    other = make_slide(tmp_path / "other.svs", 2048, 2048, seed=6)
    same = make_slide(tmp_path / "same.svs", 2048, 2048, seed=6)
    assert digest(again.slide) == digest(made.slide)
    assert digest(again.truth) == digest(made.truth)
    assert digest(other.slide) == digest(same.slide)  # with noise, too
    assert truth_of(other) != [p for p in truth_of(made) if p[0] < 2048 and p[1] < 2048]


def test_it_can_be_smooth_or_of_high_entropy(made: Made, tmp_path: Path) -> None:
    rough = make_slide(tmp_path / "rough.svs", 2048, 2048, noise=10, quality=90)
    assert made.bytes_per_pixel < 0.15
    assert rough.bytes_per_pixel >= 0.3


def test_density_counts_nuclei_per_square_millimetre(tmp_path: Path) -> None:
    empty = make_slide(tmp_path / "empty.svs", 2048, 2048, density=0, noise=0)
    assert empty.nuclei == 0
    with open_slide(empty.slide) as slide:
        assert np.ptp(slide.read_region(0, 0, 2048, 2048), axis=(0, 1)).max() == 0
    stamp = Stamp(np.zeros((40, 60), np.uint32), ((30.0, 20.0, "NILM"), (10.0, 10.0, "LSIL")))
    smear = Smear(20_000, 20_000, density=100, rng=np.random.default_rng(0), stamps=[stamp])
    assert len(smear.truth()) == pytest.approx(100 * 25, rel=0.1)


@given(st.integers(0, 2**32 - 1), st.integers(100, 400), st.integers(100, 400), st.integers(40, 200))
def test_any_cut_through_a_smear_shows_its_nuclei_where_the_truth_says(
    seed: int, width: int, height: int, side: int
) -> None:
    density = np.zeros((50, 70), np.uint32)
    density[12, 40] = 9  # the only dark pixel is the nucleus
    stamp = Stamp(density, ((40.5, 12.5, "NILM"),))
    smear = Smear(width, height, density=4000, rng=np.random.default_rng(seed), stamps=[stamp])
    whole = np.zeros((height + side, width + side), int)
    for (column, row), places in smear.squares(side).items():
        canvas = np.zeros((side, side, 4), np.uint8)
        smear.paint(canvas, column * side, row * side, places)
        whole[row * side : (row + 1) * side, column * side : (column + 1) * side] = canvas[..., 0]
    expected = np.zeros_like(whole)
    for x, y, _ in smear.truth():
        expected[int(y), int(x)] = min(255, expected[int(y), int(x)] + 9)
    assert (whole == expected).all()


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("a.svs", {"width": 100}, "width"),
        ("a.svs", {"height": 10**7}, "height"),
        ("a.svs", {"density": -1}, "density"),
        ("a.svs", {"noise": float("nan")}, "noise"),
        ("a.svs", {"quality": 0}, "quality"),
        ("a.svs", {"seed": -1}, "seed"),
        ("a.png", {}, "a.png"),
        ("no folder/a.svs", {}, "no folder"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path: Path, name: str, options: dict, word: str) -> None:
    with pytest.raises(SlideError, match=word):
        make_slide(tmp_path / name, **{"width": 2048, "height": 2048} | options)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    known = tmp_path / "a.csv"
    known.write_text("mine")
    with pytest.raises(SlideError, match=r"a\.csv"):
        make_slide(tmp_path / "a.svs", 2048, 2048)
    assert known.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [known]


def test_the_command_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ein Präparat.svs"
    assert main(["make-slide", str(out), "--size", "2048", "2304", "--seed", "3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["slide"] == str(out)
    assert answer["nuclei"] == len(Path(answer["truth"]).read_text().splitlines()) - 1
    assert answer["bytes_per_pixel"] == pytest.approx(out.stat().st_size / 2048 / 2304, abs=1e-4)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")
def test_a_full_disk_gives_one_line_and_no_file(tmp_path: Path) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
        "from napari_cervcell.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", limited, "make-slide", str(tmp_path / "a.svs"), "--size", "4096", "4096"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "full" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")
def test_an_interrupt_leaves_no_half_file(tmp_path: Path) -> None:
    command = [*COMMAND, str(tmp_path / "a.svs"), "--size", "100000", "100000"]
    # whoever runs the tests in the background may have made them, and their children, deaf to it
    hears = {} if os.name == "nt" else {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **hears)
    part = tmp_path / "a.svs.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size > 100_000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "no slide was made" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
