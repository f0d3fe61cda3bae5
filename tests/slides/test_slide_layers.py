"""What napari gets: plain layer tuples, without napari."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cervcell.slides import Slide, SlideError, sample_slide
from napari_cervcell.slides.layers import get_reader, read


def test_sample_is_one_multiscale_image_in_micrometres() -> None:
    ((data, settings, kind),) = read(str(sample_slide()))
    assert kind == "image"
    assert settings["name"] == "cric_sample"
    assert settings["scale"] == pytest.approx((0.25, 0.25))
    assert settings["units"] == ("um", "um")
    assert settings["multiscale"]
    assert settings["rgb"]
    assert isinstance(settings["metadata"]["slide"], Slide)
    assert np.asarray(data[-1]).shape == data[-1].shape


def test_slide_without_scale_is_shown_in_pixels(write_slide, noise) -> None:
    path = str(write_slide([noise]))
    ((_, settings, _),) = get_reader(path)(path)
    assert settings["units"] == ("pixel", "pixel")
    assert "scale" not in settings


def test_several_slides_are_several_layers(write_slide, noise) -> None:
    paths = [str(write_slide([noise], name)) for name in ("a.tiff", "b.tiff")]
    assert [settings["name"] for _, settings, _ in get_reader(paths)(paths)] == ["a", "b"]


def test_others_files_are_left_to_others(tmp_path: Path, noise) -> None:
    plain = tmp_path / "photo.tif"
    tifffile.imwrite(plain, noise)
    table = tmp_path / "table.csv"
    table.write_text("x,y\n")
    for path in (plain, table, tmp_path, tmp_path / "gone.tif"):
        assert get_reader(str(path)) is None
    assert get_reader([str(sample_slide()), str(plain)]) is None


@pytest.mark.parametrize("name", ["broken.svs", "broken.NDPI", "broken.tiff"])
def test_broken_slides_are_explained_not_passed_on(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(sample_slide().read_bytes()[:5000])
    reader = get_reader(str(path))
    assert reader is not None
    with pytest.raises(SlideError, match="broken"):
        reader(str(path))


def test_reading_a_slide_loads_neither_torch_nor_qt_nor_napari() -> None:
    code = (
        "import sys; from napari_cervcell.slides import layers, sample_slide; layers.read(str(sample_slide())); "
        "print([m for m in ('torch', 'qtpy', 'PyQt5', 'PyQt6', 'napari') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
