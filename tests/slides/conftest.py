"""Small slides made on the spot: what a test needs of a file should be seen in the test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

if TYPE_CHECKING:
    from numpy.typing import NDArray

WriteSlide = Callable[..., Path]


@pytest.fixture
def write_slide(tmp_path: Path) -> WriteSlide:
    """Return a function that writes levels, uint8 (h, w, 3) each, as a tiled TIFF without scale."""

    def write(levels: Sequence[NDArray[np.uint8]], name: str = "made.tiff", **settings: Any) -> Path:
        path = tmp_path / name
        with tifffile.TiffWriter(path) as tiff:
            for i, level in enumerate(levels):
                options = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "subfiletype": int(i > 0)}
                tiff.write(level, **options | settings)
        return path

    return write


@pytest.fixture
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
