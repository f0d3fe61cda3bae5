"""Where the plugin keeps what is the user's, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from .errors import CervcellError

__all__ = ["data_folder", "made_folder", "spare_sources", "written_whole"]

_SOURCES = (b"SQLite format 3\0", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how case files and slides begin


def data_folder() -> Path:
    """Return where the plugin keeps what belongs to this user."""
    return Path(platformdirs.user_data_dir("napari-cervcell", appauthor=False))


def made_folder(path: Path) -> Path:
    """Return the folder `path`, which is made where it is not there. Raises CervcellError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CervcellError(
            f"There can be no folder {path}: {error.strerror or error}. Choose another place."
        ) from None
    return path


def spare_sources(path: Path) -> None:
    """Raise CervcellError where `path` is a case file or a slide: a file that is made must not take its place."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(16).startswith(_SOURCES):
            raise CervcellError(f"{path} is a case file or a slide, which would be lost. Choose another name.")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give the place of a new file, which takes the place of `path` when all has gone well; else nothing is left of it.

    Raises OSError.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
