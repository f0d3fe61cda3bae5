"""Small slides made on the spot: what a test needs of a file should be seen in the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

WriteSlide = Callable[..., Path]

TILE = 64
APERIO = "Aperio Image Library v11.2.1\r\n{}x{} (64x64) JPEG/RGB Q=85|AppMag = 40|MPP = 0.25"


@pytest.fixture
def write_slide(tmp_path: Path) -> WriteSlide:
    """Return a function that writes levels, uint8 (h, w, 3) each, as a tiled TIFF without scale."""

    def write(levels: Sequence[NDArray[np.uint8]], name: str = "made.tiff", **settings: Any) -> Path:
        path = tmp_path / name
        with tifffile.TiffWriter(path) as tiff:
            for i, level in enumerate(levels):
                options = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "subfiletype": int(i > 0)}
                tiff.write(level, **options | settings)
        return path

    return write


@pytest.fixture
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)


@pytest.fixture
def levels(noise: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Cells on glass, roughly, in three levels of which none is a multiple of the tile."""
    y, x = np.mgrid[:397, :613] / 9
    waves = np.stack([230 - 60 * np.sin(x) ** 8, 220 - 120 * np.sin(x + y) ** 8, 235 - 30 * np.cos(y) ** 8], axis=2)
    waves[:200, :300] += noise[:200] / 16 - 8
    pixels = waves.clip(0, 255).astype(np.uint8)
    return [np.ascontiguousarray(pixels[::step, ::step]) for step in (1, 2, 4)]


@pytest.fixture
def write_svs(tmp_path: Path) -> WriteSlide:
    """Return a function that writes levels as Aperio's scanners do, in one of their codings."""

    def write(levels: Sequence[NDArray[np.uint8]], coding: str) -> Path:
        path = tmp_path / "made.svs"
        with tifffile.TiffWriter(path) as tiff:
            for i, level in enumerate(levels):
                height, width = level.shape[:2]
                settings: dict[str, Any] = {"description": APERIO.format(width, height), "photometric": "rgb"}
                if coding.startswith("JPEG2000"):
                    settings["compression"] = 33003 if coding.endswith("YCbCr") else 33005
                    tiles = [
                        imagecodecs.jpeg2k_encode(
                            to_ycbcr(t) if coding.endswith("YCbCr") else t,
                            codecformat="j2k",
                            mct=False,
                            reversible=True,
                        )
                        for t in tiles_of(level)
                    ]
                else:
                    stored = "YCBCR" if coding == "YCbCr" else "RGB"
                    pairs = [jpeg(t, stored) for t in tiles_of(level)]
                    tables, tiles = b"\xff\xd8" + pairs[0][0] + b"\xff\xd9", [rest for _, rest in pairs]
                    settings |= {"compression": 7, "compressionargs": {"outcolorspace": stored}}
                    settings["extratags"] = [(347, 7, len(tables), tables, True)]
                    if stored == "YCBCR":
                        settings |= {"photometric": "ycbcr", "subsampling": (2, 2)}
                tiff.write(
                    iter(tiles),
                    shape=level.shape,
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    metadata=None,
                    subfiletype=int(i > 0),
                    **settings,
                )
        return path

    return write


@pytest.fixture
def write_zarr(tmp_path: Path) -> WriteSlide:
    """Return a function that writes levels, uint8 (h, w, 3) each, as OME-Zarr with axes in any order."""

    def write(
        levels: list[NDArray[Any]],
        axes: str = "cyx",
        version: Literal[2, 3] = 3,
        unit: str | None = "micrometer",
        name: str = "made.zarr",
    ) -> Path:
        path = tmp_path / name
        group = zarr.open_group(path, mode="w", zarr_format=version)
        kinds = {"c": "channel", "t": "time"}
        described: dict[str, Any] = {"axes": [{"name": a, "type": kinds.get(a, "space")} for a in axes], "datasets": []}
        for axis in described["axes"]:
            if unit is not None and axis["type"] == "space":
                axis["unit"] = unit
        for i, level in enumerate(levels):
            missing = [a for a in axes if a not in "yxc"]
            pixels = np.expand_dims(level, tuple(range(len(missing))))
            order = [[*missing, *"yxc"].index(a) for a in axes]
            chunks = [64 if a in "yx" else 1 for a in axes]
            group.create_array(str(i), data=np.ascontiguousarray(pixels.transpose(order)), chunks=chunks)
            steps = {"y": 0.5 * 2**i, "x": 0.25 * 2**i}
            transform = {"type": "scale", "scale": [steps.get(a, 1) for a in axes]}
            described["datasets"].append({"path": str(i), "coordinateTransformations": [transform]})
        if version == 3:
            group.attrs["ome"] = {"version": "0.5", "multiscales": [described]}
        else:
            group.attrs["multiscales"] = [{"version": "0.4", **described}]
        return path

    return write


def tiles_of(level: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    height, width = level.shape[:2]
    padded = np.pad(level, ((0, -height % TILE), (0, -width % TILE), (0, 0)), mode="edge")
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield np.ascontiguousarray(padded[top : top + TILE, left : left + TILE])


def without(jpeg: bytes, kinds: Iterable[int]) -> tuple[bytes, bytes]:
    """Split a JPEG into the segments of some kinds and all the rest."""
    taken, rest, at = b"", jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] in kinds:
            taken += jpeg[at:end]
        else:
            rest += jpeg[at:end]
        at = end
    return taken, rest + jpeg[at:]


def jpeg(tile: NDArray[np.uint8], stored: str) -> tuple[bytes, bytes]:
    """Return (tables, tile without them, nor any word on its colours) as scanners write JPEG."""
    subsampling = "420" if stored == "YCBCR" else "444"
    whole = imagecodecs.jpeg8_encode(tile, level=85, colorspace="RGB", outcolorspace=stored, subsampling=subsampling)
    _, bare = without(bytes(whole), {0xE0, 0xEE})
    return without(bare, {0xDB, 0xC4})


def to_ycbcr(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(tile).convert("YCbCr"))
