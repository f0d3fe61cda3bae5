"""The grader: crops of cells in, classes out, and detections graded again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cervcell.cells import Cells
from napari_cervcell.learning.fields import DataError, Field
from napari_cervcell.learning.grader import Grader, GraderError, train_grader

from .drawn import NONE, boxes, patches

SHAPES = ("disc", "cross", "oval")  # the last is the mimic of a taxonomy of two


def labelled(counts: tuple[int, ...], seed: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int16)
    return patches([SHAPES[i] for i in labels], np.random.default_rng(seed), side), labels


@pytest.fixture(scope="module")
def grader() -> Grader:
    images, labels = labelled((30, 12, 18), 0, side=24)
    return train_grader(images, labels, 2, 0.25, steps=60, batch=24, rate=1e-2, seed=1)


def test_it_tells_classes_apart_a_rare_one_too(grader: Grader) -> None:
    images, labels = labelled((20, 20, 20), 9, side=24)
    said = grader.probabilities(images)
    assert said.shape == (60, 3)
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-5)
    right = said.argmax(1) == labels
    assert all(right[labels == c].mean() >= 0.7 for c in range(3))


def test_detections_in_a_field_are_graded_again(grader: Grader) -> None:
    images, labels = labelled((2, 2), 5, side=24)
    rgb = np.full((60, 240, 3), 210, np.uint8)
    for i, image in enumerate(images):
        rgb[18:42, 60 * i + 18 : 60 * i + 42] = image
    spots = boxes(*[(60 * i + 30, 30) for i in range(4)], side=20)
    cells = Cells(spots, 1 - labels, np.linspace(0.5, 0.9, 4), np.full(4, 0.6))
    graded = grader.regrade(cells, Field("f", rgb, 0.25, NONE, np.zeros(0, np.int16)))
    assert graded.labels.tolist() == labels.tolist()
    np.testing.assert_array_equal(graded.boxes, cells.boxes)
    np.testing.assert_array_equal(graded.scores, cells.scores)
    assert ((graded.class_scores > 0.5) & (graded.class_scores <= 1)).all()
    assert len(grader.regrade(Cells(), Field("f", rgb, 0.25, NONE, np.zeros(0, np.int16)))) == 0


def test_the_same_seed_gives_the_same_grader() -> None:
    images, labels = labelled((4, 4), 0, side=16)
    a, b = (train_grader(images, labels, 2, 0.25, steps=3, batch=4, seed=2) for _ in range(2))
    np.testing.assert_array_equal(a.probabilities(images), b.probabilities(images))


def test_crops_of_80_px_and_another_encoder() -> None:
    images, labels = labelled((2, 1), 0, side=80)
    losses: list[float] = []
    small = torch.nn.Sequential(torch.nn.AvgPool2d(40), torch.nn.Flatten())
    grader = train_grader(
        images, labels, 2, 0.25, encoder=(small, 12), steps=3, batch=4, on_step=lambda s, v: losses.append(v)
    )
    assert grader.side == 80
    assert np.isfinite(losses).all()
    assert len(losses) == 3
    default = train_grader(images, labels, 2, 0.25, steps=1, batch=2)
    assert np.isfinite(default.probabilities(images)).all()


def test_a_class_without_examples_is_never_named() -> None:
    images, labels = labelled((3, 3), 0, side=16)
    grader = train_grader(images, 2 * labels, 4, 0.25, steps=4, batch=4)
    said = grader.probabilities(images)
    assert (said[:, [1, 3, 4]] == 0).all()
    assert np.isfinite(said).all()


def test_one_cell_and_rejections_are_enough() -> None:
    images, labels = labelled((1, 5), 0, side=16)
    grader = train_grader(images, np.where(labels == 0, 0, 2).astype(np.int16), 2, 0.25, steps=4, batch=4)
    assert np.isfinite(grader.probabilities(images)).all()


@pytest.mark.parametrize("label", [0, 2])
def test_cells_of_one_class_or_only_rejections_are_refused(label: int) -> None:
    images, labels = labelled((4,), 0, side=16)
    with pytest.raises(GraderError, match="at least two classes"):
        train_grader(images, np.full_like(labels, label), 2, 0.25)
    with pytest.raises(GraderError, match="at least two classes"):
        train_grader(images[:0], labels[:0], 2, 0.25)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_that_is_not_there_is_refused(label: int) -> None:
    images, labels = labelled((4, 4), 0, side=16)
    labels[0] = label
    with pytest.raises(GraderError, match=f"class {label}, but there are 2 classes"):
        train_grader(images, labels, 2, 0.25)


def test_images_that_may_hold_no_numbers_are_refused(grader: Grader) -> None:
    with pytest.raises(DataError, match="8 bits"):
        grader.probabilities(np.full((1, 24, 24, 3), np.nan))
