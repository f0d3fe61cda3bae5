"""Empty glass is left out, cells never."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from napari_cervcell.slides import Slide, foreground, open_slide, sample_slide
from napari_cervcell.slides.make import Made, make_slide
from napari_cervcell.slides.marks import marks

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def test_what_cannot_be_read_is_looked_at(tmp_path: Path, scratch: Callable, sample_truth: Path) -> None:
    """A hole in the small picture of the slide takes no cells away and the glass elsewhere stays glass."""
    path = Path(shutil.copy(sample_slide(), tmp_path / "damaged.tiff"))
    with open_slide(path) as slide:
        whole = foreground(slide)
        level = max(i for i, stored in enumerate(slide.levels) if stored.downsample <= whole.downsample)
        scratch(path, slide.width - 300, slide.height / 2, (level,))
        found = foreground(slide)
    assert found.covers(slide.width - 301, slide.height / 2, slide.width - 300, slide.height / 2 + 1)
    assert (found.mask | ~whole.mask).mean() > 0.999
    assert whole.share < found.share < whole.share + 0.3


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


STEP = 4  # level-0 px of the sample slide a px of the slides that are drawn on: 1 µm
INKS = {"blue": (40, 60, 170), "green": (30, 120, 70), "black": (35, 35, 40), "red": (190, 30, 45)}
Outline = Callable[[ImageDraw.ImageDraw], None]


@pytest.fixture(scope="module")
def field(sample: Slide) -> NDArray[np.uint8]:
    """The whole sample slide at 1 µm a pixel."""
    return sample.read_scaled(0, 0, sample.width, sample.height, STEP)


@pytest.fixture
def nuclei(sample_truth: Path) -> NDArray[np.float64]:
    return np.loadtxt(sample_truth, delimiter=",", skiprows=1, usecols=(0, 1)) / STEP


@pytest.fixture
def seen_with(write_slide, sample: Slide, field: NDArray[np.uint8], nuclei: NDArray[np.float64]):
    """Return a function that draws on the sample as light would have it, in `colour`, and asks for the foreground.

    It gives the share of what was drawn on empty glass that is foreground, and the share of the nuclei that are, those
    left out that the drawing hides or touches (nearer than 30 µm).
    """

    before = foreground(sample).mask  # of the same pixel size, 4 µm

    def see(draw: Outline, colour: tuple[int, int, int]) -> tuple[float, float]:
        drawing = Image.new("L", field.shape[1::-1])
        draw(ImageDraw.Draw(drawing))
        opacity = np.asarray(drawing.filter(ImageFilter.GaussianBlur(2)), np.float32)[..., None] / 255
        shown = field * (np.array(colour, np.float32) / 255) ** opacity
        hidden = opacity[..., 0] > 0.3
        touched = ndimage.maximum_filter(hidden, 61)
        with open_slide(write_slide([shown.astype(np.uint8)]), mpp=1.0) as slide:
            found = foreground(slide)
        step = int(found.downsample)
        drawn = hidden[step // 2 :: step, step // 2 :: step][: found.mask.shape[0], : found.mask.shape[1]]
        on_glass = drawn & ~before
        free = [found.covers(x, y, x + 1, y + 1) for x, y in nuclei if not touched[int(y), int(x)]]
        assert on_glass.sum() > 500
        assert len(free) > 350
        return float(found.mask[on_glass].mean()), float(np.mean(free))

    return see


@pytest.mark.parametrize("ink", INKS)
def test_a_stroke_of_a_pen_is_left_out(ink: str, seen_with) -> None:
    path = [(900 + 150 * np.sin(y / 300), y) for y in range(0, 1728, 40)]
    shown, kept = seen_with(lambda d: d.line(path, fill=255, width=300, joint="curve"), INKS[ink])
    assert shown < 0.05
    assert kept >= 0.995


def test_rims_of_bubbles_are_left_out(seen_with) -> None:
    def bubbles(d: ImageDraw.ImageDraw) -> None:
        for x, y, radius in ((500, 300, 420), (2400, 1300, 330)):
            d.ellipse((x - radius, y - radius, x + radius, y + radius), outline=255, width=36)

    shown, kept = seen_with(bubbles, (85, 88, 90))
    assert shown < 0.3  # where a rim crosses cells, they are kept, with some of it
    assert kept >= 0.995


def test_the_edge_of_the_coverslip_is_left_out(seen_with) -> None:
    shown, kept = seen_with(lambda d: d.line([(0, 60), (2816, 30)], fill=255, width=24), (140, 143, 145))
    assert shown < 0.05
    assert kept >= 0.995


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_slide(tmp_path_factory.mktemp("crowded") / "a.svs", 12_288, 12_288, seed=7, density=500, noise=0)


@pytest.mark.parametrize("step", [8, 16, 32, 64])
def test_piled_cells_are_no_marks_however_coarse_the_pixels(crowded: Made, step: int) -> None:
    points = np.loadtxt(crowded.truth, delimiter=",", skiprows=1, usecols=(0, 1))
    with open_slide(crowded.slide) as slide:
        pixels = slide.read_scaled(0, 0, slide.width, slide.height, step)
    found = marks(pixels, np.full_like(pixels, pixels.max(axis=(0, 1))), 0.25 * step)
    assert np.mean([found[int(y) // step, int(x) // step] for x, y in points]) < 0.005
