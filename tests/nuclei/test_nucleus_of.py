"""The nucleus of a cell on a slide: where it is, how large, and the same whatever the slide's resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from napari_cervcell.nuclei import NucleusError, Outliner, load_outliner, nucleus_of
from napari_cervcell.slides import Slide, open_slide

NONE = np.zeros((0, 4), np.float32)
PINK, TEAL, VIOLET = (232, 190, 200), (170, 205, 205), (80, 60, 110)


@pytest.fixture(scope="module")
def outliner() -> Outliner:
    return load_outliner()


def drawn(path: Path, mpp: float, nuclei: list[tuple[float, float, float, float]], cytoplasm=PINK) -> Slide:
    """A slide of 120 µm with nuclei (x, y, half axes, all in µm) in cytoplasm."""
    side = round(120 / mpp)
    y, x = (np.mgrid[:side, :side] + 0.5) * mpp
    rgb = np.empty((side, side, 3))
    rgb[:] = cytoplasm
    for cx, cy, a, b in nuclei:
        rgb[((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1] = VIOLET
    rgb = gaussian_filter(rgb, (0.4 / mpp, 0.4 / mpp, 0)) + np.random.default_rng(0).normal(0, 4, (side, side, 1))
    tifffile.imwrite(
        path, rgb.clip(0, 255).astype(np.uint8), tile=(256, 256), photometric="rgb", resolution=(1e4 / mpp, 1e4 / mpp),
        resolutionunit="CENTIMETER", compression="deflate",
    )  # fmt: skip
    return open_slide(path, mpp=mpp)


def box_of(x: float, y: float, mpp: float, side: float = 15.0) -> np.ndarray:
    return (np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2]) / mpp).astype(np.float32)


@pytest.mark.parametrize("mpp", [0.25, 0.5])
@pytest.mark.parametrize("cytoplasm", [PINK, TEAL])
@pytest.mark.parametrize(("a", "b"), [(4.0, 4.0), (7.0, 5.0), (9.5, 8.0)])
def test_a_drawn_nucleus_has_its_place_and_area(
    outliner: Outliner, tmp_path: Path, mpp: float, cytoplasm: tuple[int, int, int], a: float, b: float
) -> None:
    with drawn(tmp_path / "one.tiff", mpp, [(60, 60, a, b)], cytoplasm) as slide:
        nucleus = nucleus_of(outliner, slide, box_of(60, 60, mpp), NONE)
    assert nucleus is not None
    assert nucleus.area == pytest.approx(np.pi * a * b, rel=0.2)
    assert nucleus.share == pytest.approx(min(1, nucleus.area / 15**2), rel=0.01)
    np.testing.assert_allclose(nucleus.outline.mean(0) * mpp, 60, atol=1)
    np.testing.assert_allclose(np.ptp(nucleus.outline, axis=0) * mpp, [2 * a, 2 * b], atol=2)


def test_cells_that_touch_share_out_what_is_dark(outliner: Outliner, tmp_path: Path) -> None:
    with drawn(tmp_path / "two.tiff", 0.25, [(56.5, 60, 4, 4), (63.5, 60, 4, 4)]) as slide:
        left, right = (box_of(x, 60, 0.25) for x in (56.5, 63.5))
        nucleus = nucleus_of(outliner, slide, left, right[None])
    assert nucleus is not None
    assert nucleus.area == pytest.approx(np.pi * 16, rel=0.25)
    assert nucleus.outline[:, 0].max() * 0.25 < 61


def test_where_there_is_no_nucleus_none_is_found(outliner: Outliner, tmp_path: Path) -> None:
    with drawn(tmp_path / "empty.tiff", 0.25, []) as slide:
        assert nucleus_of(outliner, slide, box_of(60, 60, 0.25), NONE) is None
        assert nucleus_of(outliner, slide, box_of(2, 118, 0.25), NONE) is None


def test_without_mpp_a_nucleus_has_no_size(outliner: Outliner, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "no.tiff", np.full((512, 512, 3), 200, np.uint8), tile=(256, 256), photometric="rgb")
    with open_slide(tmp_path / "no.tiff") as slide, pytest.raises(NucleusError, match=r"no\.tiff does not say"):
        nucleus_of(outliner, slide, np.array([100, 100, 160, 160], np.float32), NONE)


def test_real_cells_have_nuclei_of_likely_size_where_the_cytologists_pointed(
    outliner: Outliner, sample: Slide, sample_truth: Path
) -> None:
    table = np.genfromtxt(sample_truth, delimiter=",", names=True, dtype=None, encoding="utf-8")
    areas = []
    for row in table[:: max(1, len(table) // 60)]:
        nucleus = nucleus_of(outliner, sample, box_of(row["x"] * 0.25, row["y"] * 0.25, 0.25), NONE)
        areas.append(0 if nucleus is None else nucleus.area)
    assert np.mean((np.array(areas) > 12) & (np.array(areas) < 350)) > 0.9
