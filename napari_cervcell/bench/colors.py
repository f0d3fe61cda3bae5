"""How colours look to readers who do not tell red from green, and how far apart they stay."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["KINDS", "closest", "difference", "seen_with"]

FloatArray = NDArray[np.float64]

KINDS = ("usual", "protanopia", "deuteranopia")

# G. M. Machado, M. M. Oliveira and L. A. F. Fernandes, A physiologically-based model for simulation of color vision
# deficiency (2009), severity 1, for linear RGB
_MATRICES = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(axis=1)


def seen_with(rgb: ArrayLike, kind: str) -> FloatArray:
    """Return sRGB colours (..., 3), 0 to 1, as they look with one of :data:`KINDS` of vision."""
    seen = np.clip(_linear(rgb) @ _MATRICES[kind].T, 0, 1)
    back: FloatArray = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return back


def difference(a: ArrayLike, b: ArrayLike) -> float:
    """Return how different two sRGB colours look: the distance in CIELAB, of which 2.3 is just noticeable."""
    return float(np.linalg.norm(_lab(a) - _lab(b)))


def closest(colors: Sequence[str], kind: str) -> tuple[float, int, int]:
    """Return the distance of the two most alike of `colors` (``#rrggbb``) with a kind of vision, and which they are."""
    seen = [seen_with([int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)], kind) for c in colors]
    return min((difference(seen[i], seen[j]), i, j) for i, j in combinations(range(len(seen)), 2))


def _linear(rgb: ArrayLike) -> FloatArray:
    rgb = np.asarray(rgb, np.float64)
    linear: FloatArray = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear


def _lab(rgb: ArrayLike) -> FloatArray:
    t = _linear(rgb) @ _TO_XYZ.T / _WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
