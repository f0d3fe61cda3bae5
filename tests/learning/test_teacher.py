"""The teacher: follows its student, knows how often it is right, and never speaks over a person."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_cervcell.cells import Cells, centres_of
from napari_cervcell.learning.teacher import Calibration, MeanTeacher, calibrate, negative_weight, with_pseudo_labels

from .drawn import boxes, field


def cells(centres: list[tuple[float, float]], scores: list[float] | None = None, label: int = 1) -> Cells:
    n = len(centres)
    given_ = np.full(n, 0.99) if scores is None else np.array(scores)
    return Cells(boxes(*centres), np.full(n, label), given_, np.full(n, 0.8))


def test_weight_of_negatives_near_labels() -> None:
    w = negative_weight(torch.tensor([0.0, 0.5, 0.9, 1.0]))
    assert w[:3].tolist() == pytest.approx([0.5, 0.565, 1.199], abs=5e-4)
    assert torch.isfinite(w).all()


def test_the_teacher_follows_without_learning_itself() -> None:
    student = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    teacher = MeanTeacher(student, decay=0.9)
    with torch.no_grad():
        student[0].weight.fill_(1.0)
    distances = []
    for _ in range(200):
        teacher.update(student)
        distances.append(float((teacher.network[0].weight - 1).abs().max().detach()))
    assert all(b <= a for a, b in pairwise(distances))
    assert distances[-1] < 1e-3
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert not teacher.network.training


def detections(n: int, right: float, low: float, seed: int) -> tuple[Cells, np.ndarray]:
    """Detections far apart of which a share `right` is on a cell, with scores from `low` to 1."""
    rng = np.random.default_rng(seed)
    centres = [(100.0 * (i % 50), 100.0 * (i // 50)) for i in range(n)]
    scores = rng.uniform(low, 1, n)
    hit = rng.random(n) < right * scores
    return cells(centres, scores.tolist()), np.array(centres, np.float32)[hit]


def test_a_calibrated_score_is_how_often_it_is_right() -> None:
    """A teacher that is right half as often as it says."""
    calibration = calibrate([detections(1500, 0.5, 0.02, 0), detections(1500, 0.5, 0.02, 1)])
    for lowest in (0.2, 0.5, 0.8):
        found, truth = detections(2000, 0.5, lowest, 7)
        assert calibration(found.scores).mean() == pytest.approx(len(truth) / 2000, abs=0.06)
    assert Calibration()(np.array([0.3], np.float32))[0] == pytest.approx(0.3)


def test_calibration_keeps_the_order_of_scores() -> None:
    scores = np.linspace(0, 1, 50, dtype=np.float32)
    assert (np.diff(calibrate([detections(400, 0.7, 0.02, 3)])(scores)) >= 0).all()


@pytest.mark.parametrize("n", [0, 1, 200])
def test_a_teacher_that_is_always_wrong_is_believed_less_and_nothing_breaks(n: int) -> None:
    found, _ = detections(n, 0, 0.8, 0)
    wrong = calibrate([(found, np.zeros((0, 2), np.float32))])
    right = calibrate([(found, found.centres)])
    high = np.array([0.95], np.float32)
    assert np.isfinite([wrong.slope, wrong.offset, right.slope, right.offset]).all()
    assert wrong(high)[0] <= 0.95 + 1e-6 <= right(high)[0] + 2e-6
    if n == 200:
        assert wrong(high)[0] < 0.2
    assert calibrate([]) == Calibration()


def test_only_sure_cells_become_labels_and_the_field_itself_stays() -> None:
    blank = field("f", [])
    found = cells([(50, 50), (150, 50), (250, 50)], [0.9, 0.65, 0.72], label=3)
    taught = with_pseudo_labels(blank, found, Calibration())
    assert centres_of(taught.boxes).tolist() == [[50, 50], [250, 50]]
    assert taught.labels.tolist() == [3, 3]
    assert len(blank.boxes) == 0
    assert len(with_pseudo_labels(blank, found, Calibration(offset=-5)).boxes) == 0


@given(
    found=st.lists(st.tuples(st.floats(-50, 450), st.floats(-50, 350)), max_size=12),
    spoken=st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), min_size=1, max_size=6),
    how=st.sampled_from(["cells", "rejected", "left_out", "checked"]),
)
@settings(max_examples=40, deadline=None)
def test_where_a_person_has_spoken_the_teacher_is_not_heard(
    found: list[tuple[float, float]], spoken: list[tuple[float, float]], how: str
) -> None:
    where = field("f", spoken) if how == "cells" else field("f", [], **{how: boxes(*spoken)})
    before = len(where.boxes)
    taught = with_pseudo_labels(where, cells(found), Calibration())
    new = centres_of(taught.boxes[before:])
    assert ((new >= 0) & (new < (400, 300))).all()
    at = np.array(spoken)
    apart = np.abs(new[:, None] - at[None])
    if how == "checked":
        assert (apart.max(2) >= 15 - 1e-3).all()
    else:
        assert (np.hypot(*apart.T) >= 7.5 / 0.25 - 1e-3).all()
    np.testing.assert_array_equal(taught.boxes[:before], where.boxes)


def test_scores_that_are_no_numbers_teach_nothing() -> None:
    assert len(with_pseudo_labels(field("f", []), cells([(50, 50)], [float("nan")]), Calibration()).boxes) == 0
