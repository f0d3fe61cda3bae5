"""Empty glass is left out, cells never."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_cervcell.slides import Slide, foreground, open_slide


def test_sample_keeps_its_cells_and_drops_the_margin(sample: Slide, sample_truth: Path) -> None:
    found = foreground(sample)
    points = np.loadtxt(sample_truth, delimiter=",", skiprows=1, usecols=(0, 1))
    kept = np.mean([found.covers(x, y, x + 1, y + 1) for x, y in points])
    assert kept >= 0.995
    assert 0.1 < found.share < 0.6
    assert not found.covers(0, 0, sample.width, 256)
    assert found.covers(0, 0, sample.width, sample.height)
    assert found.mask.shape == (round(sample.height / found.downsample), round(sample.width / found.downsample))


def test_pale_cytoplasm_is_kept_and_uneven_light_is_not(write_slide) -> None:
    y, x = np.mgrid[:2000, :3000]
    light = 250 - 14 * x / 3000  # lamps are rarely central
    pixels = np.repeat(light[..., None], 3, axis=2) + np.random.default_rng(1).normal(0, 3, (2000, 3000, 1))
    inside = (x - 2000) ** 2 + (y - 900) ** 2 < 120**2  # one squame of 60 µm
    pixels[inside] -= (18, 6, 2)
    path = write_slide([pixels.clip(0, 255).astype(np.uint8)])
    with open_slide(path, mpp=0.25) as slide:
        found = foreground(slide)
    assert found.covers(1990, 890, 2010, 910)
    assert not found.covers(0, 0, 1500, 2000)
    assert not found.covers(2300, 0, 3000, 2000)
    assert found.share < 0.03


def test_empty_and_unscanned_glass_is_no_foreground(write_slide) -> None:
    pixels = np.full((1000, 1000, 3), 244, np.uint8)
    pixels[:, 600:] = 0
    with open_slide(write_slide([pixels])) as slide:
        found = foreground(slide)
    assert not found.covers(0, 0, 500, 1000)
    assert not found.covers(700, 0, 1000, 1000)


def test_a_slide_full_of_cells_is_all_foreground(write_slide) -> None:
    pixels = np.full((800, 800, 3), (190, 150, 200), np.uint8)
    with open_slide(write_slide([pixels])) as slide:
        assert foreground(slide).share == 1
