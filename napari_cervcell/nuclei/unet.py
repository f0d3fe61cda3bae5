"""What `models.UNet` says of an image, computed by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray
from ..weights import Card, ModelError, Weights, misfit, read, unpacked

__all__ = ["SHIPPED_OUTLINER", "Outliner", "load_outliner"]

SHIPPED_OUTLINER = Path(__file__).with_name("cervcell-nuclei.safetensors")

_EPS = 1e-5  # of torch's batch normalisation
_MIDDLE, _RANGE = np.float32(127), np.float32(128)  # of the colours, as `models.to_input` has them

Layer = tuple[FloatArray, FloatArray]


class Outliner:
    """The U-Net that outlines nuclei.

    Attributes
    ----------
    mpp : float
        µm per px that it sees.
    card : dict
    """

    def __init__(self, weights: Weights, card: Card) -> None:
        w: dict[str, FloatArray] = {name: array.astype(np.float32) for name, array in weights.items()}
        depth = card["architecture"]["depth"]
        self.card = card
        self.mpp = float(card["mpp"])
        self._down = [_twice(w, f"down.{i}") for i in range(depth + 1)]
        self._up = [(w[f"up.{i}.weight"], w[f"up.{i}.bias"]) for i in range(depth)]
        self._merge = [_twice(w, f"merge.{i}") for i in range(depth)]
        self._nucleus = w["nucleus.weight"].reshape(-1), w["nucleus.bias"]

    def __call__(self, rgb: NDArray[np.uint8]) -> FloatArray:
        """Return the logits of "nucleus", float32 (h, w), for uint8 (h, w, 3); both multiples of ``2 ** depth``."""
        x = np.ascontiguousarray(((rgb.astype(np.float32) - _MIDDLE) / _RANGE).transpose(2, 0, 1))
        across: list[FloatArray] = []
        for i, layers in enumerate(self._down):
            x = _through(layers, _halved(x) if i else x)
            across.append(x)
        for up, layers, skip in zip(self._up, self._merge, across[-2::-1], strict=True):
            x = _through(layers, np.concatenate([_doubled(x, *up), skip]))
        weight, bias = self._nucleus
        logits: FloatArray = np.tensordot(weight, x, 1) + bias
        return logits


def load_outliner(path: str | Path | None = None) -> Outliner:
    """Read the model file of a U-Net; the shipped one where `path` is None. Raises ModelError."""
    path = SHIPPED_OUTLINER if path is None else Path(path)
    weights, card = unpacked(read(path), str(path))
    if card["architecture"]["head"] != "unet":
        raise ModelError(f"{path} is a model that finds cells, not one that outlines nuclei. Choose another file.")
    try:
        return Outliner(weights, card)
    except (KeyError, TypeError, ValueError) as error:
        raise misfit(str(path), error) from None


def _twice(w: dict[str, FloatArray], name: str) -> list[Layer]:
    """Return two convolutions, each as (weight, bias) with the normalisation after it."""
    layers: list[Layer] = []
    for i in (0, 3):
        norm = f"{name}.{i + 1}"
        gain = w[f"{norm}.weight"] / np.sqrt(w[f"{norm}.running_var"] + np.float32(_EPS))
        bias = w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * gain
        layers.append((w[f"{name}.{i}.weight"] * gain[:, None, None, None], bias))
    return layers


def _through(layers: list[Layer], x: FloatArray) -> FloatArray:
    """Return what 3 x 3 convolutions, each with what is below 0 cut off, make of `x` (c, h, w)."""
    for weight, bias in layers:
        c, h, w = x.shape
        padded = np.zeros((c, h + 3, w + 2), np.float32)
        padded[:, 1 : h + 1, 1 : w + 1] = x
        # in rows one after the other, a step to any neighbour is a step along one axis
        along, n = padded.reshape(c, -1), h * (w + 2)
        y = np.repeat(bias[:, None], n, axis=1)
        for row in range(3):
            for column in range(3):
                start = row * (w + 2) + column
                y += weight[:, :, row, column] @ along[:, start : start + n]
        x = np.maximum(y, 0, out=y).reshape(-1, h, w + 2)[:, :, :w]
    return x


def _halved(x: FloatArray) -> FloatArray:
    """Return the greatest of each two by two."""
    c, h, w = x.shape
    greatest: FloatArray = x.reshape(c, h // 2, 2, w // 2, 2).max((2, 4))
    return greatest


def _doubled(x: FloatArray, weight: FloatArray, bias: FloatArray) -> FloatArray:
    """Return each pixel made into two by two."""
    c, h, w = x.shape
    out = weight.shape[1]
    made = weight.transpose(1, 2, 3, 0).reshape(-1, c) @ x.reshape(c, -1)
    squares: FloatArray = made.reshape(out, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(out, 2 * h, 2 * w)
    return squares + bias[:, None, None]
