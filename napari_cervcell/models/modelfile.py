"""The model file: safetensors weights with a JSON card inside.

The card (architecture, taxonomy, mpp, training data, metrics, licence) travels in the safetensors header, so weights
and card cannot be parted; a copy for people is written beside the file as ``.json``. No pickle is ever loaded.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from ..errors import CervcellError
from ..files import written_whole
from ..taxonomy import Taxonomy
from .network import Network, build
from .unet import UNet, build_unet

__all__ = [
    "SHIPPED_MODEL",
    "SHIPPED_OUTLINER",
    "Model",
    "ModelError",
    "Outliner",
    "Stored",
    "load_model",
    "load_outliner",
    "model_from_bytes",
    "save_model",
]

SHIPPED_MODEL = Path(__file__).with_name("cervcell-lite0.safetensors")
SHIPPED_OUTLINER = Path(__file__).with_name("cervcell-nuclei.safetensors")

_FORMAT = "napari-cervcell model "
_VERSION = 2
_UNLIKELY = 4.0  # logits below all other classes: a class is not named before it has been learnt
_Net = TypeVar("_Net", bound=nn.Module)
_PARTS_OF_1 = {"backbone": "efficientnet-lite0", "neck": "top-down", "head": "fcos"}


def _version(architecture: dict[str, Any]) -> int:
    """Return the first version of the format that knows `architecture`, so that older installations read what they can:
    1 knew one network, without embedding; 2 knows every one."""
    of_1 = not {"embedding", "rotations"} & architecture.keys() and _PARTS_OF_1.items() <= architecture.items()
    return 1 if of_1 else 2


class ModelError(CervcellError):
    """A model file is missing, damaged, or not made for this work."""


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
        form = f"{_FORMAT}{_version(self.card['architecture'])}"
        return safetensors.torch.save(state, {"format": form, "card": json.dumps(self.card, ensure_ascii=False)})

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
        for name in ("head.classes.weight", "head.classes.bias"):
            wider = torch.zeros_like(network.state_dict()[name])
            wider[:known] = state[name]
            state[name] = wider
        state["head.classes.bias"][known:] = state["head.classes.bias"][:known].min() - _UNLIKELY
        network.load_state_dict(state)
        return Model(network.eval(), card)

    @property
    def threshold(self) -> float:
        """The score from which a detection is shown by default."""
        return float(self.card.get("threshold", 0.5))


@dataclass(slots=True)
class Outliner(Stored):
    """A U-Net that outlines nuclei."""

    network: UNet


def save_model(model: Stored, path: str | Path) -> None:
    """Write `model` to `path` (atomically), and its card beside it as ``.json``. Raises ModelError."""
    path = Path(path)
    try:
        with written_whole(path) as part:
            part.write_bytes(model.to_bytes())
        card = json.dumps(model.card, indent=2, ensure_ascii=False)
        path.with_suffix(".json").write_text(card + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelError(f"Cannot save the model to {path}: {error.strerror or error}. Choose another place.") from None


def load_model(path: str | Path | None = None) -> Model:
    """Read a model file; the shipped model where `path` is None. Raises ModelError."""
    path = SHIPPED_MODEL if path is None else Path(path)
    return model_from_bytes(_read(path), str(path))


def load_outliner(path: str | Path | None = None) -> Outliner:
    """Read the model file of a U-Net; the shipped one where `path` is None. Raises ModelError."""
    path = SHIPPED_OUTLINER if path is None else Path(path)
    return Outliner(*_undone(_read(path), str(path), build_unet))


def model_from_bytes(data: bytes, name: str = "model") -> Model:
    """Undo :meth:`Model.to_bytes`; `name` is what error messages call the file. Raises ModelError."""
    model = Model(*_undone(data, name, build))
    try:
        _ = model.taxonomy
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{name} does not fit this version of napari-cervcell: {error}") from None
    return model


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"There is no model file {path}. Check the path.") from None
    except OSError as error:
        raise ModelError(f"Cannot read the model file {path}: {error.strerror or error}.") from None


def _undone(data: bytes, name: str, build: Callable[[dict[str, Any]], _Net]) -> tuple[_Net, dict[str, Any]]:
    """Return the network that `build` makes of the file's card, with the file's weights, and the card."""
    try:
        header_size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + header_size]).get("__metadata__", {})
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, UnicodeDecodeError, MemoryError):
        raise ModelError(
            f"{name} is not a whole model file: it is damaged, cut short or of another kind. Copy it again."
        ) from None
    form = str(metadata.get("format"))
    if not form.startswith(_FORMAT):
        raise ModelError(f"{name} is a safetensors file but not a napari-cervcell model. Choose another file.")
    if form not in {f"{_FORMAT}{version}" for version in range(1, _VERSION + 1)}:
        raise ModelError(f"{name} was made by a newer version of napari-cervcell. Update this one to use it.")
    try:
        card = json.loads(metadata["card"])
        if (card["architecture"]["head"] == "unet") != (build is build_unet):
            wanted, got = ("outlines nuclei", "finds cells")[:: 1 if build is build_unet else -1]
            raise ModelError(f"{name} is a model that {got}, not one that {wanted}. Choose another file.")
        network = build(card["architecture"])
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
        float(card["mpp"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name} does not fit this version of napari-cervcell: {error}") from None
    for parameter in network.parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"{name} holds weights that are not numbers. Train it again.")
    return network.eval(), card
