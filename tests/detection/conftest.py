"""What the tests of detection share."""

from __future__ import annotations

import pytest

from napari_cervcell.detection import TileGrid
from napari_cervcell.models import Model
from napari_cervcell.slides import Slide


@pytest.fixture(scope="session")
def grid(sample: Slide, quick_model: Model) -> TileGrid:
    return TileGrid.of(sample.width, sample.height, sample.mpp_xy, quick_model.mpp)
