"""Tiles that could not be read: how they look, and when each may be tried again."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .cache import Place

__all__ = ["Faults", "Hatched", "hatched"]

_FIRST, _LAST = 2.0, 60.0  # seconds until a tile is tried again, at first and at most; doubled in between


class Hatched(np.ndarray[Any, np.dtype[np.uint8]]):
    """A tile some or all of which could not be read. What is wrong with it goes with the pixels, wherever they are."""


def hatched(width: int, height: int) -> Hatched:
    """Return a grey tile, uint8 (height, width, 3), with slanting lines, which nobody takes for part of a slide."""
    slant = (np.arange(height)[:, None] + np.arange(width)) % 32 < 4
    return np.repeat(np.where(slant, np.uint8(90), np.uint8(150))[..., None], 3, axis=2).view(Hatched)


class Faults:
    """How long to let tiles be that could not be read. May be used by several threads."""

    def __init__(self) -> None:
        self._pauses: dict[Place, tuple[float, float]] = {}  # until when (monotonic clock), and how long: in seconds

    def add(self, place: Place) -> None:
        """Let a tile be for a while, as it could not be read; the longer, the oftener it fails."""
        _, before = self._pauses.get(place, (0.0, _FIRST / 2))
        pause = min(2 * before, _LAST)
        self._pauses[place] = time.monotonic() + pause, pause

    def mend(self, place: Place) -> bool:
        """Take note that a tile has been read; return whether it could not be before."""
        return self._pauses.pop(place, None) is not None

    def is_due(self, place: Place) -> bool:
        """Whether a tile may be tried again by now."""
        return self._pauses.get(place, (0.0, 0.0))[0] <= time.monotonic()
