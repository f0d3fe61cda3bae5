"""What a cell looks like, as numbers: beside every detection, and missing in old models without harm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from napari_cervcell.models import (
    DEFAULT_CONFIG,
    SHIPPED_MODEL,
    Model,
    ModelError,
    build,
    config_of,
    decode,
    decode_embedded,
    load_model,
    model_from_bytes,
    predict,
    to_input,
)
from napari_cervcell.models.heads import Dense
from napari_cervcell.slides import Slide


def format_of(data: bytes) -> str:
    size = int.from_bytes(data[:8], "little")
    return str(json.loads(data[8 : 8 + size])["__metadata__"]["format"])


def test_every_cell_has_its_own_128_numbers_of_unit_length_in_its_order() -> None:
    cell = torch.full((2, 8, 8), -9.0)
    embedding = torch.zeros(2, 128, 4, 4)
    for image, row, column, logit in [(0, 1, 1, 1.0), (0, 5, 6, 3.0), (1, 2, 3, 2.0)]:
        cell[image, row, column] = logit
        embedding[image, 10 * row + column, row // 2, column // 2] = 7.0
    dense = Dense(cell, torch.zeros(2, 6, 8, 8), torch.full((2, 4, 8, 8), 3.0), embedding)
    (first, looks, _), (second, other, _) = decode_embedded(dense)
    assert looks.shape == (2, 128)
    assert looks.dtype == np.float32
    for cells, numbers in ((first, looks), (second, other)):
        rows = ((cells.centres - 2) / 4).astype(int)
        assert numbers.argmax(1).tolist() == [10 * r + c for c, r in rows]
        np.testing.assert_allclose(np.linalg.norm(numbers, axis=1), 1, rtol=1e-6)
    assert [len(c) for c in decode(dense)] == [2, 1]


def test_two_looks_agree_on_the_looks_of_a_cell_upside_down() -> None:
    network = build(config_of("fcos", "small", width=16)).eval()
    image = to_input(np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3), np.uint8))
    with torch.inference_mode():
        upright, turned = predict(network, image), predict(network, image.flip(-2, -1))
    assert upright.embedding is not None
    assert turned.embedding is not None
    torch.testing.assert_close(turned.embedding.flip(-2, -1), upright.embedding)


@pytest.fixture(scope="module")
def without(shipped_model: Model) -> Model:
    """The shipped model as it was before it had an embedding."""
    architecture = {k: v for k, v in shipped_model.card["architecture"].items() if k != "embedding"}
    network = build(architecture).eval()
    state = shipped_model.network.state_dict()
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.embedding.")})
    return Model(network, {**shipped_model.card, "architecture": architecture})


def test_an_embedding_changes_no_detection_and_models_without_one_work_as_ever(
    shipped_model: Model, without: Model, sample: Slide
) -> None:
    image = to_input(sample.read_scaled(2000, 2000, 640, 640, 2.0)[None])
    with torch.inference_mode():
        (cells, looks, _), (before, none, _) = (
            decode_embedded(predict(m.network, image), 0.1)[0]
            for m in (shipped_model, model_from_bytes(without.to_bytes()))
        )
    assert len(cells) > 3
    assert cells.to_bytes() == before.to_bytes()
    assert looks.shape == (len(cells), 128)
    assert none.shape == (len(cells), 0)


def test_cells_look_most_like_those_of_their_class(shipped_model: Model, sample: Slide, sample_truth: Path) -> None:
    """The sample slide is of fields that the model has never seen; these parts of it hold most abnormal cells."""
    table = np.genfromtxt(sample_truth, delimiter=",", names=True, dtype=None, encoding="utf-8")
    looks, names = [], []
    for left, top in ((3200, 1600), (6400, 4800), (8000, 0), (9600, 3200)):
        image = sample.read_scaled(left, top, 1638, 1638, 1.6)
        with torch.inference_mode():
            cells, found, _ = decode_embedded(predict(shipped_model.network, to_input(image[None])), 0.5)[0]
        centres = cells.moved(left, top, 1.6).centres
        distances = np.hypot(*(centres[:, None] - np.stack([table["x"], table["y"]], 1)[None]).transpose(2, 0, 1))
        near = distances.min(1) < 24
        looks.append(found[near])
        names.append(table["class"][distances.argmin(1)[near]])
    look, name = np.concatenate(looks), np.concatenate(names)
    alike = look @ look.T
    np.fill_diagonal(alike, -1)
    right = (name[np.argsort(-alike, 1)[:, :5]] == name[:, None]).mean()
    chance = sum(((name == n).mean() ** 2) for n in np.unique(name))
    assert len(name) > 60
    assert right > chance + 0.25


def test_the_shipped_weights_are_loaded_bit_by_bit(shipped_model: Model) -> None:
    stored = safetensors.torch.load_file(SHIPPED_MODEL)
    state = shipped_model.network.state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[k], v.to(state[k].dtype)) for k, v in stored.items())
    assert model_from_bytes(shipped_model.to_bytes()).id == load_model().id
    assert SHIPPED_MODEL.stat().st_size < 25e6


def test_what_older_installations_know_is_saved_for_them(without: Model) -> None:
    assert format_of(without.to_bytes()) == "napari-cervcell model 1"


def test_an_embedding_asks_for_the_newer_format(small_model: Model) -> None:
    assert DEFAULT_CONFIG["embedding"] == 128
    data = small_model.to_bytes()
    assert format_of(data) == "napari-cervcell model 2"
    image = to_input(np.zeros((1, 32, 32, 3), np.uint8))
    with torch.inference_mode():
        back = model_from_bytes(data).network(image).embedding
    assert back is not None
    assert back.shape[1] == 128


def test_a_file_of_the_future_asks_for_an_update(small_model: Model, tmp_path: Path) -> None:
    card = json.dumps(small_model.card)
    data = safetensors.torch.save({"w": torch.zeros(1)}, {"format": "napari-cervcell model 4", "card": card})
    (tmp_path / "new.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match=r"new\.safetensors.*newer version.*Update"):
        load_model(tmp_path / "new.safetensors")
