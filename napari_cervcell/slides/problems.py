"""What is wrong with a file that should have been a slide, in words that say what to do about it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import CervcellError
from ..files import is_database_in_use

__all__ = ["SlideError", "check_file", "damaged", "is_sound_tiff", "unopenable", "unreadable"]

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_READABLE = "SVS, NDPI, MRXS, SCN, BIF, SVSLIDE, VMS, DICOM, OME-Zarr or tiled TIFF"
_COPY_AGAIN = "Copy it again from where it came, or export it again from the scanner."


class SlideError(CervcellError):
    """A slide cannot be opened or read; the message names the file, the reason and what to do."""


def check_file(path: Path) -> None:
    """Raise SlideError if `path` is no file with something in it that we may read."""
    if os.path.isdir(path):  # not Path.is_dir, which raises where one may not look
        raise SlideError(
            f"{path} is a folder, not a slide. Open the slide file itself: for DICOM any one .dcm file in the folder, "
            "for MRXS the .mrxs file beside it. Only OME-Zarr images are folders."
        )
    if is_database_in_use(path):
        raise SlideError(f"{path} is a case file, not a slide. Open the slide that it is about.")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise SlideError(f"There is no file {path}. Check the name, and that the drive is connected.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise SlideError(f"{path} cannot be read: {reason}. Check the permissions and the drive.") from error
    if empty:
        raise SlideError(f"{path} is empty (0 bytes), so the copy or download did not finish. {_COPY_AGAIN}")


def unopenable(path: Path, error: Exception) -> SlideError:
    """Return the error for a file that OpenSlide does not open; `error` is what OpenSlide said."""
    if not _has_tiff_magic(path):
        return SlideError(
            f"{path} is not a slide that can be read here: OpenSlide says {_quote(error)}. "
            f"Open an {_READABLE} file; other formats must be converted first."
        )
    if missing := _cut_short(path):
        return damaged(path, missing)
    if not _is_tiled(path):
        return SlideError(
            f"{path} is a TIFF without tiles, so it cannot be read piece by piece. Convert it to a tiled pyramid, "
            "e.g. `vips tiffsave IN OUT.tiff --tile --pyramid --compression jpeg`."
        )
    return SlideError(
        f"{path} is a TIFF that OpenSlide cannot open: {_quote(error)}. "
        "Export it again from the scanner, or convert it to a tiled TIFF with JPEG compression."
    )


def damaged(path: Path, reason: str) -> SlideError:
    """Return the error for a file that is not as it was written."""
    return SlideError(f"{path} is cut short or damaged: {reason}. {_COPY_AGAIN}")


def unreadable(path: Path, error: Exception) -> SlideError:
    """Return the error for a slide that opens but whose pixels cannot be decoded."""
    missing = _cut_short(path) if _has_tiff_magic(path) else ""
    reason = f"it is cut short or damaged ({missing})" if missing else f"decoding says {_quote(error)}"
    return SlideError(f"{path} opens, but its pixels cannot be read: {reason}. {_COPY_AGAIN}")


def is_sound_tiff(path: Path) -> bool:
    """Whether the file is a complete TIFF of any kind, so that other readers may make something of it."""
    return _has_tiff_magic(path) and not _cut_short(path)


def _quote(error: Exception) -> str:
    return f"“{str(error).strip().rstrip('.')}”"


def _has_tiff_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in _TIFF_MAGIC
    except OSError:
        return False


def _cut_short(path: Path) -> str:
    """Return what is missing from a TIFF, or "" if every part it points to lies within the file."""
    import tifffile  # only needed when something is wrong

    size = path.stat().st_size
    try:
        with _quiet("tifffile"), tifffile.TiffFile(path) as tiff:
            pages = [*tiff.pages, *(tiff.pages.first.pages or ())]  # of an OME-TIFF, the levels are below the first
            end = max(
                (o + n for p in pages for o, n in zip(p.dataoffsets, p.databytecounts, strict=True)),
                default=0,
            )
            short = end > size
    except Exception:
        # tifffile meets a damaged directory in many ways (struct.error, ValueError, its own error, ...)
        return "its directory cannot be read"
    if not pages:
        return "it holds no image"
    return f"it has {size:,} bytes, but its directory points to byte {end:,}" if short else ""


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Keep a library from printing what is said in the message of an error."""
    log = logging.getLogger(logger)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _is_tiled(path: Path) -> bool:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        return 322 in tiff.pages.first.tags  # the width of tiles
