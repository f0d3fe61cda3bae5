"""Pixels, scale and geometry of slides that are as they should be."""

from __future__ import annotations

import copy
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_cervcell.slides import Slide, SlideError, open_slide, sample_slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .conftest import WriteSlide

WIDTH, HEIGHT = 1021, 767


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """A slide of one level whose red is x / 4 and whose green is y / 4, so that pixels tell where they are from."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x / 4, y / 4, np.full_like(x, 9)], axis=2).round().astype(np.uint8)
    path = tmp_path_factory.mktemp("ramp") / "ramp.tiff"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", metadata=None)
    return open_slide(path)


def dot(width: int, height: int, x: float, y: float) -> NDArray[np.uint8]:
    """Return white uint8 (height, width, 3) with one soft dark dot, its centre at (x, y)."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    dark = 240 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 20**2))
    return np.repeat((255 - dark).round().astype(np.uint8)[..., None], 3, axis=2)


def centre(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Return (x, y) of the centre of darkness, in pixels."""
    dark = 255.0 - pixels.mean(axis=2)
    rows, columns = np.mgrid[: dark.shape[0], : dark.shape[1]] + 0.5
    return float((dark * columns).sum() / dark.sum()), float((dark * rows).sum() / dark.sum())


def cut(level: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve as scanners do: an odd last row or column is dropped."""
    h, w = (side // 2 for side in level.shape[:2])
    return level[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def squeezed(level: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve as image libraries do: all rows and columns are resampled into the rounded size."""
    h, w = (side // 2 for side in level.shape[:2])
    return np.asarray(Image.fromarray(level).resize((w, h), Image.Resampling.BOX))


def test_sample_slide_is_described() -> None:
    with open_slide(sample_slide()) as slide:
        assert (slide.width, slide.height) == (slide.levels[0].width, slide.levels[0].height)
        assert [level.downsample for level in slide.levels] == [1, 2, 4, 8, 16]
        assert slide.mpp == pytest.approx(0.25)
        assert slide.objective_power == 40
        assert slide.format == slide.vendor == "aperio"
        assert slide.path.stat().st_size <= 12e6


def test_sample_slide_has_true_colours(sample: Slide) -> None:
    with Image.open(sample.path) as tiff:
        tiff.seek(3)
        stored = np.asarray(tiff.convert("RGB"))
    assert np.abs(sample.read_region(0, 0, stored.shape[1], stored.shape[0], 3).astype(int) - stored).mean() < 1


def test_sample_truth_lies_on_dark_nuclei(sample: Slide, sample_truth: Path) -> None:
    points = np.loadtxt(sample_truth, delimiter=",", skiprows=1, usecols=(0, 1))
    assert len(points) > 600
    pixels = sample.read_scaled(0, 0, sample.width, sample.height, 4)
    brightness = pixels.mean(axis=2)
    columns, rows = (points / 4).astype(int).T
    # a nucleus is darker than its own cytoplasm 15 µm away
    there = np.array([brightness[r - 2 : r + 3, c - 2 : c + 3].mean() for r, c in zip(rows, columns, strict=True)])
    around = np.median([brightness[rows + dy, columns + dx] for dx, dy in ((15, 0), (-15, 0), (0, 15), (0, -15))], 0)
    assert np.mean(there < around) > 0.95


def test_region_is_what_was_written(write_slide, noise) -> None:
    with open_slide(write_slide([noise])) as slide:
        region = slide.read_region(17, 33, 120, 90)
        assert region.dtype == np.uint8
        assert region.flags.writeable
        np.testing.assert_array_equal(region, noise[33:123, 17:137])


def test_outside_the_slide_is_background(write_slide, noise) -> None:
    with open_slide(write_slide([noise])) as slide:
        region = slide.read_region(-10, 190, 20, 20)
        np.testing.assert_array_equal(region[:10, 10:], noise[190:, :10])
        assert (region[10:] == 255).all()
        assert (region[:, :10] == 255).all()
        assert (slide.read_region(5000, 5000, 4, 4) == slide.background).all()


def test_tiles_cover_each_level_once(write_slide, noise) -> None:
    with open_slide(write_slide([noise, cut(noise)], tile=(128, 128))) as slide:
        size = slide.tile_size
        assert size == 512
        for i, level in enumerate((noise, cut(noise))):
            np.testing.assert_array_equal(slide.tile(i, 0, 0), level)
        with pytest.raises(IndexError, match="no tile"):
            slide.tile(0, 1, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=st.floats(20, 500),
    y=st.floats(20, 400),
    side=st.floats(20, 300),
    downsample=st.floats(0.4, 9),
    wide=st.booleans(),
)
def test_read_scaled_is_right_to_a_fraction_of_a_pixel(
    ramp: Slide, x: float, y: float, side: float, downsample: float, wide: bool
) -> None:
    width, height = (side, side / 2) if wide else (side / 3, side)
    pixels = ramp.read_scaled(x, y, width, height, downsample)
    assert pixels.shape == (max(1, round(height / downsample)), max(1, round(width / downsample)), 3)
    for channel, start, axis in ((0, x, 1), (1, y, 0)):
        at = start + (np.arange(pixels.shape[axis]) + 0.5) * downsample - 0.5
        profile = pixels[..., channel].mean(axis=1 - axis)
        np.testing.assert_allclose(profile, at / 4, atol=0.8)


def test_read_scaled_is_the_same_in_one_piece_or_many(ramp: Slide) -> None:
    whole = ramp.read_scaled(100, 60, 600, 600, 3)
    part = ramp.read_scaled(100 + 150, 60 + 300, 300, 300, 3)
    np.testing.assert_allclose(part, whole[100:200, 50:150], atol=1)


@pytest.mark.parametrize("halve", [cut, squeezed])
def test_cells_do_not_drift_between_levels(write_slide, halve) -> None:
    width, height = 2043, 1531
    x, y = width - 120.0, height - 130.0  # far from the origin, where wrong factors tell most
    levels = [dot(width, height, x, y)]
    for _ in range(4):
        levels.append(halve(levels[-1]))
    with open_slide(write_slide(levels)) as slide:
        assert [level.downsample for level in slide.levels] == [1, 2, 4, 8, 16]
        for downsample in (1, 1.5, 2, 3.1, 4, 8, 11, 16):
            left, top, side = x - 104.3, y - 101.6, 208
            found = centre(slide.read_scaled(left, top, side, side, downsample))
            assert found[0] == pytest.approx((x - left) / downsample, abs=0.5)
            assert found[1] == pytest.approx((y - top) / downsample, abs=0.5)
        pyramid = slide.pyramid()
        for level in pyramid:
            # a viewer stretches each level over the whole slide
            step_x, step_y = width / level.shape[1], height / level.shape[0]
            column, row = int((x - 100) / step_x), int((y - 100) / step_y)
            found = centre(np.asarray(level[row : row + int(200 / step_y), column : column + int(200 / step_x)]))
            assert column + found[0] == pytest.approx(x / step_x, abs=0.5)
            assert row + found[1] == pytest.approx(y / step_y, abs=0.5)


def test_pyramid_halves_until_small(sample: Slide) -> None:
    pyramid = sample.pyramid()
    assert pyramid[0].shape == (sample.height, sample.width, 3)
    assert max(pyramid[-1].shape) <= 1024
    for fine, coarse in itertools.pairwise(pyramid):
        assert coarse.shape[:2] == (round(fine.shape[0] / 2), round(fine.shape[1] / 2))
    np.testing.assert_array_equal(
        pyramid[1][1000:1700, 900:1100].compute(), sample.read_region(1800, 2000, 200, 700, level=1)
    )


def test_slide_of_one_level_has_a_pyramid(write_slide) -> None:
    pixels = np.full((1100, 2200, 3), 200, np.uint8)
    with open_slide(write_slide([pixels])) as slide:
        shapes = [level.shape for level in slide.pyramid()]
        assert shapes == [(1100, 2200, 3), (550, 1100, 3), (275, 550, 3)]
        assert (slide.pyramid()[-1].compute() == 200).all()


def test_thumbnail_fits(sample: Slide) -> None:
    thumbnail = sample.thumbnail(300)
    assert max(thumbnail.shape) == 300
    assert thumbnail.shape[0] == round(300 * sample.height / sample.width)


def test_many_threads_read_the_same_pixels(sample: Slide) -> None:
    places = [(x, y) for x in range(3000, 6000, 700) for y in range(1000, 4000, 700)]
    alone = [sample.read_region(x, y, 200, 200) for x, y in places]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda p: sample.read_region(*p, 200, 200), places))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_scale_is_asked_for_when_the_file_has_none(write_slide, noise) -> None:
    path = write_slide([noise])
    with open_slide(path) as slide:
        assert slide.mpp is None
        assert slide.mpp_xy is None
        assert slide.objective_power is None
        slide.mpp = 0.5
        assert slide.mpp_xy == (0.5, 0.5)
        with pytest.raises(SlideError, match=r"made\.tiff.*between"):
            slide.mpp = 0
    assert open_slide(path, mpp=0.3).mpp == pytest.approx(0.3)


def test_scale_in_the_file_gives_way_to_the_users() -> None:
    assert open_slide(sample_slide(), mpp=0.23).mpp == pytest.approx(0.23)


def test_print_resolution_is_no_scale(write_slide, noise) -> None:
    path = write_slide([noise], resolution=(72, 72), resolutionunit="INCH")
    assert open_slide(path).mpp is None


def test_fingerprint_goes_with_the_pixels_not_the_name(write_slide, noise) -> None:
    first, same, other = (
        open_slide(write_slide([pixels], name)).fingerprint
        for name, pixels in (("a.tiff", noise), ("b.tiff", noise), ("c.tiff", noise[::-1]))
    )
    assert first == same != other


def test_copy_of_a_slide_is_open_and_has_its_scale(write_slide, noise) -> None:
    slide = open_slide(write_slide([noise]), mpp=0.4)
    twin = copy.deepcopy(slide)
    slide.close()
    assert twin.mpp == pytest.approx(0.4)
    np.testing.assert_array_equal(twin.read_region(0, 0, 300, 200), noise)


def test_every_place_up_to_the_edge_is_read_where_levels_are_no_exact_halves(
    write_slide: WriteSlide, noise: NDArray[np.uint8]
) -> None:
    """OpenSlide begins to read at whole level-0 pixels, which may lie before those of the level."""
    rgba = np.dstack([noise[:199, :299], np.full((199, 299), 255, np.uint8)])
    half = np.ascontiguousarray(rgba[::2, ::2][:99, :149])
    with open_slide(write_slide([rgba, half], extrasamples=["unassalpha"])) as slide:
        assert slide.reader == "openslide"
        for x in np.linspace(0, 250, 60).tolist():
            assert slide.read_scaled(x, x / 2, slide.width - x, slide.height - x / 2, 2).size
