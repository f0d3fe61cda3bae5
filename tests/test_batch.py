"""Many slides: in one process, and on workers that are processes of their own, spoken to over TCP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_cervcell import cli, detection
from napari_cervcell.batch import BatchError, Job, Outcome, detect_many, detect_one
from napari_cervcell.casefile import Case, open_case
from napari_cervcell.detection import DetectionError
from napari_cervcell.models import ACCURATE_MODEL, ModelError, load_model
from napari_cervcell.slides import Slide, open_slide, sample_slide

REGION = (2100.0, 2100.0, 2300.0, 2300.0)  # one tile


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    """Two slides, and a file that is none."""
    paths = [tmp_path / "a.tiff", tmp_path / "b.tiff", tmp_path / "letter.tiff"]
    for path in paths[:2]:
        shutil.copy(sample_slide(), path)
    paths[2].write_text("not a slide")
    return paths


def jobs_of(slides: list[Path], folder: Path, model: Path | None = None) -> list[Job]:
    folder.mkdir()
    return [Job(slide, folder / f"{slide.name}.cervcell", model, region=REGION) for slide in slides]


def test_a_cluster_finds_what_one_process_finds(slides: list[Path], quick_file: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    if sys.platform == "linux":  # elsewhere no file can have such a name
        slides[1] = slides[1].rename(os.fsdecode(bytes(slides[1].with_name("b")) + b"\xfc.tiff"))
    told: set[tuple[str, int, int]] = set()
    ended: list[Outcome] = []

    def tell(job: Job, done: int, total: int, found: int, left: float) -> None:
        told.add((job.slide.name, done, total))

    alone = detect_many(jobs_of(slides, tmp_path / "alone", quick_file), tell, ended=ended.append)
    told.clear()
    ended.clear()
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, protocol="tcp", dashboard_address=None
    ) as cluster:
        assert cluster.scheduler_address.startswith("tcp://")
        far = detect_many(
            jobs_of(slides, tmp_path / "far", quick_file), tell, scheduler=cluster.scheduler_address, ended=ended.append
        )
    assert told == {(slide.name, 1, 1) for slide in slides[:2]}
    assert len(ended) == 3
    for a, b in zip(alone, far, strict=True):
        assert a.job.slide == b.job.slide
        if a.answer is None:
            assert "letter.tiff" in a.error
            assert b.error == a.error
            continue
        assert b.answer is not None
        assert (b.answer["cells"], b.answer["tiles"]) == (a.answer["cells"], 1)
        with Case.open(a.job.case) as one, Case.open(b.job.case) as other:
            np.testing.assert_array_equal(one.detections().cells.boxes, other.detections().cells.boxes)
            np.testing.assert_array_equal(one.detections().cells.scores, other.detections().cells.scores)
            assert len(one.detections()) > 5


def test_a_worker_that_is_killed_loses_nothing(slides: list[Path], quick_file: Path, tmp_path: Path) -> None:
    """Another takes the slide and goes on from what is in its case file."""
    distributed = pytest.importorskip("distributed")
    job = Job(slides[0], tmp_path / "a.cervcell", quick_file, region=(3500.0, 3500.0, 3700.0, 3700.0))  # four tiles
    told: list[int] = []
    killed: list[int] = []

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, protocol="tcp", dashboard_address=None
    ) as cluster, distributed.Client(cluster) as client:  # fmt: skip
        processes = client.run(os.getpid)

        def tell(_job: Job, done: int, total: int, found: int, left: float) -> None:
            told.append(done)
            if not killed:
                (worker,) = (address for address, tasks in client.processing().items() if tasks)
                killed.append(processes[worker])
                os.kill(killed[0], signal.SIGKILL)

        (outcome,) = detect_many([job], tell, scheduler=cluster.scheduler_address, ended=lambda _: None)
    assert killed
    assert outcome.answer is not None, outcome.error
    assert outcome.answer["tiles"] == told[-1] == 4
    with Case.open(job.case) as case:
        assert [run.state for run in case.runs()] == ["running", "done"]
        assert len(case.detections().tiles) == 4


def test_cells_of_another_scale_do_not_count_and_the_case_remembers_the_new_one(
    slides: list[Path], quick_file: Path, tmp_path: Path
) -> None:
    """A slide that says 0.25 µm per px is taken at 0.125, which is wrong: then half as many tiles meet the region."""

    def detected(case: Path, mpp: float | None) -> tuple[float | None, list[list[float]]]:
        job = Job(slides[0], case, quick_file, region=(3500.0, 100.0, 3700.0, 300.0), mpp=mpp)
        (outcome,) = detect_many([job], lambda *_: None, ended=lambda _: None)
        assert outcome.answer is not None, outcome.error
        with Case.open(case) as opened:
            return opened.mpp, sorted(opened.detections().cells.boxes.tolist())

    mpp, right = detected(tmp_path / "right.cervcell", None)
    assert mpp == 0.25
    corrected = tmp_path / "corrected.cervcell"
    assert detected(corrected, 0.125)[0] == 0.125
    mpp, wrong = detected(corrected, None)
    assert (mpp, wrong == right) == (0.125, False)  # said once is enough
    assert detected(corrected, 0.25) == (0.25, right)
    assert detected(corrected, 0.125) == (0.125, wrong)


def test_slides_that_fail_are_listed_and_the_others_done(
    slides: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", *map(str, slides[1:]), "--cases", str(tmp_path / "cases"), "--json"]
    assert cli.main([*command, "--region", "2100", "2100", "200", "200"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [Path(f["slide"]).name for f in answer["failed"]] == ["letter.tiff"]
    assert "letter.tiff" in answer["failed"][0]["error"]
    assert [Path(s["slide"]).name for s in answer["slides"]] == ["b.tiff"]
    assert (tmp_path / "cases" / "b.tiff.cervcell").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_refused_job_leaves_the_case_that_somebody_has_begun_meanwhile(
    slides: list[Path], sample: Slide, tmp_path: Path
) -> None:
    path, model = tmp_path / "a.cervcell", tmp_path / "m.safetensors"
    os.mkfifo(model)

    def begin() -> None:
        with model.open("wb") as file, open_case(path, sample, "Ada") as case:  # as soon as the model is asked for
            case.set_notes("three cells seen")
            file.write(b"not a model")

    other = threading.Thread(target=begin)
    other.start()
    with pytest.raises(ModelError, match="not a whole model file"):
        detect_one(Job(slides[0], path, model), lambda *_: None)
    other.join()
    with Case.open(path) as case:
        assert case.notes == "three cells seen"


@pytest.mark.parametrize("model", [None, Path("accurate")])
def test_a_refused_job_changes_nothing_in_a_case(model: Path | None, tmp_path: Path) -> None:
    path, case_path = tmp_path / "no scale.tiff", tmp_path / "a.cervcell"
    tifffile.imwrite(path, np.full((600, 600, 3), 230, np.uint8), tile=(256, 256), photometric="rgb")
    with open_slide(path) as slide:
        open_case(case_path, slide).close()
    with pytest.raises(DetectionError, match="too coarse"):
        detect_one(Job(path, case_path, model, mpp=3.0), lambda *_: None)
    with Case.open(case_path) as case:
        assert case.mpp is None
        assert case.active_round is None
        assert not case.rounds()
        assert not case.runs()


def test_what_nobody_foresaw_ends_one_slide_alone(
    slides: list[Path], quick_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that is said to be there, by a torch that cannot use it."""

    def to(*_: object) -> torch.nn.Module:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.nn.Module, "to", to)
    jobs = jobs_of(slides[:2], tmp_path / "cases", quick_file)
    jobs = [replace(job, device=device) for job, device in zip(jobs, ("cuda", "cpu"), strict=True)]
    first, second = detect_many(jobs, lambda *_: None, ended=lambda _: None)
    assert first.error == "AssertionError: Torch not compiled with CUDA enabled"
    assert second.answer is not None
    with Case.open(jobs[0].case) as case:
        assert [run.state for run in case.runs()] == ["failed", "failed"]  # it was tried once more


@pytest.mark.engine
def test_the_accurate_model_once_asked_for_is_the_one_in_use(slides: list[Path], tmp_path: Path) -> None:
    region = [str(v) for v in (2100, 2100, 100, 100)]
    path = tmp_path / "a.cervcell"
    for _ in range(2):  # it is not kept twice
        assert (
            cli.main(["detect", str(slides[0]), "--case", str(path), "--model", "accurate", "--region", *region]) == 0
        )
    with Case.open(path) as case:
        (round_,) = case.rounds()
        assert case.active_round == round_.id
        assert case.active_model()[0] == case.runs()[-1].model_id == load_model(ACCURATE_MODEL).id


def test_two_slides_never_share_a_case(slides: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["detect", str(slides[0]), str(slides[0])]) == 1
    assert "share a case file" in capsys.readouterr().err
    assert cli.main(["detect", *map(str, slides), "--case", "x.cervcell"]) == 1
    assert "--cases" in capsys.readouterr().err


def test_a_scheduler_that_is_not_there_is_named(slides: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(BatchError, match=r"tcp://127\.0\.0\.1:9.*--workers"):
        detect_many(
            jobs_of(slides, tmp_path / "x"), lambda *_: None, scheduler="tcp://127.0.0.1:9", ended=lambda _: None
        )


def test_a_scheduler_that_wants_certificates_is_explained(slides: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(BatchError, match=r"tls://127\.0\.0\.1:9 wants TLS.*certificates.*cluster\.md"):
        detect_many(
            jobs_of(slides, tmp_path / "x"), lambda *_: None, scheduler="tls://127.0.0.1:9", ended=lambda _: None
        )


MORTAL = """
import asyncio, os
from distributed import Scheduler
async def live():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        while not scheduler.tasks:
            await asyncio.sleep(0.02)
        os._exit(1)
asyncio.run(live())
"""


def test_a_scheduler_that_is_lost_half_way_is_explained(slides: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with subprocess.Popen([sys.executable, "-c", MORTAL], stdout=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stdout is not None
        try:
            address = scheduler.stdout.readline().strip()
            outcomes = detect_many(
                jobs_of(slides, tmp_path / "x"), lambda *_: None, scheduler=address, ended=lambda _: None
            )
        finally:
            scheduler.kill()
    for outcome in outcomes:
        assert "connection to the dask scheduler was lost" in outcome.error
        assert "again to go on" in outcome.error


def test_the_command_offers_the_devices_there_are() -> None:
    assert cli.DEVICES == detection.DEVICES
