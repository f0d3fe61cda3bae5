"""Model files: which ship, and what they hold, weights and card, as far as no network is needed to read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from .errors import CervcellError
from .files import refuse_database

__all__ = [
    "ACCURATE_MODEL",
    "SHIPPED_MODEL",
    "ModelError",
    "header",
    "misfit",
    "model_file",
    "read",
    "unpacked",
]

_MODELS = Path(__file__).parent / "models"

SHIPPED_MODEL = _MODELS / "cervcell-lite0.safetensors"
"""The detector that is used unless another one is asked for."""
ACCURATE_MODEL = _MODELS / "cervcell-ensemble.safetensors"
"""The detector that finds more and takes longer."""

Weights = dict[str, NDArray[Any]]
Card = dict[str, Any]

_FORMAT = "napari-cervcell model "
_VERSION = 3
_PARTS_OF_1 = {"backbone": "efficientnet-lite0", "neck": "top-down", "head": "fcos"}


class ModelError(CervcellError):
    """A model file is missing, damaged, or not made for this work."""


def model_file(text: str) -> Path:
    """Return the model file that a command line means: "accurate" is the one that ships."""
    return ACCURATE_MODEL if text == "accurate" else Path(text)


def misfit(name: str, error: Exception) -> ModelError:
    """Return what to raise where what the file `name` holds is not what a network is made from."""
    return ModelError(f"{name} does not fit this version of napari-cervcell: {error}")


def header(card: Card) -> dict[str, str]:
    """Return what stands in the file beside the weights.

    Its version is the first that knows the card's architecture, so that older installations read what they can: 1 knew
    one network, without embedding; 2 every one by itself; 3 ensembles.
    """
    architecture = card["architecture"]
    of_1 = not {"embedding", "rotations"} & architecture.keys() and _PARTS_OF_1.items() <= architecture.items()
    version = 3 if "ensemble_with" in architecture else 1 if of_1 else 2
    return {"format": f"{_FORMAT}{version}", "card": json.dumps(card, ensure_ascii=False)}


def read(path: Path) -> bytes:
    """Return what is in the file. Raises ModelError, and CervcellError where it is a case that is open."""
    refuse_database(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"There is no model file {path}. Check the path.") from None
    except OSError as error:
        raise ModelError(f"Cannot read the model file {path}: {error.strerror or error}.") from None


def unpacked(data: bytes, name: str) -> tuple[Weights, Card]:
    """Return the weights and the card in `data`, the bytes of a file that error messages call `name`.

    Raises ModelError where it is no whole model file of a known version, or holds what are no numbers.
    """
    try:
        weights = safetensors.numpy.load(data)
        header_size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + header_size]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, MemoryError):  # KeyError: numbers of a kind that numpy has not
        raise ModelError(
            f"{name} is not a whole model file: it is damaged, cut short or of another kind. Copy it again."
        ) from None
    form = str(metadata.get("format"))
    if not form.startswith(_FORMAT):
        raise ModelError(f"{name} is a safetensors file but not a napari-cervcell model. Choose another file.")
    if form not in {f"{_FORMAT}{version}" for version in range(1, _VERSION + 1)}:
        raise ModelError(f"{name} was made by a newer version of napari-cervcell. Update this one to use it.")
    try:
        card: Card = json.loads(metadata["card"])
        _ = card["architecture"]["head"], float(card["mpp"])  # what every model has
    except (KeyError, TypeError, ValueError) as error:
        raise misfit(name, error) from None
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise ModelError(f"{name} holds weights that are not numbers. Train it again.")
    return weights, card
