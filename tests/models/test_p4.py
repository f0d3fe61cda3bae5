"""A patch has no up: what the network says of it does not depend on how it lies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_cervcell.models.p4 import P4Conv2d, P4Encoder


@pytest.mark.parametrize("side", [32, 80])
def test_quarter_turns_change_nothing_but_for_a_plain_network_they_do(side: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, side, side)
    turned = [x.rot90(r, (2, 3)) for r in range(4)]
    encoder = P4Encoder().eval()
    plain = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
    )  # fmt: skip
    with torch.inference_mode():
        ours, theirs = ([network(x).flatten(1) for x in turned] for network in (encoder, plain))
    assert all((out - ours[0]).abs().max() < 1e-5 for out in ours)
    assert all((out - theirs[0]).abs().max() > 1e-3 for out in theirs[1:])
    assert ours[0].std() > 0.01


def test_turning_the_input_turns_the_maps_and_moves_the_orientations_on() -> None:
    torch.manual_seed(1)
    lift, conv = P4Conv2d(3, 4, lifting=True), P4Conv2d(4, 5)
    x = torch.randn(1, 3, 12, 12)
    maps, turned = conv(lift(x)), conv(lift(x.rot90(1, (2, 3))))
    torch.testing.assert_close(turned, maps.rot90(1, (3, 4)).roll(1, 2), rtol=1e-4, atol=1e-5)


def test_a_side_that_pooling_would_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="divisible by 8"):
        P4Encoder()(torch.zeros(1, 3, 30, 30))
