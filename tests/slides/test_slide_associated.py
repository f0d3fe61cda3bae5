"""Label, macro and thumbnail: known by name, read only when asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cervcell.slides import Slide, SlideError, open_slide


def test_pictures_beside_the_slide_are_named_and_read(labelled_svs: Path) -> None:
    with open_slide(labelled_svs) as slide:
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
        label = slide.read_associated_image("label")
        assert label.shape == (40, 60, 3)
        assert label.dtype == np.uint8
        assert (label == (200, 30, 90)).all()
        assert slide.read_associated_image("thumbnail").shape == (100, 150, 3)


def test_a_slide_may_have_none(sample: Slide, tmp_path: Path) -> None:
    assert sample.associated_images == ()
    with pytest.raises(KeyError, match="label"):
        sample.read_associated_image("label")


def test_a_damaged_label_is_explained_and_the_slide_goes_on(labelled_svs: Path) -> None:
    with tifffile.TiffFile(labelled_svs) as tiff:
        page = tiff.pages[2]
        offset, length = page.dataoffsets[0], page.databytecounts[0]
    with labelled_svs.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * length)
    with open_slide(labelled_svs) as slide:
        with pytest.raises(SlideError, match=r"labelled\.svs"):
            slide.read_associated_image("label")
        assert slide.read_associated_image("macro").shape == (40, 60, 3)
        assert slide.read_region(0, 0, 8, 8).shape == (8, 8, 3)


def test_a_label_that_no_memory_could_hold_is_refused(labelled_svs: Path) -> None:
    with tifffile.TiffFile(labelled_svs, mode="r+b") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tiff.pages[2].tags[name].overwrite(60_000)
    with open_slide(labelled_svs) as slide, pytest.raises(SlideError, match="damaged"):
        slide.read_associated_image("label")


def test_a_closed_slide_shows_no_label(labelled_svs: Path) -> None:
    slide = open_slide(labelled_svs)
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read_associated_image("label")
