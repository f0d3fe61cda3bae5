"""What an SCN file of Leica says about its areas: in XML, in the description of its first page.

The areas that were scanned at full magnification lie anywhere on the slide, each with levels of its own. Places are in
a unit of length, of which each level tells how many a pixel has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

__all__ = ["Area", "areas_of"]

_EXACT = 1e-6  # px


@dataclass(frozen=True, slots=True)
class Area:
    """One level of an area: the number of its page in the file, and its place in pixels of the level."""

    page: int
    place: tuple[int, int]


def areas_of(description: str) -> list[list[Area]]:
    """Return the areas of each level, finest first, what lies above others last; empty where there are none.

    At full size an area begins in the pixel where OpenSlide has it; at coarser levels, where that may be off by nearly
    a pixel of theirs, at the nearest, so that a cell is at the same place in all.

    Raises
    ------
    ValueError, KeyError, xml.etree.ElementTree.ParseError
        Where it is no such description.
    """
    collection = _child(ElementTree.fromstring(description), "collection")
    size = collection.attrib["sizeX"], collection.attrib["sizeY"]
    levels: list[list[Area]] = []
    for image in collection.iterfind("{*}image"):
        view = _child(image, "view")
        at = view.attrib["offsetX"], view.attrib["offsetY"]
        if at == ("0", "0") and (view.attrib["sizeX"], view.attrib["sizeY"]) == size:
            continue  # a picture of the whole slide, at low magnification
        for number, dimension in enumerate(_dimensions(image)):
            if number == len(levels):
                levels.append([])
            steps = [int(view.attrib[side]) / int(dimension.attrib[side]) for side in ("sizeX", "sizeY")]
            x, y = (_whole(int(offset) / step, number) for offset, step in zip(at, steps, strict=True))
            levels[number].insert(0, Area(int(dimension.attrib["ifd"]), (x, y)))
    return levels


def _child(element: Element, name: str) -> Element:
    found = element.find(f"{{*}}{name}")
    if found is None:
        raise ValueError(f"there is no {name}")
    return found


def _dimensions(image: Element) -> list[Element]:
    """Return the levels of an image, finest first, of its middle focal plane, which is the only one as a rule."""
    found = [d for d in image.iterfind("{*}pixels/{*}dimension") if d.attrib.get("z", "0") == "0"]
    return sorted(found, key=lambda d: -int(d.attrib["sizeX"]))


def _whole(place: float, level: int) -> int:
    return round(place) if level else math.floor(place + _EXACT)
