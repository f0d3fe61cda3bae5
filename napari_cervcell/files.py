"""Where the plugin keeps what is the user's, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

__all__ = ["data_folder", "written_whole"]


def data_folder() -> Path:
    """Return where the plugin keeps what belongs to this user."""
    return Path(platformdirs.user_data_dir("napari-cervcell", appauthor=False))


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
