"""Damages a slide in many ways and reads it each time; tells what came of it, one line each.

A program of its own, ``python damage.py SLIDE SEED TRUNCATIONS FLIPS``: libraries in C read the files, and damage may
end their process.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import tifffile

from napari_cervcell.slides import Slide, SlideError, open_slide
from napari_cervcell.slides.layers import get_reader


def outcome(path: Path, changed: Path, at: int) -> str:
    """Open a damaged slide, read an overview and what byte `at` belongs to; return "read" or what was said.

    `changed` is the damaged file: the slide, or one in its folder.
    """
    try:
        get_reader(str(path))
        with open_slide(path) as slide:
            slide.thumbnail(300)
            damaged_tile(slide, changed, at)
    except SlideError as error:
        return str(error)
    return "read"


def damaged_tile(slide: Slide, changed: Path, at: int) -> None:
    places = in_tiff(changed, at) if changed == slide.path else in_zarr(changed, slide)
    level, column, row = next(places, (0, 0, 0))
    level = min(level, len(slide.levels) - 1)
    step = slide.levels[level].downsample
    slide.read_region(int(column * step), int(row * step), 256, 256, level)


def in_tiff(path: Path, at: int) -> Iterator[tuple[int, int, int]]:
    """Find (level, column, row) of the tile whose bytes hold `at`, as far as the directory can still be read."""
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = list(tiff.pages)
            for level, page in enumerate([*pages, *(pages[0].pages or ())]):
                columns = -(-page.imagewidth // page.tilewidth)
                for i, (start, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
                    if start <= at < start + length:
                        yield level, i % columns * page.tilewidth, i // columns * page.tilelength
    except Exception:
        return


def in_zarr(chunk: Path, slide: Slide) -> Iterator[tuple[int, int, int]]:
    """Find the place of a chunk by its path: of 64 px and axes y, x, c."""
    parts = chunk.relative_to(slide.path).parts
    if len(parts) == 5:
        yield int(parts[0]), 64 * int(parts[3]), 64 * int(parts[2])


def damaged(path: Path, dice: random.Random, truncations: int, flips: int) -> Iterator[str]:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for number in range(truncations + flips):
        changed = dice.choice(files)
        whole = changed.read_bytes()
        if number < truncations:
            at = dice.randrange(len(whole))
            changed.write_bytes(whole[:at])
            yield outcome(path, changed, at)
            changed.write_bytes(whole)
            continue
        # half of them anywhere, half in the directory and what it says of the slide, at the end
        at = dice.choice([dice.randrange(len(whole)), max(0, len(whole) - 1 - dice.randrange(3000))])
        with changed.open("r+b", buffering=0) as file:
            file.seek(at)
            file.write(bytes([whole[at] ^ dice.randrange(1, 256)]))
            told = outcome(path, changed, at)
            file.seek(at)
            file.write(whole[at : at + 1])
        yield told


if __name__ == "__main__":
    for told in damaged(Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])):
        print(" ".join(told.split()), flush=True)
