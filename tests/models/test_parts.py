"""Every head on every backbone: one plan, one kind of prediction, one model file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from napari_cervcell.models import (
    BACKBONES,
    HEADS,
    STRIDE,
    Model,
    build,
    config_of,
    decode_embedded,
    model_from_bytes,
    predict,
    to_input,
)
from napari_cervcell.models.resnets import ResNet
from napari_cervcell.taxonomy import BETHESDA


@pytest.mark.parametrize(
    ("head", "backbone"), [*((head, "small") for head in HEADS), *(("yolof", name) for name in BACKBONES)]
)
def test_any_head_on_any_backbone_answers_at_every_location(head: str, backbone: str) -> None:
    network = build(config_of(head, backbone, width=16, embedding=8, box_size=24.0)).eval()
    image = to_input(np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3), np.uint8))
    with torch.inference_mode():
        dense = predict(network, image)
    h, w = 64 // STRIDE, 96 // STRIDE
    assert dense.cell.shape == (1, h, w)
    assert dense.classes.shape == (1, 6, h, w)
    assert dense.sides.shape == (1, 4, h, w)
    # before it has learnt anything, it expects few cells, of the usual size
    assert torch.sigmoid(dense.cell).mean() < 0.1
    width = dense.sides[:, 0] + dense.sides[:, 2]
    assert 12 < float(width.median()) < 48
    cells, looks, shares = decode_embedded(dense, 0.0)[0]
    assert looks.shape == (len(cells), 8)
    assert shares.shape == (len(cells), 6)
    np.testing.assert_array_equal(shares.max(1), cells.class_scores)


@pytest.mark.parametrize(("head", "rotations"), [*((head, 1) for head in HEADS), ("fcos", 4), ("yolof", 8)])
def test_any_model_comes_back_from_its_file(head: str, rotations: int) -> None:
    config = config_of(head, "small", width=16, embedding=8, rotations=rotations)
    card = {"name": head, "architecture": config, "taxonomy": BETHESDA.to_json(), "mpp": 0.4}
    model = Model(build(config).eval(), card)
    back = model_from_bytes(model.to_bytes())
    assert back.id == model.id
    image = to_input(np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8))
    with torch.inference_mode():
        torch.testing.assert_close(back.network(image).cell, model.network(image).cell, atol=2e-2, rtol=2e-2)


def ensemble(**changes: object) -> dict[str, object]:
    """The config of a small FCOS and a small YOLLO as one."""
    beside = {"neck": HEADS["yollo"][0], "head": "yollo"}
    return config_of("fcos", "small", width=16, embedding=8, ensemble_with=[beside], **changes)


def test_an_ensemble_says_the_mean_of_what_its_members_say() -> None:
    torch.manual_seed(0)
    config = ensemble()
    both = build(config).eval()
    alone = [build({**config_of(head, "small", width=16, embedding=8)}).eval() for head in ("fcos", "yollo")]
    for i, member in enumerate(alone):
        parts = ("backbone", "neck", "head")
        member.load_state_dict(
            {f"{part}.{k}": v for part in parts for k, v in getattr(both, part).members[i].state_dict().items()}
        )
    image = to_input(np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), np.uint8))
    with torch.inference_mode():
        said, first, second = (predict(network, image) for network in (both, *alone))
    for of, a, b in zip(said[:3], first[:3], second[:3], strict=True):
        torch.testing.assert_close(of, (a + b) / 2)
    torch.testing.assert_close(said.embedding, first.embedding)


def test_an_ensemble_comes_back_from_its_file_which_older_versions_do_not_take() -> None:
    model = Model(
        build(ensemble()).eval(),
        {"name": "both", "architecture": ensemble(), "taxonomy": BETHESDA.to_json(), "mpp": 0.4},
    )
    data = model.to_bytes()
    assert model_from_bytes(data).id == model.id
    assert b"napari-cervcell model 3" in data


@pytest.mark.parametrize(
    "changes", [{"ensemble_with": [{"neck": "dilated", "head": "yolof"}]}, {"ensemble_with": [{}], "rotations": 4}]
)
def test_ensembles_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="there is no ensemble"):
        build(config_of("fcos", "small", **changes))


@pytest.mark.parametrize("changes", [{"neck": "dilated"}, {"head": "retina"}, {"backbone": "vgg"}])
def test_parts_that_do_not_go_together_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="unknown network parts"):
        build({**config_of("fcos", "small"), **changes})


@pytest.mark.parametrize(("head", "rotations"), [("reppoints", 4), ("fcos", 3)])
def test_turns_that_a_head_cannot_do_are_refused(head: str, rotations: int) -> None:
    with pytest.raises(ValueError, match=r"no .* network for"):
        build(config_of(head, "small", rotations=rotations))


def test_a_users_resnet_weights_see_what_torchvision_would_see() -> None:
    """Weights made for ImageNet's normalisation give torchvision's features on this package's input."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None).eval()
    ours = ResNet(18).eval()
    ours.load(theirs.state_dict())
    rgb = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    imagenet = ((torch.from_numpy(rgb).float() / 255 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = theirs.relu(theirs.bn1(theirs.conv1(imagenet)))
        got = ours.stem[:3](to_input(rgb))  # type: ignore[index]
    torch.testing.assert_close(got[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-3, atol=1e-3)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(RuntimeError):
        ResNet(50).load(torchvision.models.resnet18(weights=None).state_dict())
