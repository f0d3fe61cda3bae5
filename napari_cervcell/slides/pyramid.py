"""A slide as a multiscale of dask arrays, for napari and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .slide import Slide

__all__ = ["build_pyramid"]

# Viewers keep the coarsest level in memory and draw the thumbnail from it.
_COARSEST = 1024


def build_pyramid(slide: Slide) -> list[da.Array]:
    """Return uint8 (h, w, 3) arrays of 1, 1/2, 1/4, ... the size, until no side is above 1024 pixels.

    Each level spans the whole slide exactly, as viewers take it to: half of 251 rows are 126 of 1.99 rows each.
    """
    levels = [_level(slide, 1)]
    while max(levels[-1].shape) > _COARSEST:
        levels.append(_level(slide, 2 ** len(levels)))
    return levels


def _level(slide: Slide, downsample: int) -> da.Array:
    rows, columns = (max(1, round(side / downsample)) for side in (slide.height, slide.width))
    # map_blocks, not from_array: the latter costs time for every chunk of the whole level on every slice.
    level: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        _chunk,
        slide,
        slide.width / columns,
        slide.height / rows,
        chunks=(_lengths(rows, slide.tile_size), _lengths(columns, slide.tile_size), (3,)),
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), np.uint8),
    )
    return level


def _lengths(total: int, size: int) -> tuple[int, ...]:
    full, rest = divmod(total, size)
    return (size,) * full + ((rest,) if rest else ())


def _chunk(slide: Slide, step_x: float, step_y: float, block_info: Any = None) -> NDArray[np.uint8]:
    (top, bottom), (left, right), _ = block_info[None]["array-location"]
    return slide.read_grid(left * step_x, top * step_y, right - left, bottom - top, step_x, step_y)
