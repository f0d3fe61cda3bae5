"""What a teacher thinks of a field: asked once, and found again in every crop of it, however that is turned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.evaluation import opinion_of, predict_field
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.opinion import Opinion
from napari_cervcell.learning.rounds import REPLAY
from napari_cervcell.models import STRIDE, Model

MPP = 0.4


@pytest.fixture(scope="module")
def real() -> Field:
    path = sorted((REPLAY / "images").iterdir())[0]
    rgb = np.asarray(Image.open(path).convert("RGB"))[:320, :416]
    return Field("real", rgb, MPP, np.zeros((0, 4), np.float32), np.zeros(0, np.int16))


def test_it_is_as_sure_of_cells_as_the_detections_are(shipped_model: Model, real: Field) -> None:
    found = predict_field(shipped_model, real, threshold=0.5)
    assert len(found) >= 3
    opinion = opinion_of(shipped_model, real)
    rows, columns = opinion.logits.shape
    x, y = ((np.arange(n) + 0.5) * STRIDE - opinion.rim for n in (columns, rows))
    said = opinion.at(x, y)
    assert said.shape == (rows, columns)
    np.testing.assert_allclose(said, 1 / (1 + np.exp(-opinion.logits.clip(-9, 9))), atol=1e-4)
    for box, score in zip(found.boxes, found.scores, strict=True):
        middle = (box[:2] + box[2:]) / 2
        near = said[np.ix_(abs(y - middle[1]) < 12, abs(x - middle[0]) < 12)]
        assert near.max() >= score - 0.01


def test_every_crop_holds_it_where_the_cell_is() -> None:
    """A teacher that is sure of one cell alone: whatever way a crop is cut, turned and mirrored, it stays on it."""
    height, width = 240, 300
    place = np.array([130.0, 90.0])
    columns, rows = ((np.arange(n // STRIDE) + 0.5) * STRIDE for n in (width, height))
    away = np.hypot(columns[None] - place[0], rows[:, None] - place[1])
    opinion = Opinion((8 - away).clip(-8, 8).astype(np.float32), np.ones(2, np.float32), rim=0)
    box = np.concatenate([place - 15, place + 15])[None].astype(np.float32)
    rgb = np.full((height, width, 3), 200, np.uint8)
    field = Field("made", rgb, MPP, box, np.zeros(1, np.int16), opinion=opinion)
    sampler = CropSampler([field], Crops(128, MPP, rim=32), np.random.default_rng(0))
    seen = 0
    for _ in range(12):
        _, targets = sampler.batch(4)
        for cell, said in zip(targets.cell, targets.opinion, strict=True):
            if cell.any():
                seen += 1
                assert said[cell > 0].min() > 0.5
                near = torch.nn.functional.max_pool2d(cell[None], 13, 1, 6)[0] > 0
                assert said[~near].max() < 0.1
    assert seen > 20


def test_nobody_asked_is_no_opinion_nor_is_what_lies_outside_the_field() -> None:
    rgb = np.full((96, 96, 3), 200, np.uint8)
    field = Field("made", rgb, MPP, np.zeros((0, 4), np.float32), np.zeros(0, np.int16))
    _, targets = CropSampler([field], Crops(128, MPP), np.random.default_rng(0)).batch(2)
    assert (targets.opinion == -1).all()
    field.opinion = Opinion(np.zeros((24, 24), np.float32), np.ones(2, np.float32), rim=0)
    _, targets = CropSampler([field], Crops(128, MPP), np.random.default_rng(0)).batch(2)
    assert (targets.opinion == -1).any()
    assert (targets.opinion[targets.opinion >= 0] == 0.5).all()
