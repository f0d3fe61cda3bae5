"""From a scanner's colours to those of a screen."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from .source import RGB

__all__ = ["ToScreen"]


class ToScreen:
    """Turns pixels of a scanner, whose ICC profile is given, into sRGB.

    Raises ValueError if the profile is damaged, or not one of RGB pixels.
    """

    def __init__(self, icc: bytes) -> None:
        try:
            scanner = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            self._transform = ImageCms.buildTransform(scanner, ImageCms.createProfile("sRGB"), "RGB", "RGB")
        except (ImageCms.PyCMSError, OSError) as error:
            raise ValueError(str(error)) from error

    def __call__(self, pixels: RGB) -> RGB:
        """Return uint8 (h, w, 3) in sRGB for uint8 (h, w, 3) of the scanner."""
        image = Image.fromarray(pixels)
        ImageCms.applyTransform(image, self._transform, inPlace=True)
        return np.array(image)
