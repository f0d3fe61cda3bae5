"""The command line as a person or a script uses it, with real processes where it matters."""

from __future__ import annotations

import contextlib
import copy
import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from _thread import interrupt_main
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cervcell.casefile import Case, open_case
from napari_cervcell.cli import main
from napari_cervcell.detection import pick_device
from napari_cervcell.errors import CervcellError
from napari_cervcell.learning.rounds import REPLAY
from napari_cervcell.models import ACCURATE_MODEL, load_model, save_model
from napari_cervcell.review.models import import_model
from napari_cervcell.slides import open_slide, sample_slide
from napari_cervcell.taxonomy import BETHESDA

COMMANDS = [
    "info",
    "detect",
    "review",
    "annotate",
    "train",
    "evaluate",
    "simulate",
    "export",
    "report",
    "import",
    "make-slide",
    "demo",
    "screenshots",
]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail with one clear line; return the line."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_a_worklist_without_slides_is_refused_before_a_window_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "monday.csv"
    table.write_text("name\nA.svs\n")
    assert "monday.csv has no column slide" in refused(capsys, "review", table)
    table.unlink()
    assert "There is no slide in" in refused(capsys, "review", tmp_path)
    assert "for one slide" in refused(capsys, "review", tmp_path, "--case", tmp_path / "a.cervcell")


def test_info_says_what_a_slide_is(capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(capsys, "info", sample_slide())
    assert answer["mpp"] == pytest.approx(0.25)
    assert answer["levels"][0]["downsample"] == 1  # type: ignore[index]
    assert {"format", "vendor", "width", "height", "levels", "mpp", "objective_power"} <= answer.keys()


@pytest.mark.usefixtures("few_earlier_fields")
def test_the_loop_without_a_window(quick_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Detect, annotate, train, detect with the new model, export, import."""
    case, slide = tmp_path / "a.cervcell", sample_slide()
    with open_slide(slide) as opened, open_case(case, opened) as made:
        made.use_round(import_model(made, quick_file))
    region = ["--region", 2000, 2000, 1000, 1000]
    found = run(capsys, "detect", slide, "--case", case, "--device", "cpu", *region)
    assert set(found["cells"]) == set(BETHESDA.names)  # type: ignore[call-overload]
    assert found["tiles"] > 0

    run(capsys, "export", case, "--format", "csv", "--out", tmp_path / "cells.csv")
    rows = list(csv.DictReader((tmp_path / "cells.csv").open()))
    verdicts = [(r["x"], r["y"], r["class"]) for r in rows[:8]] + [(r["x"], r["y"], "reject") for r in rows[8:12]]
    with (tmp_path / "verdicts.csv").open("w", newline="") as f:
        csv.writer(f).writerows([("x", "y", "class"), *verdicts])
    summary = run(capsys, "annotate", case, "--from", tmp_path / "verdicts.csv", "--reviewer", "A. Reader")
    assert sum(v for v in summary.values() if isinstance(v, int)) >= 12

    new = tmp_path / "new.safetensors"
    trained = run(capsys, "train", case, "--out", new, "--seconds", 3)
    assert trained["state"] in ("promoted", "candidate")
    assert load_model(new).id != load_model().id

    again = run(capsys, "detect", slide, "--case", case, "--model", new, *region)
    assert again["model"] == load_model(new).name
    for fmt in ("geojson", "coco", "csv"):
        out = tmp_path / f"out.{fmt}"
        assert run(capsys, "export", case, "--format", fmt, "--out", out)["cells"]
        other = tmp_path / f"{fmt}.cervcell"
        with open_slide(slide) as opened:
            open_case(other, opened).close()
        assert run(capsys, "import", other, "--from", out)["cells"]


def test_evaluate_measures_the_shipped_model_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [p.name for p in sorted((REPLAY / "images").iterdir())[:3]]
    table = tmp_path / "split.csv"
    table.write_text("image,split\n" + "\n".join(f"{n},mine" for n in names))
    answer = run(capsys, "evaluate", "--data", REPLAY, "--split", table, "mine", "--device", "cpu")
    assert answer["device"] == pick_device("cpu")
    keys = {"ap", "f1", "precision", "recall", "threshold", "balanced_accuracy", "per_class", "n_images", "n_cells"}
    assert keys <= answer.keys()
    assert answer["n_images"] == 3
    assert set(answer["per_class"]["NILM"]) == {"ap", "recall", "n"}  # type: ignore[index]


def test_plain_output_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(sample_slide())]) == 0
    out = capsys.readouterr().out
    assert "mpp: 0.25" in out
    assert "{" not in out


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "letter.svs"
    text.write_text("not a slide")
    case = tmp_path / "c.cervcell"
    cut = tmp_path / "cut.safetensors"
    save_model(load_model(), cut)
    cut.write_bytes(cut.read_bytes()[:1000])
    assert "nowhere.svs" in refused(capsys, "info", tmp_path / "nowhere.svs")
    assert "letter.svs" in refused(capsys, "info", text)
    assert "letter.svs" in refused(capsys, "review", text)
    assert "letter.svs" in refused(capsys, "detect", text, "--case", case)
    assert "cut.safetensors" in refused(capsys, "detect", sample_slide(), "--case", case, "--model", cut)
    assert "above 0" in refused(capsys, "detect", sample_slide(), "--case", case, "--region", 0, 0, 0, 5)
    assert "no.cervcell" in refused(
        capsys, "export", tmp_path / "no.cervcell", "--format", "csv", "--out", tmp_path / "x"
    )
    assert "no.cervcell" in refused(capsys, "train", tmp_path / "no.cervcell", "--out", tmp_path / "m")
    assert "images/" in refused(capsys, "evaluate", "--data", tmp_path)
    assert "gone.csv" in refused(capsys, "annotate", case, "--from", tmp_path / "gone.csv")


def test_what_is_made_never_takes_the_place_of_a_case_or_a_slide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, slide = tmp_path / "a.cervcell", Path(shutil.copy(sample_slide(), tmp_path / "s.tiff"))
    run(capsys, "detect", slide, "--case", case, "--region", 0, 0, 10, 10)
    before = [path.read_bytes() for path in (case, slide)]
    for path in (case, slide):
        assert str(path) in refused(capsys, "export", case, "--format", "csv", "--out", path)
        assert str(path) in refused(capsys, "report", case, "--out", path)
        assert str(path) in refused(capsys, "train", case, "--out", path)
    assert [path.read_bytes() for path in (case, slide)] == before
    for _ in range(2):  # an export of before may be replaced
        run(capsys, "export", case, "--format", "csv", "--out", tmp_path / "cells.csv")
    assert ".json" in refused(capsys, "train", case, "--out", tmp_path / "round.json")
    assert "no folder" in refused(capsys, "train", case, "--out", tmp_path / "gone" / "m.safetensors")


def test_a_detection_that_is_refused_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide, case = sample_slide(), tmp_path / "a.cervcell"
    assert "outside" in refused(capsys, "detect", slide, "--case", case, "--region", 1_000_000, 0, 10, 10)
    assert "four numbers" in refused(capsys, "detect", slide, "--case", case, "--region", "nan", 0, 10, 10)
    assert "2.5 µm" in refused(capsys, "detect", slide, "--case", case, "--mpp", 2.5)
    assert "m.safetensors" in refused(capsys, "detect", slide, "--case", case, "--model", tmp_path / "m.safetensors")
    missing = tmp_path / ACCURATE_MODEL.name  # whatever its name, it is not the one that ships
    assert f"no model file {missing}" in refused(capsys, "detect", slide, "--case", case, "--model", missing)
    assert "ensemble" in refused(capsys, "detect", slide, "--case", case, "--model", "accurate", "--mpp", 2.5)
    assert not case.exists()
    run(capsys, "detect", slide, "--case", case, "--region", 0, 0, 10, 10)
    assert "2.5 µm" in refused(capsys, "detect", slide, "--case", case, "--mpp", 2.5)
    run(capsys, "detect", slide, "--case", case, "--region", 0, 0, 10, 10)  # at the µm per pixel that it had
    assert str(slide) in refused(capsys, "detect", slide, "--cases", slide)


def test_what_is_stopped_says_so_and_is_kept(
    quick_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "a.cervcell"
    # what a script runs in the background is deaf to it
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        """Press Ctrl+C once the first tile is there."""
        tiles = 0
        while not tiles:
            time.sleep(0.01)
            with contextlib.suppress(CervcellError), Case.open(path) as case:
                tiles = len(case.detections().tiles)
        interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    coarse = ["--mpp", "0.8"]  # so there are many tiles, and time to press it
    assert main(["detect", str(sample_slide()), "--case", str(path), "--model", str(quick_file), *coarse]) == 130
    assert capsys.readouterr().err == "cervcell: stopped; what was done so far is kept\n"
    with Case.open(path) as case:
        assert case.runs()[-1].state == "cancelled"
        assert len(case.detections()) > 0


def test_a_model_of_another_taxonomy_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model()
    model.card = copy.deepcopy(model.card)
    model.card["taxonomy"]["classes"][0]["name"] = "Platelet"
    save_model(model, tmp_path / "blood.safetensors")
    line = refused(
        capsys, "detect", sample_slide(), "--case", tmp_path / "a.cervcell", "--model", tmp_path / "blood.safetensors"
    )
    assert "blood.safetensors" in line
    assert "Platelet" in line
    assert "NILM" in line


def test_the_case_of_another_slide_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.tiff"
    tifffile.imwrite(
        other,
        np.full((600, 600, 3), 230, np.uint8),
        tile=(256, 256),
        photometric="rgb",
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    case = tmp_path / "a.cervcell"
    run(capsys, "detect", other, "--case", case)
    line = refused(capsys, "detect", sample_slide(), "--case", case)
    assert "other.tiff" in line
    assert "cric_sample.tiff" in line


def test_the_case_of_a_newer_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = tmp_path / "new.cervcell"
    run(capsys, "detect", sample_slide(), "--case", case, "--region", 0, 0, 10, 10)
    with contextlib.closing(sqlite3.connect(case)) as connection:
        connection.execute("PRAGMA user_version = 999")
    line = refused(capsys, "export", case, "--format", "csv", "--out", tmp_path / "x.csv")
    assert "new.cervcell" in line
    assert "newer" in line


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refused(capsys, "detect", sample_slide(), "--case", tmp_path / "file" / "a.cervcell")
    case = tmp_path / "a.cervcell"
    run(capsys, "detect", sample_slide(), "--case", case, "--region", 0, 0, 10, 10)
    assert "file" in refused(capsys, "export", case, "--format", "csv", "--out", tmp_path / "file" / "x.csv")


def test_a_slide_without_scale_is_asked_about_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide, case = tmp_path / "no scale.tiff", tmp_path / "a.cervcell"
    tifffile.imwrite(slide, np.full((600, 600, 3), 230, np.uint8), tile=(256, 256), photometric="rgb")
    assert "--mpp" in refused(capsys, "detect", slide, "--case", case)
    run(capsys, "detect", slide, "--case", case, "--mpp", 0.25)
    answer = run(capsys, "detect", slide, "--case", case)
    assert answer["tiles"] == 0
    assert "empty glass" in str(answer["note"])


def test_the_installed_command_fails_with_a_status(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_cervcell.cli", "info", str(tmp_path / "no.svs")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
