"""Where the plugin keeps what is the user's, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from .errors import CervcellError

__all__ = [
    "data_folder",
    "database_in_use",
    "is_database_in_use",
    "made_folder",
    "refuse_database",
    "spare_sources",
    "written_whole",
]

_SOURCES = (b"SQLite format 3\0", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how case files and slides begin
_SLIDES = {".mrxs", ".dcm", ".vms", ".vmu"}  # those of slides that begin otherwise
# how often this process has a database open, by where that is on the disk
_databases: Counter[tuple[int, int]] = Counter()
_counting = threading.Lock()


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


@contextlib.contextmanager
def database_in_use(path: Path) -> Iterator[None]:
    """Note for as long that this process has the database `path` of SQLite open. Raises OSError where there is none."""
    place = _place(path)
    with _counting:
        _databases[place] += 1
    try:
        yield
    finally:
        with _counting:
            _databases[place] -= 1


def is_database_in_use(path: Path) -> bool:
    """Whether `path` is a database that this process has open, or its log.

    Nothing but SQLite may open it then: with the first other descriptor on it that is closed, POSIX takes away all
    locks of the process, and the next program that closes the database deletes the log from under it.
    """
    with contextlib.suppress(OSError):
        return _databases[_place(Path(str(path).removesuffix("-wal").removesuffix("-shm")))] > 0
    return False


def refuse_database(path: Path) -> None:
    """Raise CervcellError where `path` must not be read as a file of any other kind; see :func:`is_database_in_use`."""
    if is_database_in_use(path):
        raise CervcellError(f"{path} is a case file, which is open here. Choose another file.")


def _place(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def spare_sources(path: Path) -> None:
    """Raise CervcellError where `path` is a case file or a slide: a file that is made must not take its place."""
    if is_database_in_use(path) or _begins_as_source(path):
        raise CervcellError(f"{path} is a case file or a slide, which would be lost. Choose another name.")


def _begins_as_source(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return path.suffix.lower() in _SLIDES or file.read(16).startswith(_SOURCES)
    return False


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
