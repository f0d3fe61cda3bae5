"""Where on a slide to measure: places with cells, the same ones for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..slides import foreground

if TYPE_CHECKING:
    from ..slides import Slide

__all__ = ["VIEW", "places_with_cells"]

Place = tuple[int, int]

VIEW = 1600, 1000
"""Width and height of what a reviewer looks at, in pixels."""


def places_with_cells(slide: Slide, count: int) -> list[Place]:
    """Return centres (x, y), level-0 px, of `count` views that lie in the slide and have cells in their middle.

    They are drawn with a fixed seed; where there is room, no two of them overlap.
    """
    map_of_cells = foreground(slide)
    rows, columns = np.nonzero(map_of_cells.mask if map_of_cells.share else np.ones_like(map_of_cells.mask))
    order = np.random.default_rng(0).permutation(len(rows))
    taken: list[Place] = []
    doubles: list[Place] = []
    for i in order:
        x = _within(columns[i] * map_of_cells.downsample, VIEW[0], slide.width)
        y = _within(rows[i] * map_of_cells.downsample, VIEW[1], slide.height)
        apart = all(abs(x - a) >= VIEW[0] or abs(y - b) >= VIEW[1] for a, b in taken)
        (taken if apart else doubles).append((x, y))
        if len(taken) == count or len(doubles) == 100 * count:
            break
    found = [*taken, *doubles]
    return [found[i % len(found)] for i in range(count)]


def _within(place: float, view: int, side: int) -> int:
    return int(min(max(place, view / 2), max(side - view / 2, side / 2)))
