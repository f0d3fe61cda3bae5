"""What the network says, and how it becomes cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cervcell.models import DEFAULT_CONFIG, STRIDE, Model, build, decode, predict, to_input
from napari_cervcell.models.heads import Dense
from napari_cervcell.slides import Slide


def dense_of(h: int, w: int, cells: dict[tuple[int, int], tuple[float, int]]) -> Dense:
    """A prediction of nothing but `cells`: (row, column) -> (logit, class)."""
    cell = torch.full((1, h, w), -9.0)
    classes = torch.zeros(1, 6, h, w)
    for (row, column), (logit, label) in cells.items():
        cell[0, row, column] = logit
        classes[0, label, row, column] = 5.0
    return Dense(cell, classes, torch.full((1, 4, h, w), 15.0))


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (320, 160)])
def test_every_stride_of_the_input_gets_a_prediction(size: tuple[int, int]) -> None:
    network = build(DEFAULT_CONFIG).eval()
    with torch.inference_mode():
        dense = network(to_input(np.zeros((2, *size, 3), np.uint8)))
    h, w = size[0] // STRIDE, size[1] // STRIDE
    assert dense.cell.shape == (2, h, w)
    assert dense.classes.shape == (2, 6, h, w)
    assert dense.sides.shape == (2, 4, h, w)
    assert (dense.sides > 0).all()


def test_a_fresh_network_expects_cells_to_be_rare() -> None:
    network = build(DEFAULT_CONFIG).eval()
    with torch.inference_mode():
        dense = network(to_input(np.full((1, 64, 64, 3), 200, np.uint8)))
    assert torch.sigmoid(dense.cell).mean() < 0.1


def test_peaks_become_cells_where_they_are() -> None:
    cells = decode(dense_of(20, 30, {(4, 7): (3.0, 2), (15, 20): (1.0, 5)}))[0]
    assert cells.labels.tolist() == [2, 5]
    assert cells.centres.tolist() == [[7.5 * STRIDE, 4.5 * STRIDE], [20.5 * STRIDE, 15.5 * STRIDE]]
    assert cells.scores[0] == pytest.approx(1 / (1 + np.exp(-3.0)), abs=1e-6)
    assert (cells.boxes[:, 2:] - cells.boxes[:, :2]).tolist() == [[30, 30], [30, 30]]


def test_one_nucleus_is_one_cell_whatever_its_classes() -> None:
    cells = decode(dense_of(20, 20, {(5, 5): (3.0, 0), (5, 6): (2.0, 4), (6, 7): (1.0, 1)}))[0]
    assert cells.labels.tolist() == [0]


def test_below_the_threshold_there_is_nothing() -> None:
    assert len(decode(dense_of(8, 8, {(2, 2): (-3.0, 0)}), threshold=0.5)[0]) == 0


def test_unknown_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown network parts"):
        build({**DEFAULT_CONFIG, "backbone": "resnet"})


def test_upside_down_the_same_cells_are_found_upside_down() -> None:
    network = build(DEFAULT_CONFIG).eval()
    image = to_input(np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3), np.uint8))
    with torch.inference_mode():
        upright, turned = predict(network, image), predict(network, image.flip(-2, -1))
    torch.testing.assert_close(turned.cell.flip(-2, -1), upright.cell)
    torch.testing.assert_close(turned.classes.flip(-2, -1), upright.classes)
    torch.testing.assert_close(turned.sides[:, [2, 3, 0, 1]].flip(-2, -1), upright.sides)


def test_the_model_sees_the_cells_of_a_field_turned_a_quarter(shipped_model: Model, sample: Slide) -> None:
    """A cell stays a cell when the field is turned: most are found again within two strides."""
    image = sample.read_scaled(2000, 2000, 1280, 1280, 2.0)
    found = []
    for turns in range(2):
        with torch.inference_mode():
            dense = predict(shipped_model.network, to_input(np.ascontiguousarray(np.rot90(image, turns))[None]))
        found.append(decode(dense, 0.5)[0].centres)
    back = np.stack([640 - found[1][:, 1], found[1][:, 0]], 1)
    assert len(found[0]) > 5
    near = [np.hypot(*(back - c).T).min() <= 2 * STRIDE for c in found[0]]
    assert np.mean(near) > 0.75
