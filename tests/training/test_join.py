"""Detectors put together."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from napari_cervcell.models import Model, build, config_of, model_from_bytes, predict, to_input
from napari_cervcell.taxonomy import BETHESDA


def made(head: str, **changes: object) -> Model:
    architecture = config_of(head, "small", **{"width": 16, "embedding": 8, **changes})
    card = {"name": head, "architecture": architecture, "taxonomy": BETHESDA.to_json(), "mpp": 0.4, "training": {}}
    return Model(build(architecture).eval(), card)


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "training"))
    return importlib.import_module("join")


def test_joined_detectors_say_the_mean_of_what_they_said(join: ModuleType) -> None:
    torch.manual_seed(0)
    members = [made("fcos"), made("yollo"), made("reppoints")]
    whole = model_from_bytes(join.joined(members, "all").to_bytes())
    image = to_input(np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8))
    with torch.inference_mode():
        said, *own = (predict(m.network, image) for m in (whole, *members))
    for i in range(3):
        torch.testing.assert_close(said[i], torch.stack([o[i] for o in own]).mean(0), atol=2e-2, rtol=2e-2)
    assert [m["name"] for m in whole.card["training"]["members"]] == ["fcos", "yollo", "reppoints"]


def test_detectors_that_do_not_go_together_are_not_joined(join: ModuleType) -> None:
    with pytest.raises(ValueError, match="yollo cannot be joined to fcos"):
        join.joined([made("fcos"), made("yollo", width=32)], "all")
