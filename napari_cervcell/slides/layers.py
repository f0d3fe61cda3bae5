"""What the slides room offers napari: a reader, whose slides are plain layer tuples."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openslide

from ..files import is_database_in_use
from .problems import SlideError, is_sound_tiff
from .slide import open_slide
from .stream import Stream

__all__ = ["get_reader", "read"]

LayerData = tuple[Any, dict[str, Any], str]

_SLIDES_ONLY = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu"}
_TIFF = {".tif", ".tiff"}


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return the reader if all of `path` are for us, else None.

    Files with a slide's suffix always are, so that a broken one is explained rather than passed on; TIFF and DICOM
    files are if OpenSlide knows them, damaged TIFF files are too. Folders are if they hold an OME-Zarr slide.
    """
    return read if all(_is_ours(Path(p)) for p in _as_list(path)) else None


def read(path: str | Sequence[str], *, color_managed: bool = False) -> list[LayerData]:
    """Return one multiscale image layer a slide, of whatever name; label and macro images stay in the file.

    Its levels wait for the file, as arrays do, until somebody listens to their `Stream`. Its pixels come in sRGB by the
    colour profile in the file where they are `color_managed`.

    Raises
    ------
    SlideError
        As `open_slide` does.
    """
    return [_layer(Path(p), color_managed) for p in _as_list(path)]


def _as_list(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)


def _is_ours(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in _SLIDES_ONLY:
        return True
    if os.path.isdir(path):
        return _is_zarr_slide(path)
    if not os.path.isfile(path) or is_database_in_use(path):
        return False
    return openslide.OpenSlide.detect_format(path) is not None or (suffix in _TIFF and not is_sound_tiff(path))


def _is_zarr_slide(path: Path) -> bool:
    """Whether a folder can be opened as a slide; other arrays in OME-Zarr are for other readers."""
    try:
        open_slide(path).close()
    except SlideError:
        return False
    return True


def _layer(path: Path, color_managed: bool) -> LayerData:
    slide = open_slide(path, color_managed=color_managed)
    settings: dict[str, Any] = {
        "name": path.stem,
        "rgb": True,
        "multiscale": True,
        "metadata": {"slide": slide},
        "units": ("pixel", "pixel"),
    }
    if slide.mpp_xy is not None:
        x, y = slide.mpp_xy
        settings |= {"scale": (y, x), "units": ("um", "um")}
    return Stream(slide).levels, settings, "image"
