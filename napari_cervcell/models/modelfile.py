"""The model file: safetensors weights with a JSON card inside.

The card (architecture, taxonomy, mpp, training data, metrics, licence) travels in the safetensors header, so weights
and card cannot be parted; a copy for people is written beside the file as ``.json``. No pickle is ever loaded.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ..files import spare_sources, written_whole
from ..taxonomy import Taxonomy
from ..weights import ACCURATE_MODEL, SHIPPED_MODEL, ModelError, header, misfit, read, unpacked
from .network import Network, build

__all__ = [
    "ACCURATE_MODEL",
    "SHIPPED_MODEL",
    "Model",
    "ModelError",
    "Stored",
    "check_place",
    "load_model",
    "model_from_bytes",
    "save_model",
]

_UNLIKELY = 4.0  # logits below all other classes: a class is not named before it has been learnt


def digest_of(module: nn.Module, about: str = "") -> str:
    """Return hex digits that change with `about` and with any weight of `module`, as far as a model file keeps it."""
    digest = hashlib.sha256(about.encode())
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.float().half().numpy().tobytes())
    return digest.hexdigest()


@dataclass(slots=True)
class Stored:
    """A network with its card: what a model file holds.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode, float32, on the CPU.
    card : dict
        At least ``architecture`` (config of the network), ``mpp`` (µm per px that the network sees) and ``name``.
    """

    network: nn.Module
    card: dict[str, Any]

    @property
    def mpp(self) -> float:
        return float(self.card["mpp"])

    @property
    def name(self) -> str:
        return str(self.card["name"])

    def to_bytes(self) -> bytes:
        """Serialise weights (float16, half the size at no cost in accuracy) and card."""
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.network.state_dict().items()}
        state = {k: v.contiguous() for k, v in state.items()}
        return safetensors.torch.save(state, header(self.card))

    @property
    def id(self) -> str:
        """Twelve hex digits that change with any weight or with the architecture."""
        return digest_of(self.network, json.dumps(self.card["architecture"], sort_keys=True))[:12]


@dataclass(slots=True)
class Model(Stored):
    """A detector.

    Its card also has a ``taxonomy``; the shipped ones ``threshold``, ``data``, ``metrics`` and ``licence`` as well.
    """

    network: Network

    @property
    def taxonomy(self) -> Taxonomy:
        return Taxonomy.from_json(self.card["taxonomy"])

    def check_classes(self, taxonomy: Taxonomy, name: str) -> None:
        """Raise ModelError, which calls this model `name`, where its classes are not those of a case."""
        if not taxonomy.continues(self.taxonomy):
            raise ModelError(
                f"The model {name} names the classes {', '.join(self.taxonomy.names)}, the case has "
                f"{', '.join(taxonomy.names)}. Choose a model of the classes of the case."
            )

    def widened(self, taxonomy: Taxonomy) -> Model:
        """Return a copy that can learn all classes of `taxonomy`, which continues its own.

        Of the new ones it says no cell is one; of all others what this model says.
        """
        known, card = len(self.taxonomy), copy.deepcopy(self.card)
        card["taxonomy"] = taxonomy.to_json()
        card["architecture"]["n_classes"] = len(taxonomy)
        state, network = self.network.state_dict(), build(card["architecture"])
        for name, fresh in network.state_dict().items():
            if name.startswith("head.") and ".classes." in name:
                state[name] = torch.cat([state[name], torch.zeros_like(fresh[known:])])
                if name.endswith(".bias"):
                    state[name][known:] = state[name][:known].min() - _UNLIKELY
        network.load_state_dict(state)
        return Model(network.eval(), card)

    @property
    def threshold(self) -> float:
        """The score from which a detection is shown by default."""
        return float(self.card.get("threshold", 0.5))


def save_model(model: Stored, path: str | Path) -> None:
    """Write `model` to `path` (atomically), and its card beside it as ``.json``. Raises ModelError."""
    path = Path(path)
    check_place(path)
    try:
        with written_whole(path) as part:
            part.write_bytes(model.to_bytes())
        card = json.dumps(model.card, indent=2, ensure_ascii=False)
        path.with_suffix(".json").write_text(card + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelError(f"Cannot save the model to {path}: {error.strerror or error}. Choose another place.") from None


def check_place(path: Path) -> None:
    """Raise CervcellError where no model may be saved to `path`, as far as that can be told before."""
    spare_sources(path)
    if path.suffix.lower() == ".json":
        raise ModelError(f"{path} is where the card of a model goes. Choose a name that ends in .safetensors.")
    if not os.path.isdir(path.absolute().parent):
        folder = path.absolute().parent
        raise ModelError(f"Cannot save the model to {path}: there is no folder {folder}. Choose another place.")


def load_model(path: str | Path | None = None) -> Model:
    """Read a model file; the shipped model where `path` is None. Raises ModelError."""
    path = SHIPPED_MODEL if path is None else Path(path)
    return model_from_bytes(read(path), str(path))


def model_from_bytes(data: bytes, name: str = "model") -> Model:
    """Undo :meth:`Model.to_bytes`; `name` is what error messages call the file. Raises ModelError."""
    weights, card = unpacked(data, name)
    try:
        if card["architecture"]["head"] == "unet":
            raise ModelError(f"{name} is a model that outlines nuclei, not one that finds cells. Choose another file.")
        network = build(card["architecture"])
        tensors = {k: torch.from_numpy(v) for k, v in weights.items()}
        network.load_state_dict({k: t.float() if t.is_floating_point() else t for k, t in tensors.items()})
        model = Model(network.eval(), card)
        _ = model.name
        if len(model.taxonomy) != card["architecture"]["n_classes"]:
            raise ValueError(f"it names {len(model.taxonomy)} classes, its network {card['architecture']['n_classes']}")
        if not (0 < model.mpp < math.inf and 0 <= model.threshold <= 1):
            raise ValueError(f"it looks at {model.mpp} µm per px and shows cells from {model.threshold}")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise misfit(name, error) from None
    return model
