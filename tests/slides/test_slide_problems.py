"""Files that are no slides, or damaged ones: each must be refused in words that help."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cervcell.errors import CervcellError
from napari_cervcell.slides import SlideError, open_slide, sample_slide


def refusal(path: Path) -> str:
    """Return what opening says; it must name the file."""
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert isinstance(caught.value, CervcellError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    message = refusal(tmp_path / "gone.svs")
    assert "no file" in message
    assert "Check the name" in message


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / f"{'y' * 300}.svs")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that this user may not look into")
def test_a_file_in_a_folder_that_is_closed_to_us(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    try:
        message = refusal(closed / "slide.svs")
    finally:
        closed.chmod(0o755)
    assert "Check the permissions" in message


def test_directory(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert "is a folder" in message
    assert ".dcm" in message


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.svs"
    path.touch()
    message = refusal(path)
    assert "empty" in message
    assert "Copy it again" in message


def test_text_with_a_slide_suffix(tmp_path: Path) -> None:
    path = tmp_path / "notes.svs"
    path.write_text("These are not the pixels you are looking for.\n" * 50)
    message = refusal(path)
    assert "not a slide" in message
    assert "converted" in message


@pytest.mark.parametrize("size", [100_000, 3_000_000, -40_000])
def test_truncated_slide(tmp_path: Path, size: int) -> None:
    path = tmp_path / "short.tiff"
    path.write_bytes(sample_slide().read_bytes()[:size])
    message = refusal(path)
    assert "cut short" in message
    assert "Copy it again" in message


def test_truncated_before_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "short.svs"
    path.write_bytes(sample_slide().read_bytes()[:64])
    assert "cut short" in refusal(path)


def test_plain_tiff_without_tiles(tmp_path: Path, noise) -> None:
    path = tmp_path / "photo.tiff"
    tifffile.imwrite(path, noise)
    message = refusal(path)
    assert "without tiles" in message
    assert "vips" in message


def test_tiff_of_unknown_compression(write_slide, noise) -> None:
    path = write_slide([noise])
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(52479)
    message = refusal(path)
    assert "52479" in message
    assert "convert" in message


def test_slide_that_opens_but_cannot_be_read(write_slide, noise) -> None:
    path = write_slide([noise], "unreadable.tiff", compression="zlib")
    spoil(path, lambda count: range(count))
    message = refusal(path)
    assert "opens, but its pixels cannot be read" in message
    assert "Copy it again" in message


@pytest.fixture
def one_bad_tile(write_slide, noise) -> Path:
    path: Path = write_slide([noise], "scratched.tiff", compression="zlib")
    spoil(path, lambda count: [0])
    return path


def spoil(path: Path, which: Callable[[int], list[int] | range]) -> None:
    """Overwrite the compressed bytes of some tiles."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with path.open("r+b") as file:
        for i in which(len(places)):
            offset, length = places[i]
            file.seek(offset)
            file.write(b"\xff" * length)


def test_a_bad_tile_leaves_the_rest_readable(one_bad_tile: Path, noise) -> None:
    with open_slide(one_bad_tile) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match=r"scratched\.tiff.*cannot be read"):
                slide.read_region(0, 0, 64, 64)
            np.testing.assert_array_equal(slide.read_region(64, 64, 128, 128), noise[64:192, 64:192])


def test_a_bad_tile_does_not_fail_other_threads_for_good(one_bad_tile: Path, noise) -> None:
    with open_slide(one_bad_tile) as slide:

        def read(x: int) -> bool:
            try:
                return bool((slide.read_region(x, 0, 64, 64) == noise[:64, x : x + 64]).all())
            except SlideError:
                return False

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read, [0, 64, 128, 192] * 20))
        assert [read(x) for x in (0, 64, 128, 192)] == [False, True, True, True]


def test_closed_slide_says_so(write_slide, noise) -> None:
    slide = open_slide(write_slide([noise]))
    slide.close()
    slide.close()
    with pytest.raises(SlideError, match=r"made\.tiff has been closed"):
        slide.read_region(0, 0, 10, 10)


def test_impossible_scale(write_slide, noise) -> None:
    with pytest.raises(SlideError, match=r"made\.tiff"):
        open_slide(write_slide([noise]), mpp=float("nan"))
