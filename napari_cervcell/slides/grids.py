"""The sizes in which a slide is shown: those that its file stores, and halves of them where the next is too far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .levels import scale_of

if TYPE_CHECKING:
    from .slide import Slide

__all__ = ["Box", "Grid", "common", "grids_of", "paste", "region"]

RGB = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of a grid"""
TileAt = Callable[[tuple[int, int]], RGB]
"""Returns the pixels of a tile, by its (column, row)."""

_COARSEST = 1024  # px: viewers hold the coarsest size in memory and draw the thumbnail from it
_FAR = 2.8  # a next stored size that is smaller by more than this gets one half between
_NEAR = 1.2  # and one that is smaller by less than this is passed over
_OFF = 0.25  # px of its own by which a grid may be off at the far edge; beyond that its pixels are resampled


@dataclass(frozen=True)
class Grid:
    """One size of a slide, cut into tiles.

    It spans the whole slide exactly, as viewers take it to. Its pixels are either those of a stored level as they are,
    or made from those of the next finer grid.

    Attributes
    ----------
    index : int
        Which of the grids of its slide it is.
    columns, rows : int
        Size in pixels.
    tile : int
        Side of its tiles in pixels; those at the right and bottom edge are smaller.
    extent : (float, float)
        How many of its pixels the slide is wide and high, to a fraction of one.
    stored : int or None
        The stored level whose tiles are its own.
    finer : Grid or None
        What its pixels are made from, where it is not stored.
    """

    index: int
    columns: int
    rows: int
    tile: int
    extent: tuple[float, float]
    stored: int | None = None
    finer: Grid | None = None

    @property
    def is_off(self) -> bool:
        """Whether its last pixels lie too far from where a viewer draws them."""
        return max(abs(self.extent[0] - self.columns), abs(self.extent[1] - self.rows)) > _OFF

    def chain(self) -> list[Grid]:
        """Return the grid and all that it is made from."""
        return [self] if self.finer is None else [self, *self.finer.chain()]

    def box(self, column: int, row: int) -> Box:
        """Return left, top, right, bottom of a tile in pixels of the grid."""
        left, top = column * self.tile, row * self.tile
        return left, top, min(left + self.tile, self.columns), min(top + self.tile, self.rows)

    def tiles_in(self, box: Box) -> Iterator[tuple[int, int]]:
        """Yield (column, row) of the tiles that lie in a box of pixels, as far as there are such."""
        left, top, right, bottom = box
        for row in range(max(0, top // self.tile), -(-min(bottom, self.rows) // self.tile)):
            for column in range(max(0, left // self.tile), -(-min(right, self.columns) // self.tile)):
                yield column, row

    def source_box(self, column: int, row: int) -> Box:
        """Return the box of the finer grid from which a tile is made; it may reach beyond that grid."""
        assert self.finer is not None
        left, top, right, bottom = self.box(column, row)
        if self._halves:
            return 2 * left, 2 * top, 2 * right, 2 * bottom
        step_x, step_y = self._steps
        pad = 3  # what the filter sees around
        return (
            int(left * step_x) - pad, int(top * step_y) - pad, int(right * step_x) + pad, int(bottom * step_y) + pad,
        )  # fmt: skip

    def make(self, column: int, row: int, tile_at: TileAt) -> RGB:
        """Return a tile from those of the finer grid that lie in its `source_box`."""
        assert self.finer is not None
        box, around = self.box(column, row), self.source_box(column, row)
        left, top, right, bottom = box
        if self._halves:
            made = np.empty((bottom - top, right - left, 3), np.uint8)
            for key in self.finer.tiles_in(around):
                x, y, _, _ = self.finer.box(*key)
                half = np.asarray(Image.fromarray(tile_at(key)).reduce(2))
                paste(made, box, half, (x // 2, y // 2, x // 2 + half.shape[1], y // 2 + half.shape[0]))
            return made
        step_x, step_y = self._steps
        x, y, _, _ = around
        part = (left * step_x - x, top * step_y - y, right * step_x - x, bottom * step_y - y)
        # between pixels of the same size the straight line alone is true to a fraction of a pixel
        method = Image.Resampling.BILINEAR if max(step_x, step_y) < 1.5 else Image.Resampling.HAMMING
        source = Image.fromarray(region(self.finer, around, tile_at))
        return np.array(source.resize((right - left, bottom - top), method, part))

    @property
    def _steps(self) -> tuple[float, float]:
        assert self.finer is not None
        return self.finer.extent[0] / self.columns, self.finer.extent[1] / self.rows

    @property
    def _halves(self) -> bool:
        """Whether each pixel is the mean of two by two of the finer grid, and of the same of its tiles."""
        assert self.finer is not None
        return self.tile % 2 == 0 and all(
            mine * 2 == its for mine, its in zip(self.extent, self.finer.extent, strict=True)
        )


def grids_of(slide: Slide) -> list[Grid]:
    """Return the grids of a slide, finest first, until none of its sides is above 1024 pixels."""
    grids: list[Grid] = []
    count = len(slide.levels)  # of what is made, the numbers follow those of what is stored
    for number, level in enumerate(slide.levels):
        while grids and _size(grids[-1]) > _COARSEST and _size(grids[-1]) > _FAR * max(level.width, level.height):
            grids.append(_half(grids[-1], count))
            count += 1
        if grids and (_size(grids[-1]) <= _COARSEST or _size(grids[-1]) < _NEAR * max(level.width, level.height)):
            continue
        extent = (
            slide.width / scale_of(slide.width, level.width, level.downsample),
            slide.height / scale_of(slide.height, level.height, level.downsample),
        )
        grid = Grid(number, level.width, level.height, slide.tile_size, extent, stored=number)
        if grid.is_off:
            grid = _fitted(grid, count)
            count += 1
        grids.append(grid)
    while _size(grids[-1]) > _COARSEST:
        grids.append(_half(grids[-1], count))
        count += 1
    return grids


def common(a: Box, b: Box) -> Box:
    """Return what two boxes have in common, of no width or height where that is nothing."""
    left, top = max(a[0], b[0]), max(a[1], b[1])
    return left, top, max(left, min(a[2], b[2])), max(top, min(a[3], b[3]))


def paste(target: RGB, target_box: Box, tile: RGB, box: Box) -> None:
    """Copy what a tile and a target have in common; both boxes are in pixels of the same grid."""
    left, top, right, bottom = common(target_box, box)
    x, y = target_box[:2]
    target[top - y : bottom - y, left - x : right - x] = tile[
        top - box[1] : bottom - box[1], left - box[0] : right - box[0]
    ]


def region(grid: Grid, box: Box, tile_at: TileAt) -> RGB:
    """Return the pixels of a box from the tiles of a grid; beyond it its edge is repeated."""
    left, top, right, bottom = box
    inside = common(box, (0, 0, grid.columns, grid.rows))
    pixels = np.empty((inside[3] - inside[1], inside[2] - inside[0], 3), np.uint8)
    for key in grid.tiles_in(inside):
        paste(pixels, inside, tile_at(key), grid.box(*key))
    if inside == box:
        return pixels
    beyond = ((inside[1] - top, bottom - inside[3]), (inside[0] - left, right - inside[2]), (0, 0))
    return np.pad(pixels, beyond, mode="edge")


def _size(grid: Grid) -> int:
    return max(grid.columns, grid.rows)


def _half(finer: Grid, index: int) -> Grid:
    extent = finer.extent[0] / 2, finer.extent[1] / 2
    columns, rows = (max(1, round(side)) for side in extent)
    grid = Grid(index, columns, rows, finer.tile, extent, finer=finer)
    return _fitted(grid, index) if grid.is_off else grid


def _fitted(grid: Grid, index: int) -> Grid:
    """Return the grid with pixels that lie where viewers draw them."""
    exact = float(grid.columns), float(grid.rows)
    source = grid if grid.stored is not None else grid.finer
    return Grid(index, grid.columns, grid.rows, grid.tile, exact, finer=source)
