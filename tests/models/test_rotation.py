"""Networks that say of a turned image what they say of the upright one, turned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_cervcell.models import BACKBONES, HEADS, Network, build, config_of, decode, to_input
from napari_cervcell.models.rotation import make_turnable

TURNABLE = sorted(HEADS.keys() - {"reppoints"})


def turned(features: Tensor, rotations: int, quarters: int) -> Tensor:
    """Turn maps in `rotations` orientations by quarter turns."""
    split = features.unflatten(1, (-1, rotations)).rot90(quarters, (3, 4))
    return split.roll(quarters * rotations // 4, 2).flatten(1, 2)


def spread(network: Network) -> Network:
    """Let a fresh network have opinions: outputs that differ from place to place, boxes of all sizes."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.head.named_parameters():
            if name in ("cell.conv.weight", "sides.weight"):
                parameter.normal_(std=0.6)
    return network.eval()


@pytest.mark.parametrize(
    ("backbone", "rotations"), [*((name, 4) for name in BACKBONES), ("small", 8), ("efficientnet-lite0", 8)]
)
def test_features_turn_with_the_image(backbone: str, rotations: int) -> None:
    torch.manual_seed(0)
    network = build(config_of("fcos", backbone, width=16, rotations=rotations)).eval()
    x = torch.randn(1, 3, 32, 64)
    with torch.inference_mode():
        upright = network.backbone(x)
        for quarters in (1, 2):
            for ours, theirs in zip(upright, network.backbone(x.rot90(quarters, (2, 3))), strict=True):
                assert (ours - ours.mean()).abs().max() > 0.01
                scale = theirs.abs().max().clamp_min(1)
                assert (turned(ours, rotations, quarters) - theirs).abs().max() / scale < 1e-4


def test_a_plain_network_does_not() -> None:
    torch.manual_seed(0)
    backbone = BACKBONES["small"](4).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert (backbone(x)[0].rot90(1, (2, 3)) - backbone(x.rot90(1, (2, 3)))[0]).abs().max() > 0.1


@pytest.mark.parametrize("rotations", [4, 8])
@pytest.mark.parametrize("head", TURNABLE)
def test_the_same_cells_are_found_where_the_turned_image_has_them(head: str, rotations: int) -> None:
    network = spread(build(config_of(head, "small", width=32, rotations=rotations, embedding=8)))
    side = 128
    image = np.random.default_rng(0).integers(0, 255, (1, side // 16, side // 16, 3), np.uint8)
    image = image.repeat(16, 1).repeat(16, 2)
    with torch.inference_mode():
        upright = decode(network(to_input(image)), 0.0)[0]
        for quarters in (1, 2, 3):
            again = decode(network(to_input(np.rot90(image, quarters, (1, 2)).copy())), 0.0)[0]
            boxes = upright.boxes
            for _ in range(quarters):  # to the left: (x, y) -> (y, side - x)
                boxes = np.stack([boxes[:, 1], side - boxes[:, 2], boxes[:, 3], side - boxes[:, 0]], 1)
            assert len(again) == len(boxes) > 5
            distance = np.abs(boxes[:, None] - again.boxes).max(2)
            assert distance.min(1).max() < 1
            nearest = distance.argmin(1)
            np.testing.assert_allclose(upright.scores, again.scores[nearest], atol=1e-3)
    width, height = np.ptp(upright.boxes.reshape(-1, 2, 2), axis=1).T
    assert np.abs(width - height).max() > 2, "square boxes would look right in any order of their sides"


def test_an_eighth_turn_is_near_though_not_exact() -> None:
    """The strongest answer to a bar is nearly the same at 45 degrees: nearer with 8 rotations than with 4."""
    y, x = np.mgrid[:33, :33] - 16.0

    def bar(angle: float) -> Tensor:
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        return torch.tensor(np.exp(-((along / 5) ** 2) - (across / 1.5) ** 2), dtype=torch.float32).expand(1, 3, -1, -1)

    off = {}
    for rotations in (4, 8):
        torch.manual_seed(0)
        conv = nn.Sequential(nn.Conv2d(3, 64, 5, padding=2))
        make_turnable(conv, rotations)
        with torch.no_grad():
            # smooth filters: what varies from pixel to pixel cannot be interpolated
            conv[0].weight.copy_(nn.functional.avg_pool2d(conv[0].weight, 3, 1, 1))
            straight, slanted = (conv(bar(a)).unflatten(1, (-1, rotations)).amax((2, 3, 4)) for a in (0, np.pi / 4))
        off[rotations] = float((straight - slanted).norm() / straight.norm())
    assert off[8] < 0.6 * off[4]
    assert off[8] > 1e-3


def test_a_turnable_network_can_lie_channels_last_in_memory() -> None:
    network = build(config_of("fcos", "small", width=16, rotations=4)).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        before = network(x).cell
        after = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last)).cell
    torch.testing.assert_close(after, before)


def test_channels_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of 8"):
        make_turnable(nn.Sequential(nn.Conv2d(16, 12, 3)), 8)
