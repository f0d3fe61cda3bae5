"""What a million cells cost in the window, beside napari's own ways to show them: ``cervcell bench overlay``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..casefile import open_case
from ..slides import open_slide
from ..slides.make import make_slide
from .cells import fill_case, random_cells
from .figures import OURS, Figure, figure
from .windows import POINTS, SHAPES, WindowError, a_display, measure

__all__ = ["Overlaid"]

FIGURES = ("pan_ms", "recolour_ms", "pick_ms", "verdict_ms", "memory_mb", "open_s", "gallery_ms")

_SPACING = 100  # px from cell to cell on the slide that is made where none is given: a million on 100,000 px
_HOLD = {OURS: 10_000_000, POINTS: 1_000_000, SHAPES: 10_000}  # more cells than these no one waits for
_SECONDS = {OURS: 90.0, POINTS: 400.0, SHAPES: 120.0}


@dataclass
class Overlaid:
    """The benchmark of the window with many cells.

    Parameters
    ----------
    cells : int
        How many, all over the slide.
    slide : Path, optional
        By default one is made for it, as large as a smear with so many cells is: 100,000 px for a million.
    repeats : int
    progress : callable
        Told in words how far it is.

    Attributes
    ----------
    notes : list of str
        Under which conditions it was measured, and who could not take part.
    """

    cells: int
    slide: Path | None = None
    repeats: int = 5
    progress: Callable[[str], object] = lambda text: None
    notes: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Figure]:
        """Return the figures by name, ms above an empty frame, with those of the peers; interrupted, what there is.

        Raises CervcellError where the slide cannot be read, or our own window cannot be measured.
        """
        samples: dict[str, dict[str, list[list[float]]]] = {}
        ways = [way for way, most in _HOLD.items() if self.cells <= most]
        self.notes += [f"{way} cannot hold {self.cells:,} cells" for way in _HOLD if way not in ways]
        with TemporaryDirectory() as folder, a_display():
            try:
                path = self._prepared(Path(folder))
                for number in range(self.repeats):
                    for way in ways:
                        self._measure(way, path, number, samples)
            except KeyboardInterrupt:
                self.notes.append("stopped before the end: see how many repeats each figure has")
        return {name: figure(samples[name]) for name in FIGURES if OURS in samples.get(name, {})}

    def _prepared(self, folder: Path) -> Path:
        """Return a slide in `folder`, a case with the cells beside it."""
        self.progress("making the slide and its case")
        path = folder / "slide.svs"
        if self.slide is None:
            side = max(4096, round(_SPACING * self.cells**0.5))
            make_slide(path, side, side)
        else:
            open_slide(self.slide).close()  # an error is about the slide, not the link to it
            path = folder / self.slide.name
            path.symlink_to(self.slide.resolve())
        with open_slide(path) as slide, open_case(path.with_name(path.name + ".cervcell"), slide) as case:
            fill_case(case, random_cells(self.cells, (slide.width, slide.height)))
            self.notes.append(f"{self.cells:,} cells on {slide.width} x {slide.height} px")
        return path

    def _measure(self, way: str, path: Path, number: int, samples: dict[str, Any]) -> None:
        self.progress(f"{number + 1}/{self.repeats}, {way}")
        start = time.monotonic()
        try:
            values = measure({"way": way, "slide": str(path), "cells": self.cells}, _SECONDS[way], "cellwindow")
        except WindowError as error:
            if way == OURS:
                raise
            self.notes.append(f"{error} ({time.monotonic() - start:.0f} s)")
            return
        for name, repeat in values.items():
            samples.setdefault(name, {}).setdefault(way, []).append(repeat)
