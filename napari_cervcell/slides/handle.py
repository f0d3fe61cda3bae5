"""A hold on an OpenSlide file that outlives errors and may be shared by threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from . import ome
from .problems import SlideError, check_file, damaged, unopenable, unreadable
from .source import RGB

__all__ = ["Handle"]

_MOST = 1 << 28  # bytes that no sound tile exceeds


class Handle:
    """Reads from one slide file (a `Source`). Raises SlideError, always naming the file.

    After one error OpenSlide refuses everything on that object. So it is replaced: a second try tells a passing fault
    (a network drive) from a lasting one, and after a lasting one the rest of the slide stays readable.
    """

    reader = "openslide"

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        self._lock = threading.Lock()
        self._file: openslide.OpenSlide | None = self._open()
        try:
            stated = self._file.properties
            # names that are damaged have no value
            self.properties: dict[str, str] = {k: v for k in stated if (v := stated.get(k)) is not None}
            # before the resolution of the TIFF, which may be that of a print
            self.ome = ome.pixels_of(self.properties)
            self.properties |= ome.microns(self.ome)
            self.sizes: tuple[tuple[int, int], ...] = self._file.level_dimensions
            self.associated: tuple[str, ...] = tuple(self._file.associated_images)
            # by this OpenSlide turns level-0 coordinates into those of a level
            self._downsamples = self._file.level_downsamples
        except openslide.OpenSlideError as error:
            raise unopenable(path, error) from error
        if self._largest_tile() > _MOST:
            # OpenSlide would end the process if there is not that much memory
            raise damaged(path, "its tiles are larger than any scanner makes them")
        background = int(self.properties.get("openslide.background-color", "ffffff"), 16)
        self.background = (background >> 16, background >> 8 & 255, background & 255)

    def read(self, level: int, column: int, row: int, width: int, height: int) -> RGB:
        """Return uint8 (height, width, 3) from pixel (column, row) of a level."""
        scale = self._downsamples[level]
        image = self._read((round(column * scale), round(row * scale)), level, (width, height))
        return self._on_background(image)

    def read_associated(self, name: str) -> RGB:
        """Return a picture beside the slide as uint8 (height, width, 3); KeyError where there is none of that name."""
        if name not in self.associated:
            raise KeyError(
                f"{self.path.name} has no image {name!r}, only {', '.join(self.associated) or 'none at all'}"
            )
        width, height = (int(self.properties.get(f"openslide.associated.{name}.{s}", 0)) for s in ("width", "height"))
        if 4 * width * height > _MOST:
            raise damaged(self.path, f"its {name} image is larger than any camera makes them")
        return self._on_background(self._try_twice(lambda file: file.associated_images[name]))

    def shrunk(self, level: int, eighths: int) -> None:
        """Return None: nothing is read faster for being small."""

    def start(self, level: int, pixel: int) -> float:
        """Return where reading from `pixel` begins, in pixels of the level.

        OpenSlide takes whole level-0 pixels and divides them by a factor that need not be whole, then interpolates.
        """
        scale: float = self._downsamples[level]
        return round(pixel * scale) / scale

    def icc(self) -> bytes | None:
        """Return the colour profile stored in the file, if there is one; it need not be sound."""
        return self._read((0, 0), 0, (0, 0)).info.get("icc_profile")

    def fingerprint(self) -> str:
        """Return OpenSlide's hash of the file, or a hash of its ends where it gives none."""
        return self.properties.get("openslide.quickhash-1") or _hash_ends(self.path)

    def close(self) -> None:
        """Let go of the file. Reads under way in other threads finish."""
        with self._lock:
            # not file.close(): that would free memory under the feet of a reading thread
            self._file = None

    def _largest_tile(self) -> int:
        """Return the bytes that the largest tile takes in memory, 0 if no level says the size of its tiles."""
        key = "openslide.level[{}].tile-{}"
        sides = [
            [int(self.properties.get(key.format(i, s), 0)) for s in ("width", "height")] for i in range(len(self.sizes))
        ]
        return max(4 * width * height for width, height in sides)

    def _on_background(self, image: Image.Image) -> RGB:
        if image.getchannel("A").getextrema()[0] == 255:
            return np.array(image.convert("RGB"))  # a copy: PIL gives arrays that cannot be written to
        backed = Image.new("RGB", image.size, self.background)
        backed.paste(image, mask=image)
        return np.array(backed)

    def _read(self, place: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        return self._try_twice(lambda file: file.read_region(place, level, size))

    def _try_twice(self, read: Callable[[openslide.OpenSlide], Image.Image]) -> Image.Image:
        file = self._usable()
        try:
            return read(file)
        except openslide.OpenSlideError:
            file = self._replace(file)
        try:
            return read(file)
        except openslide.OpenSlideError as error:
            self._replace(file)
            raise unreadable(self.path, error) from error

    def _usable(self) -> openslide.OpenSlide:
        file = self._file
        if file is None:
            raise SlideError(f"{self.path} has been closed. Open it again.")
        return file

    def _replace(self, failed: openslide.OpenSlide) -> openslide.OpenSlide:
        """Open the file anew, unless another thread already has; `failed` closes when its last reader is done."""
        with self._lock:
            if self._file is failed:
                check_file(self.path)
                self._file = self._open()
            return self._usable()

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self.path)
        except openslide.OpenSlideError as error:
            raise unopenable(self.path, error) from error


def _hash_ends(path: Path) -> str:
    """Hash the size and both ends of a file: quick, and different for different slides."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(65536)
        file.seek(max(0, size - 65536))
        return hashlib.sha256(b"%d" % size + head + file.read()).hexdigest()
