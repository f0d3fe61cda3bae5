"""Whatever happens to a file, opening and reading it gives pixels or a message, and the process lives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_cervcell.slides import open_slide, sample_slide

DAMAGE = Path(__file__).with_name("damage.py")

KINDS = {
    "sample": "direct",
    "YCbCr": "direct",
    "RGB": "direct",
    "JPEG2000 YCbCr": "direct",
    "OME-TIFF": "direct",
    "planes": "direct",
    "PackBits": "openslide",
    "OME-Zarr": "zarr",
}
TRUNCATIONS, FLIPS = 3, 30  # of each kind


@pytest.fixture(params=KINDS)
def victim(request: pytest.FixtureRequest, tmp_path: Path, write_svs, write_zarr, levels) -> Path:
    path = tmp_path / "victim.svs"
    if request.param == "sample":
        shutil.copy(sample_slide(), path)
    elif request.param == "OME-TIFF":
        path = path.with_suffix(".ome.tiff")
        options: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64), "compression": "lzw"}
        with tifffile.TiffWriter(path, ome=True) as tiff:
            tiff.write(levels[0], subifds=2, metadata={"axes": "YXS"}, **options)
            for level in levels[1:]:
                tiff.write(level, subfiletype=1, **options)
    elif request.param == "planes":
        path = path.with_suffix(".tiff")
        planes = np.moveaxis(levels[0], 2, 0)
        tifffile.imwrite(path, planes, tile=(64, 64), photometric="rgb", planarconfig="separate", compression="lzw")
    elif request.param == "PackBits":
        path = path.with_suffix(".tiff")
        tifffile.imwrite(path, levels[0], tile=(64, 64), photometric="rgb", compression="packbits")
    elif request.param == "OME-Zarr":
        path = write_zarr(levels, axes="yxc", name="victim.zarr")
    else:
        write_svs(levels, request.param).rename(path)
    with open_slide(path) as slide:
        assert slide.reader == KINDS[request.param]
    return path


def test_truncations_and_flipped_bytes(victim: Path) -> None:
    command = [sys.executable, DAMAGE, victim, "20", str(TRUNCATIONS), str(FLIPS)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)  # what has not ended by then hangs
    told = ran.stdout.splitlines()
    assert ran.returncode == 0, f"after damage {len(told)}: {ran.stderr[-2000:]}"
    assert len(told) == TRUNCATIONS + FLIPS
    assert all(line == "read" or victim.name in line for line in told)
    assert all("cut short" in line or victim.is_dir() for line in told[:TRUNCATIONS])
    assert "read" not in told[:TRUNCATIONS]
    assert "read" in told[TRUNCATIONS:]  # a wrong byte among millions of pixels does not cost the slide
