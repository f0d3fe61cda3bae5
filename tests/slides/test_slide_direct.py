"""Tiles read as they are stored are those that OpenSlide shows, and what is not plain is left to OpenSlide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import simplejpeg
import tifffile

from napari_cervcell.slides import Slide, SlideError, open_slide

TILE = 64


def assert_shown_as_by_openslide(path: Path, reader: str = "direct") -> None:
    """All of each level, but for interpolation: OpenSlide's reads begin at whole level-0 pixels."""
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.reader == reader
        assert tuple((level.width, level.height) for level in slide.levels) == reference.level_dimensions
        for i, size in enumerate(reference.level_dimensions):
            shown = np.asarray(reference.read_region((0, 0), i, size).convert("RGB"))
            assert np.abs(slide.read_region(0, 0, *size, i).astype(int) - shown).max() <= 2


def test_sample_slide_is_read_directly_and_as_openslide_shows_it(sample: Slide) -> None:
    assert sample.reader == "direct"
    with openslide.OpenSlide(sample.path) as reference:
        for i, (width, height) in enumerate(reference.level_dimensions):
            # some of it, amid the slide and across the corner
            for x, y in ((width // 2, height // 3), (width - 300, height - 200)):
                place = tuple(round(side * reference.level_downsamples[i]) for side in (x, y))
                shown = reference.read_region(place, i, (300, 200)).convert("RGB")
                assert np.abs(sample.read_region(*place, 300, 200, i).astype(int) - np.asarray(shown)).max() <= 2


@pytest.mark.parametrize("coding", ["YCbCr", "RGB", "JPEG2000 RGB", "JPEG2000 YCbCr"])
def test_codings_of_scanners(write_svs, levels, coding: str) -> None:
    path = write_svs(levels, coding)
    assert_shown_as_by_openslide(path)
    with open_slide(path) as slide:
        pixels = slide.read_region(0, 0, slide.width, slide.height)
        assert slide.mpp == 0.25
        assert np.abs(pixels.astype(int) - levels[0]).mean() < 5  # the colours are those that were written


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "jpeg", "subsampling": (2, 2)},
        {"compression": "jpeg", "compressionargs": {"outcolorspace": "rgb"}},
        {"compression": "lzw", "tile": (128, 48)},
    ],
    ids=str,
)
def test_codings_of_libraries(write_slide, levels, settings: dict[str, Any]) -> None:
    assert_shown_as_by_openslide(write_slide(levels, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "compression": "jpeg"},
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        {"photometric": "rgb", "planarconfig": "separate", "compression": "packbits"},
    ],
    ids=str,
)
def test_what_is_not_plain_is_left_to_openslide(tmp_path: Path, levels, settings: dict[str, Any]) -> None:
    pixels = levels[0]
    if settings["photometric"] == "minisblack":
        pixels = pixels[..., 0]
    elif "extrasamples" in settings:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    elif "planarconfig" in settings:
        pixels = np.moveaxis(pixels, 2, 0)
    path = tmp_path / "odd.tiff"
    tifffile.imwrite(path, pixels, tile=(TILE, TILE), metadata=None, **settings)
    assert_shown_as_by_openslide(path, reader="openslide")


@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_more_than_8_bits_are_refused(tmp_path: Path, levels, photometric: str) -> None:
    pixels = levels[0].astype(np.uint16) * 16
    path = tmp_path / "deep.tiff"
    pixels = pixels if photometric == "rgb" else pixels[..., 0]
    tifffile.imwrite(path, pixels, tile=(TILE, TILE), metadata=None, photometric=photometric)
    with pytest.raises(SlideError, match=r"deep\.tiff has 16 bits.*8 bits"):
        open_slide(path)


def leave_out(path: Path, level: int, tile: int) -> None:
    """Give a tile the length 0, by which writers say that there is none."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        lengths = list(tiff.pages[level].databytecounts)
        lengths[tile] = 0
        tiff.pages[level].tags["TileByteCounts"].overwrite(lengths)


def test_tiles_that_were_not_scanned_are_background(write_slide, levels) -> None:
    path = write_slide(levels)
    leave_out(path, 0, 12)
    with open_slide(path) as slide:
        assert slide.reader == "direct"
        expected = levels[0].copy()
        expected[64:128, 128:192] = slide.background  # the third of the second row of ten
        np.testing.assert_array_equal(slide.read_region(0, 0, slide.width, slide.height), expected)


def test_tiles_that_aperio_left_out_come_from_the_next_finer_level(write_svs, levels) -> None:
    path = write_svs(levels, "RGB")
    leave_out(path, 1, 6)
    assert_shown_as_by_openslide(path, reader="openslide")


@pytest.fixture
def write_ome(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes levels as an OME-TIFF with what its XML is to say; the last of them may be odd."""

    def write(levels: Sequence[np.ndarray], said: dict[str, Any], last: Any = None, **settings: Any) -> Path:
        path = tmp_path / "made.ome.tiff"
        options: dict[str, Any] = {"photometric": "rgb", "tile": (TILE, TILE), "compression": "lzw"} | settings
        with tifffile.TiffWriter(path, ome=True) as tiff:
            tiff.write(levels[0], subifds=len(levels) - 1, metadata=said, **options)
            for i, level in enumerate(levels[1:], 2):
                tiff.write(level, subfiletype=1, **options | (last or {} if i == len(levels) else {}))
        return path

    return write


def assert_is(slide: Slide, levels: Sequence[np.ndarray]) -> None:
    assert slide.reader == "direct"
    assert len(slide.levels) == len(levels)
    for i, level in enumerate(levels):
        np.testing.assert_array_equal(slide.read_region(0, 0, *level.shape[1::-1], i), level)


def test_levels_of_an_ome_tiff_are_found_below_its_first_page(write_ome, levels) -> None:
    with open_slide(write_ome(levels, {"axes": "YXS"})) as slide:
        assert_is(slide, levels)
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        assert slide.mpp is None


@pytest.mark.parametrize("predictor", [False, True])
def test_an_ome_tiff_whose_colours_are_stored_apart(write_ome, levels, predictor: bool) -> None:
    apart = [np.ascontiguousarray(np.moveaxis(level, 2, 0)) for level in levels]
    path = write_ome(apart, {"axes": "SYX"}, planarconfig="separate", predictor=predictor)
    with open_slide(path) as slide:
        assert_is(slide, levels)
        np.testing.assert_array_equal(slide.read_region(40, 30, 300, 200), levels[0][30:230, 40:340])


def test_a_level_of_an_ome_tiff_without_tiles_does_not_cost_the_others(write_ome, levels) -> None:
    with open_slide(write_ome(levels, {"axes": "YXS"}, last={"tile": None})) as slide:
        assert_is(slide, levels[:2])


@pytest.mark.parametrize(("unit", "size"), [("µm", 0.5), ("nm", 500), ("mm", 0.0005), ("pixel", None)])
def test_scale_of_an_ome_tiff(write_ome, levels, unit: str, size: float | None) -> None:
    sides = {f"PhysicalSize{axis}{what}": value for axis in "XY" for what, value in (("", size or 1), ("Unit", unit))}
    print_resolution = {"resolution": (72, 72), "resolutionunit": "INCH"}
    with open_slide(write_ome(levels, {"axes": "YXS", **sides}, **print_resolution)) as slide:
        assert slide.mpp == (size and pytest.approx(0.5))


@pytest.mark.parametrize(("axes", "said"), [("CYX", "3 channels"), ("ZYXS", "3 focal planes")])
def test_planes_in_pages_of_their_own_are_refused(tmp_path: Path, levels, axes: str, said: str) -> None:
    pixels = np.ascontiguousarray(np.moveaxis(levels[0], 2, 0)) if axes == "CYX" else np.stack([levels[0]] * 3)
    path = tmp_path / "planes.ome.tiff"
    photometric = "minisblack" if axes == "CYX" else "rgb"
    tifffile.imwrite(path, pixels, ome=True, photometric=photometric, tile=(TILE, TILE), metadata={"axes": axes})
    with pytest.raises(SlideError, match=rf"planes\.ome\.tiff is an OME-TIFF of {said}.*Export it as RGB"):
        open_slide(path)


def test_philips_fills_its_pages_up_to_whole_tiles(tmp_path: Path, levels) -> None:
    """The levels end before their pages do; what fills them up is not shown."""
    sides = [(TILE * 12 >> i, TILE * 9 >> i) for i in range(3)]
    stated, pages = [], []
    for i, (width, height) in enumerate(sides):
        page = np.zeros((-(-height // TILE) * TILE, -(-width // TILE) * TILE, 3), np.uint8)
        page[:height, :width] = np.tile(levels[i], (2, 2, 1))[:height, :width]
        pages.append(page)
        spacing = " ".join([f"&quot;{0.00025 * 2**i:g}&quot;"] * 2)
        stated.append(
            '<DataObject ObjectType="PixelDataRepresentation">'
            + attribute("DICOM_PIXEL_SPACING", spacing)
            + attribute("PIIM_PIXEL_DATA_REPRESENTATION_COLUMNS", page.shape[1])
            + attribute("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", i)
            + attribute("PIIM_PIXEL_DATA_REPRESENTATION_ROWS", page.shape[0])
            + "</DataObject>"
        )
    scanned = attribute("PIM_DP_IMAGE_TYPE", "WSI") + attribute(
        "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", f"<Array>{''.join(stated)}</Array>"
    )
    image = f'<Array><DataObject ObjectType="DPScannedImage">{scanned}</DataObject></Array>'
    xml = f'<DataObject ObjectType="DPUfsImport">{attribute("PIM_DP_SCANNED_IMAGES", image)}</DataObject>'
    path = tmp_path / "made.tiff"
    with tifffile.TiffWriter(path) as tiff:
        for i, page in enumerate(pages):
            options: dict[str, Any] = {"photometric": "rgb", "compression": "lzw", "tile": (TILE, TILE)}
            options |= {"metadata": None, "software": "Philips DP v1.0", "subfiletype": int(i > 0)}
            tiff.write(page, description=f"level={i}" if i else xml, **options)
    assert_shown_as_by_openslide(path)
    with open_slide(path) as slide:
        assert slide.format == "philips"
        assert [(level.width, level.height) for level in slide.levels] == sides
        assert sides[2][1] < pages[2].shape[0]


def attribute(name: str, value: object) -> str:
    return f'<Attribute Name="{name}">{value}</Attribute>'


def test_regions_anywhere_are_cut_right(write_slide, levels) -> None:
    with open_slide(write_slide(levels, compression="lzw")) as slide:
        rng = np.random.default_rng(1)
        for x, y, width, height in rng.integers((0, 0, 1, 1), (400, 250, 200, 140), (50, 4)).tolist():
            np.testing.assert_array_equal(
                slide.read_region(x, y, width, height), levels[0][y : y + height, x : x + width]
            )


def test_a_large_region_is_its_parts(sample: Slide) -> None:
    """It is read by several threads."""
    x, y, width, height = 1003, 707, 1900, 1300
    large = sample.read_region(x, y, width, height)
    for top in range(0, height, 500):
        for left in range(0, width, 500):
            part = large[top : top + 500, left : left + 500]
            np.testing.assert_array_equal(part, sample.read_region(x + left, y + top, part.shape[1], part.shape[0]))


@pytest.mark.parametrize("tile", [0, 300, 574])
def test_a_large_region_with_a_damaged_tile_is_refused(write_slide, levels, tile: int) -> None:
    path = write_slide([np.tile(levels[0], (4, 3, 1))[:1536, :1536]], compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert len(page.dataoffsets) == 576
    with path.open("r+b") as file:
        file.seek(page.dataoffsets[tile])
        file.write(b"nothing packed")
    with open_slide(path) as slide:
        assert slide.reader == "direct"
        with pytest.raises(SlideError, match=r"made\.tiff"):
            slide.read_region(0, 0, slide.width, slide.height)
        first = tile // 24 * TILE
        slide.read_region(0, (first + TILE) % 1536, 100, TILE)  # all else can be read as before


def small_and_whole(slide: Slide, step: float, columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the same pixels as the decoder makes them, and from a hair beside, where they have to be resampled."""
    return tuple(
        slide.read_grid(x, 32 * step, columns, rows, step, step).astype(int) for x in (32 * step, 32 * step + 1e-3)
    )


@pytest.mark.parametrize("step", [8 / 7, 4 / 3, 1.6, 2])
def test_jpeg_decoded_small_shows_what_is_there(write_svs, levels, step: float) -> None:
    with open_slide(write_svs(levels[:1], "YCbCr")) as slide:
        small, whole = small_and_whole(slide, step, 250, 150)
        assert 0 < np.abs(small - whole).mean() < 6  # the decoder is sharper, and some of it is noise
        assert np.abs(small.mean((0, 1)) - whole.mean((0, 1))).max() < 0.2
        part = slide.read_grid(72 * step, 52 * step, 100, 60, step, step)
        np.testing.assert_array_equal(part, small[20:80, 40:140])
        beyond = slide.read_grid(0, 0, 2000, 20, step, step)
        assert (beyond[:, round(slide.width / step) + 1 :] == slide.background).all()


def test_jpeg_with_colours_of_its_own_is_made_small_too(tmp_path: Path, levels) -> None:
    """As Adobe's programs write it: not every decoder reads that rightly, and the one that does has one size."""
    marker = bytes.fromhex("ffee000e41646f6265006400000000") + b"\x01"
    tiles = [
        simplejpeg.encode_jpeg(np.ascontiguousarray(levels[0][y : y + TILE, x : x + TILE]), 95)
        for y in range(0, 384, TILE)
        for x in range(0, 576, TILE)
    ]
    options: dict[str, Any] = {"shape": (384, 576, 3), "dtype": np.uint8, "tile": (TILE, TILE)}
    pixels = []
    for name, streams in (("plain", tiles), ("adobe", [tile[:2] + marker + tile[2:] for tile in tiles])):
        path = tmp_path / f"{name}.tiff"
        tifffile.imwrite(path, iter(streams), photometric="ycbcr", compression="jpeg", subsampling=(2, 2), **options)
        with open_slide(path) as slide:
            assert slide.reader == "direct"
            pixels.append(slide.read_grid(0, 0, 360, 240, 1.6, 1.6).astype(int))
    assert np.abs(pixels[0] - pixels[1]).mean() < 2


def test_bigtiff_with_tiles_beyond_4_gb(tmp_path: Path, levels) -> None:
    path = tmp_path / "big.tiff"
    tifffile.imwrite(path, levels[0], tile=(TILE, TILE), photometric="rgb", bigtiff=True, byteorder=">")
    far = 5 * 2**30
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        page = tiff.pages.first
        offsets = list(page.dataoffsets)
        with path.open("r+b") as file:
            file.seek(offsets[-1])
            tile = file.read(page.databytecounts[-1])
            file.seek(far)  # what lies between takes no room on the disk
            file.write(tile)
        offsets[-1] = far
        page.tags["TileOffsets"].overwrite(offsets, dtype="Q")
    with open_slide(path) as slide:
        assert slide.reader == "direct"
        np.testing.assert_array_equal(slide.read_region(0, 0, slide.width, slide.height), levels[0])


def test_path_with_spaces_and_letters_of_any_script(write_slide, noise) -> None:
    with open_slide(write_slide([noise], "Pap smear β, Köln 細胞.tiff")) as slide:
        assert slide.reader == "direct"
        np.testing.assert_array_equal(slide.read_region(0, 0, 300, 200), noise)


def test_pixels_that_are_not_square(write_slide, noise) -> None:
    path = write_slide([noise], resolution=(40_000, 20_000), resolutionunit="CENTIMETER")
    with open_slide(path) as slide:
        assert slide.mpp_xy == pytest.approx((0.25, 0.5))
        with open_slide(slide.path, mpp=slide.mpp) as again:  # as a case remembers it
            assert again.mpp_xy == slide.mpp_xy
        assert slide.mpp == pytest.approx(0.375)


def test_a_file_that_goes_while_open(write_slide, noise) -> None:
    path = write_slide([noise])
    content = path.read_bytes()
    with open_slide(path) as slide:
        path.write_bytes(content[:30_000])
        with pytest.raises(SlideError, match=r"made\.tiff.*cut short"):
            slide.read_region(0, 0, 300, 200)
        path.write_bytes(content)
        np.testing.assert_array_equal(slide.read_region(0, 0, 300, 200), noise)
