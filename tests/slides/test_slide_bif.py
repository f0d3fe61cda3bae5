"""BIF files of Ventana: tiles that do not overlap are read directly, for all others OpenSlide knows what to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from napari_cervcell.slides import open_slide

RGB = NDArray[np.uint8]

TILE = 64
COLUMNS, ROWS = 9, 6
SCANNER = b'<iScan Z-layers="1" Magnification="40" ScanRes="0.25"/>'


def stitched(overlap: int) -> bytes:
    """Return the XML of one area of all tiles, each of which overlaps its right neighbour by so many px.

    Rows count from the bottom, every second one from the right to the left.
    """
    number = {
        (column, row): (ROWS - 1 - row) * COLUMNS + (column if (ROWS - 1 - row) % 2 == 0 else COLUMNS - 1 - column) + 1
        for row in range(ROWS)
        for column in range(COLUMNS)
    }
    joints = [
        (direction, number[at], number[to], overlap if direction == "RIGHT" else 0)
        for at in number
        for direction, to in (("RIGHT", (at[0] + 1, at[1])), ("UP", (at[0], at[1] - 1)))
        if to in number
    ]
    told = "".join(
        f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="{direction}" Tile1="{one}" Tile2="{two}" '
        f'OverlapX="{x}" OverlapY="0"/>'
        for direction, one, two, x in joints
    )
    size = f'Width="{TILE}" Height="{TILE}" NumRows="{ROWS}" NumCols="{COLUMNS}"'
    info = f'<ImageInfo AOIScanned="1" AOIIndex="0" Pos-X="0" Pos-Y="0" {size}>{told}</ImageInfo>'
    origin = '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin>'
    return f'<EncodeInfo Ver="2"><SlideStitchInfo>{info}</SlideStitchInfo>{origin}</EncodeInfo>'.encode()


@pytest.fixture
def pixels() -> RGB:
    y, x = np.mgrid[: ROWS * TILE, : COLUMNS * TILE] / 9
    waves = [230 - 60 * np.sin(x) ** 8, 220 - 120 * np.sin(x + y) ** 8, 235 - 30 * np.cos(y) ** 8]
    return np.stack(waves, axis=2).astype(np.uint8)


def write_bif(path: Path, pixels: RGB, overlap: int) -> Path:
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(pixels[::16, ::16], photometric="rgb", metadata=None, description="Label Image",
                   extratags=[(700, 1, len(SCANNER), SCANNER, True)])  # fmt: skip
        for i in range(3):
            level, said = np.ascontiguousarray(pixels[:: 2**i, :: 2**i]), stitched(overlap)
            level = np.pad(level, ((0, -level.shape[0] % TILE), (0, -level.shape[1] % TILE), (0, 0)), mode="edge")
            extra = [] if i else [(700, 1, len(said), said, True)]
            coding = {"photometric": "ycbcr", "subsampling": (2, 2), "compression": "jpeg"}
            text = f"level={i} mag={40 / 2**i:g} quality=90"
            tiff.write(level, tile=(TILE, TILE), metadata=None, description=text, extratags=extra, **coding)
    return path


@pytest.mark.parametrize(("overlap", "reader"), [(0, "direct"), (3, "openslide")])
def test_tiles_beside_each_other_and_overlapping(tmp_path: Path, pixels: RGB, overlap: int, reader: str) -> None:
    path = write_bif(tmp_path / "made.bif", pixels, overlap)
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.format == "ventana"
        assert slide.reader == reader
        assert slide.mpp == 0.25
        assert tuple((n.width, n.height) for n in slide.levels) == reference.level_dimensions
        for i, size in enumerate(reference.level_dimensions):
            shown = np.asarray(reference.read_region((0, 0), i, size)).astype(int)
            shown = np.where(shown[:, :, 3:] == 0, 255, shown[:, :, :3])
            assert np.abs(slide.read_region(0, 0, *size, i) - shown).max() <= 2
