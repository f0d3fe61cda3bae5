"""Crops: what they show must be what their targets say, however they are turned, scaled and stained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.fields import Field
from napari_cervcell.models import STRIDE

MPP = 0.5
SIDE = 800
CENTRES = np.array([[60, 60], [400, 90], [700, 420], [210, 610], [480, 480], [740, 740]], np.float32)


def boxes(centres: np.ndarray) -> np.ndarray:
    return np.concatenate([centres - 20, centres + 20], 1).astype(np.float32)


def field(rejected: np.ndarray = CENTRES[:0], radius: float = 16) -> Field:
    """A bright image with a dark nucleus at each centre, every cell of it labelled."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rgb = np.full((SIDE, SIDE, 3), 235, np.uint8)
    for cx, cy in CENTRES:
        rgb[np.hypot(x - cx, y - cy) < radius] = (60, 40, 90)
    whole = np.array([[0, 0, SIDE, SIDE]], np.float32)
    labels = np.arange(len(CENTRES), dtype=np.int16) % 6
    return Field("drawn", rgb, MPP, boxes(CENTRES), labels, boxes(rejected), whole)


def sampler(crops: Crops, seed: int = 3, **drawn: Any) -> CropSampler:
    return CropSampler([field(**drawn)], crops, np.random.default_rng(seed))


def test_a_cell_is_where_its_targets_say() -> None:
    images, targets = sampler(Crops(256, MPP)).batch(24)
    grey = images.mean(1)
    positive = targets.cell == 1
    assert positive.sum() > 40
    image, row, column = positive.nonzero(as_tuple=True)
    at_cells = grey[image, (row * STRIDE + STRIDE // 2), (column * STRIDE + STRIDE // 2)]
    background = torch.stack([g.quantile(0.9) for g in grey])[image]
    assert (at_cells < background - 0.3).all()


def test_the_same_seed_draws_the_same_crops() -> None:
    (a, s), (b, t) = (sampler(Crops(256, MPP), seed=5).batch(4) for _ in range(2))
    assert torch.equal(a, b)
    assert all(torch.equal(x, y) for x, y in zip(s, t, strict=True))
    assert not torch.equal(a, sampler(Crops(256, MPP), seed=6).batch(4)[0])


def test_hard_negatives_are_in_every_batch_and_never_fill_it() -> None:
    draw = sampler(Crops(128, MPP), rejected=np.array([[300, 300]], np.float32))
    for _ in range(10):
        with_rejected = draw.batch(4)[1].rejected.flatten(1).any(1)
        assert 1 <= with_rejected.sum() < 4


def test_a_single_crop_lies_around_a_rejection_by_chance_and_no_more_often_than_among_others() -> None:
    draw = sampler(Crops(64, MPP), rejected=np.array([[300, 300]], np.float32))
    share = np.mean([bool(draw.batch(1)[1].rejected.any()) for _ in range(200)])
    assert 0.15 < share < 0.35


def test_what_a_crop_shows_of_a_cell_just_outside_it_is_no_background() -> None:
    images, targets = sampler(Crops(96, MPP), radius=7).batch(400)
    grey = images.mean(1)[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    dark = grey < grey.flatten(1).quantile(0.9, dim=1)[:, None, None] - 0.3
    background = targets.known & (targets.cell == 0)
    assert int((dark & ~background)[:, :, [0, -1]].sum()) > 10  # of cells that a side cuts
    assert int((dark & background).sum()) == 0


def test_rejections_that_are_not_to_count_for_more_are_drawn_as_often_as_cells() -> None:
    """Nine cells and one rejection, far from each other."""
    places = np.stack(np.meshgrid([150, 450, 750, 1050, 1350], [150, 450]), -1).reshape(-1, 2).astype(np.float32)
    rgb, labels = np.full((600, 1500, 3), 235, np.uint8), np.zeros(9, np.int16)
    known = Field("ten", rgb, MPP, boxes(places[:9]), labels, boxes(places[9:]))
    shares = []
    for hard in (False, True):
        targets = CropSampler([known], Crops(128, MPP), np.random.default_rng(0), hard=hard).batch(400)[1]
        with_cell, with_rejected = ((t > 0).flatten(1).any(1).sum() for t in (targets.cell, targets.rejected))
        shares.append(float(with_rejected / (with_cell + with_rejected)))
    assert shares[0] == pytest.approx(0.1, abs=0.05)
    assert shares[1] > 0.25


@pytest.mark.parametrize(("even", "share"), [(False, 0.25), (True, 0.5)])
def test_a_rare_class_is_drawn_more_often_than_it_is_there_or_as_often_as_the_others(even: bool, share: float) -> None:
    """Nine cells of one class and one of another, far from each other."""
    places = np.stack(np.meshgrid([150, 450, 750, 1050, 1350], [150, 450]), -1).reshape(-1, 2).astype(np.float32)
    rgb, labels = np.full((600, 1500, 3), 235, np.uint8), np.array([0] * 9 + [1], np.int16)
    known = Field("ten", rgb, MPP, boxes(places), labels)
    targets = CropSampler([known], Crops(128, MPP), np.random.default_rng(0), even=even).batch(400)[1]
    frequent, rare = ((targets.label == c).flatten(1).any(1).sum() for c in (0, 1))
    assert float(rare / (frequent + rare)) == pytest.approx(share, abs=0.06)


def test_only_with_a_rim_do_crops_reach_over_the_edge_and_nothing_is_taught_there() -> None:
    for rim, reaches in ((0, False), (32, True)):
        targets = sampler(Crops(256, MPP, rim)).batch(24)[1]
        taught = targets.known | targets.unknown
        border = torch.cat([taught[:, 0], taught[:, -1], taught[:, :, 0], taught[:, :, -1]], 1)
        assert bool((~border).float().mean(1).gt(0.2).any()) == reaches
