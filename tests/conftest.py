"""What several rooms' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from napari_cervcell.models import DEFAULT_CONFIG, Model, build, load_model
from napari_cervcell.slides import Slide, open_slide, sample_slide
from napari_cervcell.taxonomy import BETHESDA

# a busy machine is slow now and then; speed is not what tests are for
settings.register_profile("cervcell", deadline=None)
settings.load_profile("cervcell")


@pytest.fixture(scope="session")
def shipped_model() -> Model:
    return load_model()


@pytest.fixture
def small_model() -> Model:
    """A model of the right build with fresh weights: quick to save, damage and compare."""
    card = {"name": "small", "architecture": DEFAULT_CONFIG, "taxonomy": BETHESDA.to_json(), "mpp": 0.5}
    return Model(build(DEFAULT_CONFIG).eval(), card)


@pytest.fixture(scope="session")
def sample() -> Slide:
    return open_slide(sample_slide())


@pytest.fixture
def sample_truth() -> Path:
    return sample_slide().with_name("cric_sample_points.csv")
