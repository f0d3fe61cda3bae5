"""Every head learns: a few tens of steps on one drawn field, and it finds the drawn cells and names them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cervcell.learning.assignment import Assignment
from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.fitting import FitSettings, fit
from napari_cervcell.learning.objective import Objective
from napari_cervcell.models import HEADS, build, config_of, decode_embedded, to_input

from .drawn import boxes

CENTRES = [(30, 30), (84, 26), (60, 62), (24, 96), (98, 70), (78, 104), (42, 126), (124, 118), (130, 34)]
LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0], np.int16)
SIDE = 160


def drawn_field() -> Field:
    """Dark violet nuclei of class 0 and red ones of class 1 on pale glass, all of it looked at."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    rgb = rng.normal((225, 205, 220), 4, (SIDE, SIDE, 3))
    for (cx, cy), label in zip(CENTRES, LABELS, strict=True):
        rgb[np.hypot(x - cx, y - cy) < 9] = (200, 60, 60) if label else (70, 50, 130)
    whole = np.array([[0, 0, SIDE, SIDE]], np.float32)
    return Field("drawn", np.clip(rgb, 0, 255).astype(np.uint8), 0.4, boxes(*CENTRES, side=24), LABELS, checked=whole)


@pytest.mark.parametrize(("head", "rotations"), [*((head, 1) for head in HEADS), ("fcos", 4)])
def test_a_head_learns_to_find_drawn_cells(head: str, rotations: int) -> None:
    torch.manual_seed(0)
    config = config_of(head, "small", width=32, n_classes=2, box_size=24.0, embedding=16, rotations=rotations)
    field = drawn_field()
    # where one location of a coarse grid answers for many, more has to be seen and learning goes more slowly
    size, rate = (96, 4e-3) if head.startswith("yol") else (64, 8e-3)
    crops = Crops(size, 0.4, assignment=Assignment.of(config))
    sampler = CropSampler([field], crops, np.random.default_rng(0))
    objective = Objective(torch.ones(2), torch.Generator().manual_seed(0))
    settings = FitSettings(steps=100, batch=4, rate=rate, backbone_rate=rate, average=0.9, frozen=0)
    network = fit(build(config), sampler, objective, settings)
    with torch.inference_mode():
        cells, looks, _ = decode_embedded(network(to_input(field.rgb[None])), 0.4)[0]
    distance = np.hypot(*(np.array(CENTRES)[:, None] - cells.centres).transpose(2, 0, 1))
    assert (distance.min(1) < 6).all(), "every drawn cell is found"
    assert len(cells) == len(CENTRES), "and nothing else"
    nearest = distance.argmin(1)
    assert (cells.labels[nearest] == LABELS).all()
    side = (cells.boxes[:, 2:] - cells.boxes[:, :2]).mean()
    assert 18 < side < 30
    likeness = looks[nearest] @ looks[nearest].T
    same = LABELS[:, None] == LABELS
    assert likeness[same].mean() > likeness[~same].mean() + 0.1
