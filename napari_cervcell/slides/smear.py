"""A smear that was never made: real cells and clumps of the sample slide, laid out anew on glass of any size.

What light loses in one layer adds to what it loses in the next. So cells are kept as optical density, and where they
overlap it is summed: cytoplasm stays translucent, and a stamp that ends in empty glass has no edge to be seen.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from .samples import sample_slide, sample_truth
from .slide import open_slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .slide import Slide

__all__ = ["MPP", "STEPS", "Smear", "Stamp", "cut_stamps"]

MPP = 0.25
"""µm per pixel of the sample slide, and so of every smear made from it."""

STEPS = 128.0
"""Stored steps per unit of optical density (natural logarithm): fine enough to be below JPEG's own rounding."""

_COARSE = 4  # cells are cut out to this many pixels
_THIN = 0.12  # optical density from which something counts as a cell; a stamp fades out where it falls below
_SMALLEST = 100  # µm² of a stamp: a leukocyte
_PLACE = 512  # px; how densely a smear lies is drawn for squares of this side

Truth = tuple[float, float, str]


class Stamp(NamedTuple):
    """A cell or a clump, cut out of the sample slide.

    Attributes
    ----------
    density : uint32 (h, w)
        Optical density in `STEPS`, one byte each for red, green and blue, lowest first; the fourth byte is 0.
    nuclei : tuple of (x, y, class)
        Its labelled nuclei, px of the stamp.
    """

    density: NDArray[np.uint32]
    nuclei: tuple[Truth, ...]


def cut_stamps() -> list[Stamp]:
    """Cut all cells and clumps out of the sample slide, always the same ones in the same order."""
    from scipy import ndimage  # slow to import

    with open_slide(sample_slide()) as slide, sample_truth().open(newline="", encoding="utf-8") as table:
        nuclei = [(float(r["x"]), float(r["y"]), r["class"]) for r in csv.DictReader(table)]
        pixels = slide.read_scaled(0, 0, slide.width, slide.height, _COARSE)
        glass = np.percentile(pixels.reshape(-1, 3)[::16], 95, axis=0).astype(np.float32)
        density = -np.log(np.clip(pixels / glass, 1 / 255, 1)).max(axis=2)
        dark = ndimage.uniform_filter(density, 3) > _THIN
        dark = ndimage.binary_opening(ndimage.binary_closing(dark, iterations=3), iterations=3)
        labels, _ = ndimage.label(dark)
        stamps = []
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            if (labels[rows, columns] == label).sum() * (MPP * _COARSE) ** 2 >= _SMALLEST:
                left, top = max(0, columns.start - 6), max(0, rows.start - 6)
                mask = labels[top : rows.stop + 6, left : columns.stop + 6] == label
                stamps.append(_cut(slide, mask, left, top, nuclei))
    return stamps


def _cut(slide: Slide, mask: NDArray[np.bool_], column: int, row: int, nuclei: list[Truth]) -> Stamp:
    """Cut out what `mask` shows, whose upper left corner is at (column, row); all three in coarse pixels."""
    left, top, height, width = column * _COARSE, row * _COARSE, mask.shape[0] * _COARSE, mask.shape[1] * _COARSE
    grown = Image.fromarray(np.uint8(255) * mask).filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.BoxBlur(2))
    opacity = np.asarray(grown.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255
    pixels = slide.read_region(left, top, width, height).astype(np.float32)
    glass = np.median(pixels[opacity == 0], axis=0)  # of its own surroundings: no two fields have quite the same
    density = -np.log(np.clip(pixels / glass, 1 / 255, 1)) * opacity[..., None] * STEPS
    stored = np.zeros((height, width, 4), np.uint8)
    stored[..., :3] = np.clip(np.rint(density), 0, 255)
    inside = [
        (x - left, y - top, name)
        for x, y, name in nuclei
        if left <= x < left + width and top <= y < top + height and opacity[int(y - top), int(x - left)] > 0.9
    ]
    return Stamp(stored.view("<u4")[..., 0], tuple(inside))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a stamp lies: its upper left corner, level-0 px, and in which of eight ways it is turned."""

    stamp: int
    turn: int
    x: int
    y: int


class Smear:
    """Stamps on glass.

    Parameters
    ----------
    width, height : int
        Level-0 px.
    density : float
        Labelled nuclei per mm², on average over the slide.
    rng : numpy.random.Generator
    stamps : list of Stamp
        What to lay out, see `cut_stamps`.
    """

    def __init__(
        self, width: int, height: int, *, density: float, rng: np.random.Generator, stamps: list[Stamp]
    ) -> None:
        self.width, self.height = width, height
        self._stamps = stamps
        per_stamp = float(np.mean([len(s.nuclei) for s in stamps]))
        count = rng.poisson(density * width * height * MPP**2 / 1e6 / per_stamp)
        weights = _deposit(-(-width // _PLACE), -(-height // _PLACE), rng)
        squares = rng.choice(weights.size, count, p=weights.ravel())
        shifts = rng.integers(0, _PLACE, (count, 2))
        kinds, turns = rng.integers(0, len(stamps), count), rng.integers(0, 8, count)
        self._places: list[_Place] = []
        for square, (shift_x, shift_y), kind, turn in zip(
            squares.tolist(), shifts.tolist(), kinds.tolist(), turns.tolist(), strict=True
        ):
            h, w = _turned(stamps[kind].density, turn).shape
            row, column = divmod(square, weights.shape[1])
            x, y = column * _PLACE + shift_x - w // 2, row * _PLACE + shift_y - h // 2
            self._places.append(_Place(kind, turn, max(0, min(x, width - w)), max(0, min(y, height - h))))

    def truth(self) -> list[Truth]:
        """Return (x, y, class) of all labelled nuclei on the slide, level-0 px."""
        found = []
        for place in self._places:
            h, w = self._stamps[place.stamp].density.shape
            for x, y, name in self._stamps[place.stamp].nuclei:
                x, y = _turned_point(x, y, w, h, place.turn)
                if place.x + x < self.width and place.y + y < self.height:
                    found.append((place.x + x, place.y + y, name))
        return found

    def squares(self, side: int) -> dict[tuple[int, int], list[_Place]]:
        """Return for each (column, row) of a grid of `side` px what lies on it, the empty ones left out."""
        index: dict[tuple[int, int], list[_Place]] = {}
        for place in self._places:
            h, w = _turned(self._stamps[place.stamp].density, place.turn).shape
            for row in range(place.y // side, (place.y + h - 1) // side + 1):
                for column in range(place.x // side, (place.x + w - 1) // side + 1):
                    index.setdefault((column, row), []).append(place)
        return index

    def paint(self, canvas: NDArray[np.uint8], left: int, top: int, places: list[_Place]) -> None:
        """Add `places` to `canvas`, uint8 (h, w, 4) of optical density; its corner lies at (left, top), level-0 px."""
        for place in places:
            density = _turned(self._stamps[place.stamp].density, place.turn)
            x, y = place.x - left, place.y - top
            cut = density[max(0, -y) : canvas.shape[0] - y, max(0, -x) : canvas.shape[1] - x]
            part = canvas[max(0, y) :, max(0, x) :][: cut.shape[0], : cut.shape[1]]
            more = np.ascontiguousarray(cut).view(np.uint8).reshape(part.shape)
            part += np.minimum(more, ~part)  # without the minimum, what is over 255 would come back as light


def _turned(image: NDArray[np.uint32], turn: int) -> NDArray[np.uint32]:
    """Return a view of `image` in one of eight ways: mirrored at the diagonal (4), upright (2), left to right (1)."""
    image = image.T if turn & 4 else image
    image = image[::-1] if turn & 2 else image
    return image[:, ::-1] if turn & 1 else image


def _turned_point(x: float, y: float, width: int, height: int, turn: int) -> tuple[float, float]:
    """Return where `_turned` puts the point (x, y) of an image of that size."""
    if turn & 4:
        x, y, width, height = y, x, height, width
    return (width - x if turn & 1 else x), (height - y if turn & 2 else y)


def _deposit(columns: int, rows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how much of the smear falls on each square, float64 (rows, columns) of sum 1: in drifts, with gaps."""
    total = np.zeros((rows, columns))
    for size, share in ((24, 0.6), (6, 0.4)):  # squares from one drift to the next: 3 mm and 0.8 mm
        drawn = rng.random((rows // size + 2, columns // size + 2), np.float32)
        wide = Image.fromarray(drawn).resize((columns, rows), Image.Resampling.BICUBIC)
        total += share * np.asarray(wide, np.float64)
    total = np.maximum(total - 0.35, 0.01)
    shares: NDArray[np.float64] = total / total.sum()
    return shares
