"""OME-Zarr pyramids (OME-NGFF 0.4 in Zarr v2, 0.5 in Zarr v3) of 8-bit RGB."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from .problems import SlideError
from .source import RGB

__all__ = ["ZarrSource", "is_zarr"]

_MICRONS = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}


def is_zarr(path: Path) -> bool:
    """Whether the folder is a Zarr group of either version."""
    return any(os.path.isfile(path / name) for name in ("zarr.json", ".zgroup"))


class ZarrSource:
    """The levels of an OME-Zarr image (a `Source`); areas that were never written have the value the arrays say.

    Raises SlideError if the folder holds no pyramid, or one that is not of 8-bit RGB.
    """

    reader = "zarr"
    background = (255, 255, 255)
    associated: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._describe()
        except SlideError:
            raise
        except Exception as error:
            # metadata may be wrong in any way
            raise SlideError(
                f"{path} is no OME-Zarr image that can be read: {_said(error)}. Open the folder of the image itself; "
                "if it is that, export it again as OME-Zarr 0.4 or 0.5."
            ) from error

    def _describe(self) -> None:
        image, described = _image(zarr.open_group(self.path, mode="r"))
        axes: list[str] = [axis["name"] for axis in described["axes"]]
        arrays: list[Any] = [image[dataset["path"]] for dataset in described["datasets"]]
        if not arrays or not all(isinstance(array, zarr.Array) for array in arrays):
            raise ValueError("its datasets are no arrays")
        self._place = {name: axes.index(name) for name in "yxc" if name in axes}
        if not all(self._is_rgb(array, axes) for array in arrays):
            kinds = ", ".join(sorted({f"{array.dtype} {array.shape}" for array in arrays}))
            raise SlideError(
                f"{self.path} is no 8-bit RGB slide: its arrays are {kinds} with axes {''.join(axes)}. "
                "Export it with three 8-bit channels, one plane and one time point."
            )
        self._arrays: list[Any] | None = arrays
        self.sizes = tuple((array.shape[self._place["x"]], array.shape[self._place["y"]]) for array in arrays)
        chunks = arrays[0].chunks
        self.properties = {
            "openslide.vendor": "ome-zarr",
            "openslide.level[0].tile-width": str(chunks[self._place["x"]]),
            "openslide.level[0].tile-height": str(chunks[self._place["y"]]),
        } | _scale(described, self._place)

    def read(self, level: int, column: int, row: int, width: int, height: int) -> RGB:
        """Return uint8 (height, width, 3) from pixel (column, row) of a level."""
        if self._arrays is None:
            raise SlideError(f"{self.path} has been closed. Open it again.")
        array = self._arrays[level]
        part: list[int | slice] = [0] * array.ndim
        part[self._place["y"]] = slice(row, row + height)
        part[self._place["x"]] = slice(column, column + width)
        part[self._place["c"]] = slice(None)
        try:
            # a folder that is gone would read as one in which nothing was written
            (self.path / array.path).stat()
            pixels = np.asarray(array[tuple(part)])
        except Exception as error:
            # storage and codecs have no common error
            raise SlideError(
                f"{self.path} opens, but its pixels cannot be read: {_said(error)}. Check that the drive is connected, "
                "or copy the folder again from where it came."
            ) from error
        kept = sorted(self._place.values())
        order = [kept.index(self._place[name]) for name in "yxc"]
        return np.array(pixels.transpose(order), order="C")

    def shrunk(self, level: int, eighths: int) -> None:
        """Return None: nothing is read faster for being small."""

    def start(self, level: int, pixel: int) -> float:
        """Return `pixel`: arrays are read by whole pixels."""
        return pixel

    def read_associated(self, name: str) -> RGB:
        """Raise KeyError: OME-Zarr keeps no pictures beside the slide."""
        raise KeyError(f"{self.path.name} has no image {name!r}; OME-Zarr has none")

    def icc(self) -> None:
        """Return None: OME-Zarr has no place for colour profiles."""

    def fingerprint(self) -> str:
        """Return a hash of the sizes and of the coarsest level's pixels."""
        last = len(self.sizes) - 1
        width, height = (min(side, 4096) for side in self.sizes[last])
        return hashlib.sha256(repr(self.sizes).encode() + self.read(last, 0, 0, width, height).tobytes()).hexdigest()

    def close(self) -> None:
        """Let go of the arrays. Reads under way in other threads finish."""
        self._arrays = None

    def _is_rgb(self, array: Any, axes: list[str]) -> bool:
        lengths = dict(zip(axes, array.shape, strict=True)) if len(axes) == array.ndim else {}
        return (
            array.dtype == np.uint8
            and len(self._place) == 3
            and lengths.pop("c", 0) == 3
            and all(length == 1 for name, length in lengths.items() if name not in "yx")
        )


def _image(group: zarr.Group) -> tuple[zarr.Group, Mapping[str, Any]]:
    """Return the group of the image and its first multiscale; a converter may have put it into a group named "0"."""
    for candidate in (group, group.get("0")):
        if isinstance(candidate, zarr.Group):
            attributes: Mapping[str, Any] = candidate.attrs
            found = attributes.get("ome", attributes).get("multiscales")
            if found:
                return candidate, found[0]
    raise ValueError("it has no multiscales metadata")


def _scale(described: Mapping[str, Any], place: Mapping[str, int]) -> dict[str, str]:
    """Return µm per pixel of level 0 in x and y as properties, empty without scale, or axes in a unit of length."""
    stated = (
        *described["datasets"][0].get("coordinateTransformations", ()),
        *described.get("coordinateTransformations", ()),
    )
    steps = [step["scale"] for step in stated if step.get("type") == "scale"]
    if not steps:
        return {}  # not 1, which a unit alone would seem to say
    scales = np.ones(len(described["axes"]))
    for step in steps:
        scales *= step
    units = {name: described["axes"][place[name]].get("unit") for name in "xy"}
    return {
        f"openslide.mpp-{name}": repr(float(scales[place[name]]) * _MICRONS[unit])
        for name, unit in units.items()
        if unit in _MICRONS
    }


def _said(error: Exception) -> str:
    return f"“{str(error).strip().rstrip('.') or type(error).__name__}”"
