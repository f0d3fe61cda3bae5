"""What the detector calls by another name: every found cell is counted once, and can be looked at."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import napari_cervcell.learning
from napari_cervcell.learning.evaluation import evaluate
from napari_cervcell.learning.fields import read_fields
from napari_cervcell.models import Model
from napari_cervcell.taxonomy import BETHESDA

FIELDS = Path(napari_cervcell.learning.__file__).parent / "replay"


def test_found_cells_are_counted_by_class_and_shown(shipped_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "training"))
    confusions = importlib.import_module("confusions")
    fields = read_fields(FIELDS, BETHESDA)[:4]
    pairs = confusions.named_cells(shipped_model, fields)
    figures = evaluate(shipped_model, fields)
    assert sum(len(named) for named in pairs.values()) == round(figures["recall"] * figures["n_cells"])
    for (true, _), named in pairs.items():
        for _, field, place in named:
            centres = (field.boxes[:, :2] + field.boxes[:, 2:]) / 2
            assert field.labels[np.abs(centres - place).sum(1).argmin()] == true
        width, height = confusions.strip(named).size
        assert height == confusions.SIDE
        assert width >= min(len(named), confusions.MOST) * confusions.SIDE
