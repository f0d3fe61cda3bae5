"""A hold on an OpenSlide file that outlives errors and may be shared by threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import openslide

from .problems import SlideError, check_file, unopenable, unreadable

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Handle"]


class Handle:
    """Reads from one slide file. Raises SlideError, always naming the file.

    After one error OpenSlide refuses everything on that object. So it is replaced: a second try tells a passing fault
    (a network drive) from a lasting one, and after a lasting one the rest of the slide stays readable.
    """

    def __init__(self, path: Path) -> None:
        check_file(path)
        self._path = path
        self._lock = threading.Lock()
        self._file: openslide.OpenSlide | None = self._open()
        try:
            self.properties = dict(self._file.properties)
            self.sizes = self._file.level_dimensions
            # by this OpenSlide turns level-0 coordinates into those of a level
            self.downsamples = self._file.level_downsamples
        except openslide.OpenSlideError as error:
            raise unopenable(path, error) from error

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
        """Return RGBA of `width` x `height` pixels of a level from (x, y) in level-0 pixels."""
        file = self._usable()
        try:
            return file.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError:
            file = self._replace(file)
        try:
            return file.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            self._replace(file)
            raise unreadable(self._path, error) from error

    def close(self) -> None:
        """Let go of the file. Reads under way in other threads finish."""
        with self._lock:
            # not file.close(): that would free memory under the feet of a reading thread
            self._file = None

    def _usable(self) -> openslide.OpenSlide:
        file = self._file
        if file is None:
            raise SlideError(f"{self._path} has been closed. Open it again.")
        return file

    def _replace(self, failed: openslide.OpenSlide) -> openslide.OpenSlide:
        """Open the file anew, unless another thread already has; `failed` closes when its last reader is done."""
        with self._lock:
            if self._file is failed:
                check_file(self._path)
                self._file = self._open()
            return self._usable()

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self._path)
        except openslide.OpenSlideError as error:
            raise unopenable(self._path, error) from error
