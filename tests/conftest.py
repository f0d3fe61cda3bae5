"""What several rooms' tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
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
def labelled_svs(tmp_path: Path) -> Path:
    """An Aperio slide as scanners write it, with a thumbnail, a label (red), a macro image, and a patient's name."""
    path, scanner = tmp_path / "labelled.svs", "Aperio Image Library v11.2.1\r\n"
    pixels = np.full((800, 1200, 3), 230, np.uint8)
    beside = np.full((40, 60, 3), (200, 30, 90), np.uint8)
    with tifffile.TiffWriter(path) as tiff:

        def write(image: np.ndarray, what: str, **settings: object) -> None:
            tiff.write(image, photometric="rgb", metadata=None, description=scanner + what, **settings)

        write(pixels, "1200x800 (256x256) JPEG/RGB Q=85|AppMag = 40|MPP = 0.25|Patient = Jane Doe", tile=(256, 256))
        write(pixels[::8, ::8], "1200x800 -> 150x100 - |AppMag = 40", compression="jpeg")
        write(beside, "label 60x40", compression="lzw", subfiletype=1)
        write(beside[:, ::-1], "macro 60x40", compression="jpeg", subfiletype=9)
    return path


@pytest.fixture
def sample_truth() -> Path:
    return sample_slide().with_name("cric_sample_points.csv")
