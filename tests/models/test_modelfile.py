"""The model file: what goes in comes out, and what is broken is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from napari_cervcell.models import SHIPPED_MODEL, Model, ModelError, load_model, model_from_bytes, save_model, to_input


def test_a_saved_model_predicts_as_before(small_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(small_model, path)
    back = load_model(path)
    image = to_input(np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3), np.uint8))
    with torch.inference_mode():
        before, after = small_model.network(image), back.network(image)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)  # stored as float16
    assert back.card == small_model.card
    assert back.id == small_model.id


def test_the_card_lies_beside_the_file_for_people(small_model: Model, tmp_path: Path) -> None:
    save_model(small_model, tmp_path / "model.safetensors")
    assert json.loads((tmp_path / "model.json").read_text()) == small_model.card


def test_the_id_changes_with_the_weights(small_model: Model) -> None:
    before = small_model.id
    with torch.no_grad():
        small_model.network.head.cell.bias += 0.5
    assert small_model.id != before


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.999])
def test_a_file_cut_short_is_refused(small_model: Model, tmp_path: Path, kept: float) -> None:
    data = small_model.to_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(kept if kept > 1 or kept == 0 else kept * len(data))])
    with pytest.raises(ModelError, match=r"cut\.safetensors.*cut short.*Copy it again"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model file .*nowhere\.safetensors"):
        load_model(tmp_path / "nowhere.safetensors")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.safetensors"
    path.write_text("Dear colleague, this is not a model at all, whatever its name says.")
    with pytest.raises(ModelError, match=r"letter\.safetensors"):
        load_model(path)


@pytest.mark.parametrize("header", [b"[1]", b"null", b'{"__metadata__": null}', b'{"__metadata__": []}'])
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(ModelError, match=r"not a whole model file|not a napari-cervcell model"):
        model_from_bytes(len(header).to_bytes(8, "little") + header, "other")


def test_a_network_of_more_classes_than_the_model_names_is_refused(small_model: Model) -> None:
    small_model.card["taxonomy"]["classes"] = small_model.card["taxonomy"]["classes"][:3]
    with pytest.raises(ModelError, match="names 3 classes, its network 6"):
        model_from_bytes(small_model.to_bytes())


def test_somebody_elses_weights_are_refused() -> None:
    data = safetensors.torch.save({"w": torch.zeros(3)}, {"format": "pt"})
    with pytest.raises(ModelError, match="not a napari-cervcell model"):
        model_from_bytes(data, "other")


def test_weights_that_numpy_cannot_read_are_refused() -> None:
    data = safetensors.torch.save({"w": torch.zeros(3, dtype=torch.bfloat16)}, {"format": "napari-cervcell model 2"})
    with pytest.raises(ModelError, match="not a whole model file"):
        model_from_bytes(data, "other")


def test_another_architecture_is_refused(small_model: Model) -> None:
    small_model.card = {**small_model.card, "architecture": {**small_model.card["architecture"], "head": "retina"}}
    with pytest.raises(ModelError, match="does not fit"):
        model_from_bytes(small_model.to_bytes())


def test_weights_that_are_not_numbers_are_refused(small_model: Model) -> None:
    with torch.no_grad():
        small_model.network.head.cell.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        model_from_bytes(small_model.to_bytes())


def test_saving_where_one_cannot_says_so(small_model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="Cannot save the model"):
        save_model(small_model, tmp_path / "file" / "model.safetensors")


def test_the_shipped_model_is_small_and_says_what_it_is(shipped_model: Model) -> None:
    assert SHIPPED_MODEL.stat().st_size <= 25e6
    card = shipped_model.card
    assert {"architecture", "taxonomy", "mpp", "data", "metrics", "licence"} <= card.keys()
    assert json.loads(SHIPPED_MODEL.with_suffix(".json").read_text()) == card
    assert card["metrics"]["n_images"] > 0
