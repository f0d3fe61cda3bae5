"""Pixels in: whole-slide images as levels, regions, a pyramid and a map of where there is something to see.

Tiles of TIFF slides are decoded as they are stored, OpenSlide reads all other formats. Importing this package loads
neither torch nor Qt nor napari.
"""

from __future__ import annotations

from .foreground import Foreground, foreground
from .levels import Level
from .problems import SlideError
from .samples import sample_slide
from .slide import Slide, open_slide

__all__ = ["Foreground", "Level", "Slide", "SlideError", "foreground", "open_slide", "sample_slide"]
