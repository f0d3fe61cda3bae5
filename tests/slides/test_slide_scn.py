"""SCN files of Leica: areas anywhere on the slide, each with levels of its own, read as OpenSlide shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from napari_cervcell.slides import Slide, open_slide
from napari_cervcell.slides.scn import areas_of

RGB = NDArray[np.uint8]

SIZE = 1200, 800  # px
STEP = 250  # nm a px
SPACE = "http://www.leica-microsystems.com/scn/2010/10/01"
ABOUT = (
    '<creationDate>2020-01-01T00:00:00.00Z</creationDate><device model="Leica SCN400" version="1"/><scanSettings>'
    "<objectiveSettings><objective>40</objective></objectiveSettings><illuminationSettings><numericalAperture>0.65"
    "</numericalAperture><illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>"
)


def image(place: tuple[int, int], size: tuple[int, int], dimensions: Sequence[tuple[int, int, int]]) -> str:
    """Return the XML of an image: place and size in nm, width, height and page of each level."""
    levels = "".join(f'<dimension sizeX="{w}" sizeY="{h}" ifd="{page}"/>' for w, h, page in dimensions)
    view = f'<view sizeX="{size[0]}" sizeY="{size[1]}" offsetX="{place[0]}" offsetY="{place[1]}"/>'
    return f"<image>{ABOUT}<pixels>{levels}</pixels>{view}</image>"


def described(images: Sequence[str]) -> str:
    size = f'sizeX="{SIZE[0] * STEP}" sizeY="{SIZE[1] * STEP}"'
    return f'<?xml version="1.0"?><scn xmlns="{SPACE}"><collection {size}>{"".join(images)}</collection></scn>'


def write_scn(path: Path, areas: Sequence[tuple[tuple[int, int], RGB]], **settings: Any) -> Path:
    """Write areas, each a place in nm and its pixels, in three levels, after a picture of the whole slide."""
    pages = [np.full((SIZE[1] // 16, SIZE[0] // 16, 3), 200, np.uint8)]
    images = [image((0, 0), (SIZE[0] * STEP, SIZE[1] * STEP), [(SIZE[0] // 16, SIZE[1] // 16, 0)])]
    for place, pixels in areas:
        levels = [np.ascontiguousarray(pixels[::step, ::step]) for step in (1, 2, 4)]
        dimensions = [(level.shape[1], level.shape[0], len(pages) + i) for i, level in enumerate(levels)]
        images.append(image(place, (pixels.shape[1] * STEP, pixels.shape[0] * STEP), dimensions))
        pages += levels
    coding = {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)} | settings
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for i, page in enumerate(pages):
            text = None if i else described(images)
            tiff.write(page, tile=(64, 64), metadata=None, description=text, resolution=(40_000, 40_000), **coding,
                       resolutionunit="CENTIMETER")  # fmt: skip
    return path


def shown(reference: openslide.OpenSlide, level: int) -> NDArray[np.int64]:
    """Return what OpenSlide shows, white where nothing was scanned."""
    pixels = np.asarray(reference.read_region((0, 0), level, reference.level_dimensions[level])).astype(int)
    return np.where(pixels[:, :, 3:] == 0, 255, pixels[:, :, :3])


def whole(slide: Slide, level: int) -> NDArray[np.int64]:
    stored = slide.levels[level]
    return slide.read_region(0, 0, stored.width, stored.height, level).astype(int)


@pytest.fixture
def areas(levels: list[RGB]) -> list[tuple[tuple[int, int], RGB]]:
    """Two areas, the second under the first one's corner, sizes no multiple of the tile."""
    pixels = levels[0]
    return [((64 * STEP, 32 * STEP), pixels[:256, :320]), ((300 * STEP, 240 * STEP), 255 - pixels[:396, :612])]


def test_areas_lie_where_openslide_has_them(tmp_path: Path, areas) -> None:
    path = write_scn(tmp_path / "two.scn", areas)
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.reader == "direct"
        assert slide.mpp == pytest.approx(0.25)
        assert [(n.width, n.height) for n in slide.levels] == [(1200, 800), (600, 400), (300, 200)]
        for level in range(3):
            assert np.abs(whole(slide, level) - shown(reference, level)).max() <= 2
        for box in ((40, 20, 100, 90), (280, 200, 400, 300), (1100, 700, 100, 100), (-20, -20, 120, 90)):
            x, y, width, height = box
            part = np.full((height, width, 3), 255)
            left, top = max(0, x), max(0, y)
            inside = shown(reference, 0)[top : y + height, left : x + width]
            part[top - y :, left - x :] = inside
            assert np.abs(slide.read_region(*box) - part).max() <= 2


def test_a_view_as_large_as_a_screen_and_one_made_smaller(tmp_path: Path, areas) -> None:
    """Read by several threads, and decoded in the size that is wanted."""
    path = write_scn(tmp_path / "two.scn", areas)
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        around = slide.read_region(-400, -400, 2000, 1600)
        assert np.abs(around[400:1200, 400:1600] - shown(reference, 0)).max() <= 2
        assert (around[:400] == 255).all()
        half = slide.read_scaled(0, 0, 1200, 800, 2.0)
        assert np.abs(half.astype(int) - whole(slide, 1)).mean() < 8


def test_a_place_between_pixels(tmp_path: Path, areas) -> None:
    """At full size as OpenSlide has it; no other level is off by more than half a pixel."""
    place = 64 * STEP + 90, 32 * STEP + 160
    path = write_scn(tmp_path / "between.scn", [(place, areas[0][1])])
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.reader == "direct"
        assert np.abs(whole(slide, 0) - shown(reference, 0)).max() <= 2
    with tifffile.TiffFile(path) as tiff:
        of_levels = areas_of(tiff.pages[0].description)
    for number, (area,) in list(enumerate(of_levels))[1:]:
        for at, exact in zip(area.place, place, strict=True):
            assert abs(at - exact / STEP / 2**number) <= 0.5


def test_what_is_not_plain_is_left_to_openslide(tmp_path: Path, areas) -> None:
    path = write_scn(tmp_path / "packed.scn", areas[:1], photometric="rgb", compression="packbits", subsampling=None)
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.reader == "openslide"
        assert np.abs(whole(slide, 0) - shown(reference, 0)).max() <= 2
