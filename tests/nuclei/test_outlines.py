"""Nuclei: the U-Net learns drawn ones, and outlines, areas and shares are those of what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_cervcell.models import Model, ModelError, Stored, UNet, build_unet, load_model, save_model, to_input
from napari_cervcell.nuclei import load_outliner, outlines
from napari_cervcell.nuclei.outlines import outline

Y, X = np.mgrid[:96, :96] + 0.5


def boxes_of(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(boxes, np.float32)


def logits_of(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 3.0, -3.0).astype(np.float32)


def area_of(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_a_nucleus_has_its_outline_area_and_share_of_the_cell() -> None:
    mask = (X > 20) & (X < 30) & (Y > 40) & (Y < 52)
    nuclei = outlines(logits_of(mask), boxes_of((15, 36, 39, 60)))
    assert nuclei.polygons[0].tolist() == [[20, 40], [30, 40], [30, 52], [20, 52]]
    assert nuclei.areas.tolist() == [120]
    assert nuclei.shares[0] == pytest.approx(120 / 24**2)


def test_touching_nuclei_are_shared_out_between_their_cells() -> None:
    mask = (np.hypot(X - 35, Y - 48) < 9) | (np.hypot(X - 51, Y - 48) < 9)
    nuclei = outlines(logits_of(mask), boxes_of((20, 33, 50, 63), (36, 33, 66, 63)))
    assert nuclei.areas.sum() == mask.sum()
    assert abs(nuclei.areas[0] - nuclei.areas[1]) <= 18
    assert nuclei.polygons[0][:, 0].max() <= nuclei.polygons[1][:, 0].min()


def test_dirt_beside_the_nucleus_does_not_count() -> None:
    nucleus, dirt = np.hypot(X - 48, Y - 48) < 8, np.hypot(X - 60, Y - 60) < 2
    nuclei = outlines(logits_of(nucleus | dirt), boxes_of((33, 33, 63, 63)))
    assert nuclei.areas[0] == nucleus.sum()


def test_a_cell_without_a_nucleus_or_beyond_the_image_has_none() -> None:
    nuclei = outlines(logits_of(np.hypot(X - 20, Y - 20) < 8), boxes_of((50, 50, 80, 80), (-60, -60, -40, -40)))
    assert nuclei.areas.tolist() == [0, 0]
    assert [len(p) for p in nuclei.polygons] == [0, 0]


def test_a_nucleus_on_the_images_edge_is_outlined_up_to_it() -> None:
    nuclei = outlines(logits_of(np.hypot(X - 2, Y - 94) < 8), boxes_of((-13, 79, 17, 109)))
    polygon = nuclei.polygons[0]
    assert polygon[:, 0].min() == 0
    assert polygon[:, 1].max() == 96
    assert area_of(polygon) == nuclei.areas[0]


@given(st.lists(st.sampled_from([(0, 1), (1, 0), (0, -1), (-1, 0)]), max_size=60))
def test_the_outline_holds_all_that_hangs_together(steps: list[tuple[int, int]]) -> None:
    """Whatever the shape: the area within the outline is the shape's, and that of its holes."""
    from scipy.ndimage import binary_fill_holes

    mask = np.zeros((130, 130), bool)
    row = column = 65
    mask[row, column] = True
    for down, right in steps:
        row, column = row + down, column + right
        mask[row, column] = True
    # what can be reached from outside past a corner is no hole
    assert area_of(outline(mask)) == binary_fill_holes(mask, np.ones((3, 3))).sum()


def drawn(rng: np.random.Generator) -> tuple[Tensor, np.ndarray, list[tuple[float, float, float]]]:
    """An image as networks see it, its nuclei as a mask, and (x, y, radius) of each."""
    image, mask, nuclei = rng.normal(0.7, 0.05, (96, 96)), np.zeros((96, 96), bool), []
    for x, y in ((24, 24), (70, 22), (28, 70), (72, 72)):
        x, y, radius = x + rng.uniform(-6, 6), y + rng.uniform(-6, 6), rng.uniform(6, 11)
        image[np.hypot(X - x, Y - y) < 1.8 * radius] -= 0.3  # cytoplasm
        image[np.hypot(X - x, Y - y) < radius] -= 0.5
        mask |= np.hypot(X - x, Y - y) < radius
        nuclei.append((x, y, radius))
    return torch.from_numpy(image).float().expand(3, -1, -1), mask, nuclei


def test_a_unet_learns_to_outline_drawn_nuclei() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = UNet(width=4, depth=2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        images, masks, _ = zip(*(drawn(rng) for _ in range(2)), strict=True)
        loss = F.binary_cross_entropy_with_logits(network(torch.stack(images)), torch.tensor(np.stack(masks)).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    image, _, truth = drawn(rng)
    boxes = boxes_of(*((x - 15, y - 15, x + 15, y + 15) for x, y, _ in truth))
    with torch.inference_mode():
        nuclei = outlines(network.eval()(image[None])[0].numpy(), boxes)
    for (_, _, radius), area, share in zip(truth, nuclei.areas, nuclei.shares, strict=True):
        assert area == pytest.approx(np.pi * radius**2, rel=0.15)
        assert share == pytest.approx(area / 900)


def test_a_unet_is_stored_as_every_model_and_not_taken_for_a_detector(small_model: Model, tmp_path: Path) -> None:
    config = {"head": "unet", "width": 4, "depth": 2}
    network = build_unet(config).eval()
    model = Stored(network, {"name": "nuclei", "architecture": config, "mpp": 0.25})
    save_model(model, tmp_path / "nuclei.safetensors")
    back = load_outliner(tmp_path / "nuclei.safetensors")
    assert back.mpp == 0.25
    with pytest.raises(ModelError, match=r"nuclei\.safetensors is a model that outlines nuclei, not one that finds"):
        load_model(tmp_path / "nuclei.safetensors")
    save_model(small_model, tmp_path / "cells.safetensors")
    with pytest.raises(ModelError, match=r"finds cells, not one that outlines nuclei"):
        load_outliner(tmp_path / "cells.safetensors")
    network.nucleus.bias.data[0] = torch.nan
    save_model(model, tmp_path / "nuclei.safetensors")
    with pytest.raises(ModelError, match=r"nuclei\.safetensors holds weights that are not numbers"):
        load_outliner(tmp_path / "nuclei.safetensors")


def test_numpy_says_what_the_network_says(tmp_path: Path) -> None:
    """As far as the half precision of the file allows."""
    torch.manual_seed(0)
    config = {"head": "unet", "width": 8, "depth": 3}
    network = build_unet(config)
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    for _ in range(3):  # what its normalisation goes by is no longer 0 and 1
        network(to_input(rgb[None]))
    network.load_state_dict({k: v.half().float() for k, v in network.eval().state_dict().items()})
    save_model(Stored(network, {"name": "nuclei", "architecture": config, "mpp": 0.25}), tmp_path / "n.safetensors")
    with torch.inference_mode():
        expected = network(to_input(rgb[None]))[0].numpy()
    np.testing.assert_allclose(load_outliner(tmp_path / "n.safetensors")(rgb), expected, atol=1e-4)
