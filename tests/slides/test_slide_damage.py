"""Whatever happens to a file, opening and reading it gives pixels or a message, and the process lives."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile

from napari_cervcell.slides import Slide, SlideError, open_slide, sample_slide


def outcome(path: Path, at: int) -> str:
    """Open a damaged slide, read an overview and the tile that byte `at` belongs to; return "read" or what was said."""
    try:
        with open_slide(path) as slide:
            slide.thumbnail(300)
            damaged_tile(slide, at)
    except SlideError as error:
        return str(error)
    return "read"


def damaged_tile(slide: Slide, at: int) -> None:
    level, column, row = next(places(slide.path, at), (0, 0, 0))
    level = min(level, len(slide.levels) - 1)
    step = slide.levels[level].downsample
    slide.read_region(int(column * step), int(row * step), 256, 256, level)


def places(path: Path, at: int) -> Iterator[tuple[int, int, int]]:
    """Find (level, column, row) of the tile whose bytes hold `at`, as far as the directory can still be read."""
    try:
        with tifffile.TiffFile(path) as tiff:
            for level, page in enumerate(tiff.pages):
                columns = -(-page.imagewidth // page.tilewidth)
                for i, (start, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
                    if start <= at < start + length:
                        yield level, i % columns * page.tilewidth, i // columns * page.tilelength
    except Exception:
        return


@pytest.fixture(params=["sample", "YCbCr", "RGB", "JPEG2000 YCbCr"])
def victim(request: pytest.FixtureRequest, tmp_path: Path, write_svs, levels) -> Path:
    path = tmp_path / "victim.svs"
    if request.param == "sample":
        shutil.copy(sample_slide(), path)
    else:
        write_svs(levels, request.param).rename(path)
    return path


def test_truncations(victim: Path) -> None:
    whole = victim.read_bytes()
    dice = random.Random(20)
    for at in [dice.randrange(len(whole)) for _ in range(5)]:
        victim.write_bytes(whole[:at])
        assert "cut short" in outcome(victim, at)


def test_flipped_bytes(victim: Path) -> None:
    whole = victim.read_bytes()
    dice = random.Random(200)
    said = []
    with victim.open("r+b", buffering=0) as file:
        for _ in range(60):
            # half of them anywhere, half in the directory and what it says of the slide, at the end
            at = dice.choice([dice.randrange(len(whole)), len(whole) - 1 - dice.randrange(3000)])
            file.seek(at)
            file.write(bytes([whole[at] ^ dice.randrange(1, 256)]))
            said.append(outcome(victim, at))
            file.seek(at)
            file.write(whole[at : at + 1])
    assert all(s == "read" or victim.name in s for s in said)
    assert "read" in said  # a wrong byte among millions of pixels does not cost the slide
