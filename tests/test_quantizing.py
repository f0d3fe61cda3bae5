"""Models in 8-bit integers: used only where they find the same, and given up again on request."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_cervcell.detection import pick_device
from napari_cervcell.models import Model
from napari_cervcell.quantizing import Quantized, QuantizeError, quantize

pytestmark = pytest.mark.skipif(pick_device("cpu") != "cpu-openvino", reason="no OpenVINO for this machine")


def run(code: str, home: Path) -> list[str]:
    """Run `code` in a process of its own, whose home and cache are empty; return the lines that it prints."""
    nowhere = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nobody_is_told_over_the_network(tmp_path: Path) -> None:
    """docs/privacy.md says so; OpenVINO would tell its makers, and leaves an id of the user in the home folder."""
    code = (
        "import sys; import napari_cervcell.detection; import openvino; from openvino.tools import ovc\n"
        "print(sorted(n for n, m in sys.modules.items() if 'telemetry' in n.partition('.')[0] and m is not None))"
    )
    assert run(code, tmp_path)[-1] == "[]"
    assert not list(tmp_path.iterdir())


SMALL = """
import pathlib
from napari_cervcell import quantizing
from napari_cervcell.detection.conversion import forget_quantized, keep_quantized, openvino, quantized
from napari_cervcell.detection.engines import make_engine
from napari_cervcell.learning import rounds
from napari_cervcell.models import Model, build, config_of, load_model
rounds.REPLAY, quantizing._PICTURES = pathlib.Path(FIELDS), 2
config = config_of("yollo", "small")
model = Model(build(config).eval(), load_model().card | {"architecture": config})
is_quantized = lambda model: quantized(model, openvino.Core()) is not None
words = lambda device="cpu-openvino": make_engine(model, device, 64, 64).words
before, said = words(), []
result = quantizing.quantize(model, said.append)
print(result.used, is_quantized(model), words(), words("cpu-openvino-f32"))
print(result.fields, said[0], said[-1], sep="; ")
forget_quantized(model)
print(is_quantized(model), words() == before)
keep_quantized(model, openvino.Model([], []))
quantizing.MOST_LOST = -1.0
print(quantizing.quantize(model, said.append).used, is_quantized(model))
"""


def test_it_is_used_until_it_is_given_up_or_no_longer_passes(tmp_path: Path, few_fields: Path) -> None:
    assert run(SMALL.replace("FIELDS", repr(str(few_fields))), tmp_path) == [
        "True True processor (OpenVINO, 8-bit integers) processor (OpenVINO, float32)",
        "2; Converting, which takes most of a minute; Checking it in 8 bits, field 2 of 2",
        "False True",
        "False False",
    ]


def test_only_a_little_may_be_lost() -> None:
    assert Quantized(before=0.920, after=0.918, fields=8).used
    assert not Quantized(before=0.920, after=0.916, fields=8).used


def test_what_cannot_be_checked_stays_as_it_is(small_model: Model) -> None:
    small_model.card["taxonomy"]["classes"] = small_model.card["taxonomy"]["classes"][:1]
    small_model.card["taxonomy"]["classes"][0]["name"] = "erythrocyte"
    with pytest.raises(QuantizeError, match=r"no labelled fields of the classes of small.*stays as it is"):
        quantize(small_model, lambda text: None)
