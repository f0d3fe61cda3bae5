"""The trainer's process where it cannot go on, and where it must."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from napari_cervcell.casefile import Case, Verdict, open_case
from napari_cervcell.learning import TrainingProcess
from napari_cervcell.review.models import import_model
from napari_cervcell.slides import Slide, sample_slide

pytestmark = pytest.mark.usefixtures("few_earlier_fields")

LINGERING = """
import json, subprocess, sys, time
for line in sys.stdin:
    if json.loads(line)["do"] == "prepare":
        subprocess.Popen(["sleep", "0.5"])  # what listens to this process does so until this has ended, too
        print(json.dumps({"kind": "prepared"}), flush=True)
    else:
        print(json.dumps({"kind": "started", "round": 1}), flush=True)
        time.sleep(1.5)
        print(json.dumps({"kind": "done", "round": 1, "state": "candidate"}), flush=True)
"""


@pytest.fixture
def said(sample: Slide, quick_file: Path, sample_cells: dict[str, Any], tmp_path: Path) -> Path:
    """A case with a few cells."""
    path = tmp_path / "said.cervcell"
    with open_case(path, sample) as case:
        case.use_round(import_model(case, quick_file))
        case.record([Verdict("add", box, 0) for box in sample_cells["NILM"][:4]])
    return path


def test_the_end_of_an_idle_process_is_not_that_of_the_round_in_the_next_one(tmp_path: Path) -> None:
    process = TrainingProcess(tmp_path / "none.cervcell", "none.svs")
    process._command = [sys.executable, "-S", "-c", LINGERING]
    process.prepare()
    while not process.poll():
        pass
    os.kill(process.pid, signal.SIGKILL)
    while process.alive:
        pass
    process.start()
    assert [m["kind"] for m in process.messages()] == ["started", "done"]
    process.close()


def test_where_there_are_too_many_threads_the_round_fails_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    process = TrainingProcess(tmp_path / "none.cervcell", "none.svs")
    process._command = [sys.executable, "-S", "-c", LINGERING]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        process.prepare()
        process.start()
    [last] = process.poll()
    assert last["kind"] == "failed"
    assert "not enough memory" in last["message"]
    assert not process.running
    assert not process.alive
    process.start()
    assert [m["kind"] for m in process.messages()] == ["started", "done"]
    process.close()


def test_a_mistake_of_ours_ends_the_round_and_not_the_process(said: Path) -> None:
    process = TrainingProcess(said, sample_slide())
    process.prepare()
    before = process.pid
    for _ in range(2):
        process.start(quick=True, seconds=1, seed="no number")  # type: ignore[arg-type]
        last = list(process.messages())[-1]
        assert last["kind"] == "failed"
        assert "The model in use stays" in last["message"]
        with Case.open(said) as case:
            assert case.rounds()[-1].message == last["message"]
    assert process.pid == before
    assert process.alive
    process.close()
