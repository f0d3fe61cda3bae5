"""Drawn cells: dark discs are cells, ovals look like them, and the glass is pale."""

from __future__ import annotations

import numpy as np

from napari_cervcell.learning.fields import Field

NONE = np.zeros((0, 4), np.float32)


def boxes(*centres: tuple[float, float], side: float = 30) -> np.ndarray:
    half = np.array([-side, -side, side, side], np.float32) / 2
    return (np.array([[x, y, x, y] for x, y in centres], np.float32).reshape(-1, 4) + half).astype(np.float32)


def patches(shapes: list[str], rng: np.random.Generator, side: int = 32) -> np.ndarray:
    """uint8 (n, side, side, 3): a shape of any size and shade near the middle of each, "" for none."""
    y, x = np.mgrid[:side, :side]
    images = np.zeros((len(shapes), side, side, 3), np.uint8)
    for i, shape in enumerate(shapes):
        dx, dy = np.abs(x - side / 2 + rng.uniform(-2, 2)), np.abs(y - side / 2 + rng.uniform(-2, 2))
        size = side * rng.uniform(0.2, 0.3)
        inside = {"disc": np.hypot(dx, dy) < size, "square": np.maximum(dx, dy) < size, "": dx < 0}
        inside["oval"] = np.hypot(dx, dy / 0.55) < size
        inside["cross"] = (np.minimum(dx, dy) < size / 3) & (np.maximum(dx, dy) < 1.3 * size)
        image = np.full((side, side, 3), (225, 205, 220), float)
        image[inside[shape]] = np.array([90, 60, 120]) + rng.uniform(-15, 15)
        images[i] = np.clip(image + rng.normal(0, 5, image.shape), 0, 255)
    return images


def field(name: str, cells: list[tuple[float, float]], **known: np.ndarray) -> Field:
    """A blank field of 400 x 300 px at 0.25 µm (100 x 75 µm) with cells where told."""
    rgb = np.full((300, 400, 3), 220, np.uint8)
    return Field(name, rgb, 0.25, boxes(*cells), np.zeros(len(cells), np.int16), **known)
