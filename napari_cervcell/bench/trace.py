"""What the hand does with a slide in the window, recorded once and played to everybody."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from .places import VIEW, Place

__all__ = ["Step", "fit", "panning", "recorded_trace"]

_PANS, _PAN, _PAN_PAUSE = 40, 128, 0.05  # how many, canvas px, seconds
_FLINGS, _FLING_PAUSE = 10, 0.25
_NOTCHES, _NOTCH_PAUSE = 8, 0.04  # of the wheel to halve the size
_LOOK = 0.5  # seconds that a person looks at what a jump has brought
_DRAG, _DRAG_PAUSE = 400, 0.05  # of a long pan: level-0 px a step, seconds


class Step(NamedTuple):
    """Where the window is taken: centre in level-0 px, canvas px per level-0 px, and seconds until the next step."""

    x: float
    y: float
    zoom: float
    seconds: float


def fit(size: tuple[int, int]) -> Step:
    """Return the view of the whole slide."""
    zoom = min(VIEW[0] / size[0], VIEW[1] / size[1])
    return Step(size[0] / 2, size[1] / 2, zoom, _LOOK)


def recorded_trace(size: tuple[int, int], place: Place) -> list[Step]:
    """Return: jump to level 0 at `place`, 40 small pans, 10 flings, zoom out over all levels, back in.

    `size` is that of the slide. All goes towards the slide's middle, so that there is something to see.
    """
    x, y = float(place[0]), float(place[1])
    right, down = (1 if x < size[0] / 2 else -1), (1 if y < size[1] / 2 else -1)
    steps = [Step(x, y, 1.0, _LOOK)]

    def move(dx: float, dy: float, seconds: float) -> None:
        nonlocal x, y
        x, y = min(max(x + right * dx, 0), size[0]), min(max(y + down * dy, 0), size[1])
        steps.append(Step(x, y, 1.0, seconds))

    for i in range(_PANS):
        move(*((_PAN, 0) if i < _PANS // 2 else (0, _PAN)), _PAN_PAUSE)
    for i in range(_FLINGS):
        move(*((VIEW[0], 0) if i % 2 == 0 else (0, VIEW[1])), _FLING_PAUSE)
    notches = math.ceil(-math.log2(min(1.0, fit(size).zoom)) * _NOTCHES)
    out = [Step(x, y, 2 ** (-i / _NOTCHES), _NOTCH_PAUSE) for i in range(1, notches + 1)]
    back = [*out[-2::-1], Step(x, y, 1.0, _LOOK)]
    return [*steps, *out, *back]


def panning(size: tuple[int, int], place: Place) -> Iterator[Step]:
    """Yield steps of one long pan at level 0 without end: to a side, a view down, and back the other way."""
    x, y = float(place[0]), float(place[1])
    right = 1
    while True:
        if not 0 <= x + right * _DRAG <= size[0]:
            right = -right
            y = (y + VIEW[1]) % size[1]
        x = min(max(x + right * _DRAG, 0), size[0])
        yield Step(x, y, 1.0, _DRAG_PAUSE)
