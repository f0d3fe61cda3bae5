"""OME-Zarr pyramids are slides like any other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from napari_cervcell.slides import SlideError, open_slide
from napari_cervcell.slides.layers import get_reader

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.fixture
def levels(noise: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [noise, noise[::2, ::2], noise[::4, ::4]]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["cyx", "yxc", "tczyx"])
def test_pixels_levels_and_scale(write_zarr, levels, version: int, axes: str) -> None:
    with open_slide(write_zarr(levels, axes, version)) as slide:
        assert (slide.format, slide.reader) == ("ome-zarr", "zarr")
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        assert slide.mpp_xy == (0.25, 0.5)
        for i, level in enumerate(levels):
            np.testing.assert_array_equal(slide.read_region(0, 0, *level.shape[1::-1], i), level)
        np.testing.assert_array_equal(slide.tile(0, 0, 0), levels[0])
        np.testing.assert_array_equal(slide.read_region(40, 12, 120, 90), levels[0][12:102, 40:160])
        assert (slide.read_region(-5, 0, 5, 5) == 255).all()


@pytest.mark.parametrize("unit", ["nanometer", "millimeter", None])
def test_scale_that_no_microscope_has_is_none(write_zarr, levels, unit: str | None) -> None:
    assert open_slide(write_zarr(levels, unit=unit)).mpp is None


def test_image_that_a_converter_put_into_a_subgroup(write_zarr, levels) -> None:
    path = write_zarr(levels, version=2)
    outer = path.with_name("outer.zarr")
    zarr.open_group(outer, mode="w", zarr_format=2)
    shutil.move(path, outer / "0")
    with open_slide(outer) as slide:
        np.testing.assert_array_equal(slide.tile(0, 0, 0), levels[0])


def test_napari_gets_a_layer(write_zarr, levels, tmp_path: Path) -> None:
    path = str(write_zarr(levels))
    ((data, settings, _),) = get_reader(path)(path)
    assert settings["scale"] == (0.5, 0.25)
    np.testing.assert_array_equal(np.asarray(data[0]), levels[0])


def test_other_arrays_are_refused_and_left_to_other_readers(write_zarr, noise, tmp_path: Path) -> None:
    deep = write_zarr([noise.astype(np.uint16)], name="deep.zarr")
    with pytest.raises(SlideError, match=r"deep\.zarr is no 8-bit RGB slide.*uint16"):
        open_slide(deep)
    bare = tmp_path / "bare.zarr"
    zarr.open_group(bare, mode="w")
    with pytest.raises(SlideError, match=r"bare\.zarr is no OME-Zarr image"):
        open_slide(bare)
    assert get_reader(str(deep)) is None
    assert get_reader(str(bare)) is None


def restate(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what an OME-Zarr says of its image."""
    group = zarr.open_group(path)
    said = dict(group.attrs["ome"])
    change(said["multiscales"][0])
    group.attrs["ome"] = said


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(coordinateTransformations=[{"type": "scale", "scale": [0.5, 2]}]),
        lambda said: said["datasets"][0].update(coordinateTransformations=[{"type": "scale", "path": "scales"}]),
        lambda said: said["datasets"][0].update(path="group"),
        lambda said: said["datasets"].clear(),
        lambda said: said.pop("axes"),
    ],
    ids=["too few numbers", "numbers elsewhere", "a group", "no datasets", "no axes"],
)
def test_wrong_metadata_are_explained(write_zarr, levels, change: Callable[[dict[str, Any]], object]) -> None:
    path = write_zarr(levels)
    zarr.open_group(path).create_group("group")
    restate(path, change)
    with pytest.raises(SlideError, match=r"made\.zarr is no OME-Zarr image that can be read.*export it again"):
        open_slide(path)


def test_a_unit_without_a_scale_is_no_scale(write_zarr, levels) -> None:
    path = write_zarr(levels)
    restate(path, lambda said: [dataset.pop("coordinateTransformations") for dataset in said["datasets"]])
    with open_slide(path) as slide:
        assert slide.mpp is None


def test_damage_is_told(write_zarr, levels) -> None:
    path = write_zarr(levels)
    with open_slide(path) as slide:
        (path / "0" / "c" / "0" / "1" / "1").write_bytes(b"no pixels")
        with pytest.raises(SlideError, match=r"made\.zarr.*cannot be read"):
            slide.read_region(64, 64, 10, 10)
        np.testing.assert_array_equal(slide.read_region(0, 0, 64, 64), levels[0][:64, :64])
        shutil.rmtree(path)
        with pytest.raises(SlideError, match=r"made\.zarr.*drive"):
            slide.read_region(0, 0, 64, 64)


def test_fingerprint_goes_with_the_pixels_not_the_name(write_zarr, levels) -> None:
    first, same, other = (
        open_slide(write_zarr(pixels, name=name)).fingerprint
        for name, pixels in (("a.zarr", levels), ("b.zarr", levels), ("c.zarr", levels[:2]))
    )
    assert first == same != other
