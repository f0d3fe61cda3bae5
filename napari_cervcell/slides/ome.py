"""What an OME-TIFF says about its pixels: in XML, in the description of its first page."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

__all__ = ["microns", "pixels_of", "planes"]

_MICRONS = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "mm": 1e3}  # the micro sign and the Greek letter are both written


def pixels_of(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of the first image's `Pixels`, empty where the file's description is no OME-XML."""
    try:
        found = ElementTree.fromstring(properties.get("tiff.ImageDescription", "")).find(".//{*}Pixels")
    except ElementTree.ParseError:
        return {}
    return {} if found is None else dict(found.attrib)


def microns(pixels: Mapping[str, str]) -> dict[str, str]:
    """Return µm per pixel as properties, as far as `pixels` say them in a unit of length."""
    found = {}
    for axis in "xy":
        name = f"PhysicalSize{axis.upper()}"
        unit = _MICRONS.get(pixels.get(f"{name}Unit", "µm"))
        if unit is not None and name in pixels:
            try:
                found[f"openslide.mpp-{axis}"] = repr(float(pixels[name]) * unit)
            except ValueError:
                continue  # what is no number says nothing
    return found


def planes(pixels: Mapping[str, str], together: int) -> dict[str, int]:
    """Return what lies in pages of its own, by name, where a page holds so many channels `together`; 1 is one page."""
    return {
        "channels": int(pixels.get("SizeC", 1)) // together or 1,
        "focal planes": int(pixels.get("SizeZ", 1)),
        "time points": int(pixels.get("SizeT", 1)),
    }
