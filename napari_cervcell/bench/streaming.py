"""How fast a slide is read and shown, beside all other ways: ``cervcell bench streaming``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..slides import Slide, open_slide
from ..slides.cache import TILES
from .decoding import NoStoredTilesError, StoredTiles
from .figures import OURS, Figure, figure, over_repeats
from .peers import ours, readers
from .places import places_with_cells
from .reading import Scan, Views, cores
from .trace import recorded_trace
from .windows import BLANK, WindowError, a_display, measure, window_peers

__all__ = ["FIGURES", "Streaming"]

FIGURES = ("read_vs_decode", "scan_vs_decode", "ui_step_ms", "sharp_ms", "rss_mb", "open_ms")

_VIEWS = 40
_JUMPS = 7  # a window; the first is not counted
_DELAYS = (0, 5, 50)  # ms a tile
_JUMP = ("sharp_ms", "read_ms", "ratio", "shown_ms")
_START = 5.0  # seconds that a window takes to come and to go

Samples = dict[str, list[list[float]]]


@dataclass
class _Job:
    """One thing to measure, for one repeat; `seconds` is what it may take, until it has been seen to take another."""

    name: str
    seconds: float
    run: Callable[[], dict[str, dict[str, list[float]]]]


@dataclass
class Streaming:
    """The benchmark of one slide.

    Parameters
    ----------
    path : Path
    only : sequence of str
        Which of `FIGURES` to measure.
    repeats : int
        How often everything is measured, in turn.
    seconds : float
        How long to pan for ``rss_mb``.
    steps : int, optional
        How much of the trace to play; by default all of it.
    progress : callable
        Told in words how far it is.

    Attributes
    ----------
    notes : list of str
        Under which conditions it was measured, and who is not there.
    """

    path: Path
    only: Sequence[str] = FIGURES
    repeats: int = 5
    seconds: float = 60.0
    steps: int | None = None
    progress: Callable[[str], object] = lambda text: None
    notes: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Figure]:
        """Return the figures by name: ``value``, ``p95``, ``p99``, ``worst`` and ``peers`` with the same of each.

        Where it is interrupted, the figures are those of what had been measured.

        Raises
        ------
        CervcellError
            If the slide cannot be read, or the window with our own layer cannot be measured.
        """
        self._samples: dict[str, Samples] = {}
        with open_slide(self.path) as slide, ExitStack() as stack:
            self.progress("looking for places with cells")
            try:
                jobs = self._jobs(slide, stack)
                self._work(jobs)
            except KeyboardInterrupt:
                self.notes.append("stopped before the end: see how many repeats each figure has")
        return {name: said for name in FIGURES if (said := self._figure(name))}

    def _work(self, jobs: Sequence[_Job]) -> None:
        taken: dict[str, float] = {}
        for i, job in enumerate(jobs):
            left = sum(taken.get(later.name, later.seconds) for later in jobs[i:])
            self.progress(f"{i}/{len(jobs)}, {job.name}, {left / 60:.0f} min left")
            start = time.monotonic()
            try:
                measured = job.run()
            except WindowError as error:
                if OURS in job.name:
                    raise
                self.notes.append(str(error))
                continue
            taken[job.name] = time.monotonic() - start
            for name, values in measured.items():
                for peer, repeat in values.items():
                    self._samples.setdefault(name, {}).setdefault(peer, []).append(repeat)

    # ------------------------------------------------------------------------------------------------- jobs

    def _jobs(self, slide: Slide, stack: ExitStack) -> list[_Job]:
        self.notes.append(f"{cores()} cores; {slide.width} x {slide.height} px, read by way of {slide.reader}")
        self._places = places_with_cells(slide, max(_VIEWS, self.repeats * len(_DELAYS) * _JUMPS))
        kinds: list[Iterator[_Job]] = []
        if {"read_vs_decode", "scan_vs_decode"} & set(self.only):
            kinds += self._reading(slide)
        if {"ui_step_ms", "sharp_ms", "rss_mb", "open_ms"} & set(self.only):
            stack.enter_context(a_display())
            kinds += self._windows(slide)
        # all once, then all again: what disturbs for a while disturbs everybody
        return [job for _ in range(self.repeats) for kind in kinds for job in [next(kind)]]

    def _reading(self, slide: Slide) -> list[Iterator[_Job]]:
        try:
            stored = StoredTiles(self.path, (slide.width, slide.height))
        except NoStoredTilesError as error:
            self.notes.append(f"{error} There is nothing to compare reading with.")
            return []
        self.notes.append(f"{stored.bytes_per_pixel:.2g} bytes a pixel, decoded with {stored.decoder}")
        peers, missing = readers(self.path)
        self.notes += missing
        everybody = [ours(slide), *peers]
        jobs = []
        if "read_vs_decode" in self.only:
            views = Views(slide, stored, everybody, self._places[:_VIEWS])
            jobs.append(_repeated("read_vs_decode", 10.0, views.repeat))
        if "scan_vs_decode" in self.only:
            scan = Scan(slide, stored, everybody)
            self.notes.append(f"{scan.share:.0%} of the tiles are scanned, evenly spread")
            jobs.append(_repeated("scan_vs_decode", 20.0, scan.repeat))
        return jobs

    def _windows(self, slide: Slide) -> list[Iterator[_Job]]:
        names, missing = window_peers()
        self.notes += missing
        size = (slide.width, slide.height)
        jobs = []

        def job(kind: str, peer: str, ends: dict[str, str], seconds: float, delay: int = 0) -> Iterator[_Job]:
            """Yield the job for one repeat after the other; `ends` says which value goes into which samples."""
            for number in range(self.repeats):
                first = (number * len(_DELAYS) + _DELAYS.index(delay)) * _JUMPS

                def run(place: int = number, first: int = first) -> dict[str, dict[str, list[float]]]:
                    job = {
                        "kind": kind, "peer": peer, "slide": str(self.path.resolve()), "size": size,
                        "delay": delay / 1000, "place": self._places[place],
                        "places": self._places[first : first + _JUMPS], "seconds": self.seconds, "steps": self.steps,
                    }  # fmt: skip
                    values = measure(job, seconds)
                    return {end: {peer: values[value]} for value, end in ends.items()}

                yield _Job(f"{next(iter(ends.values()))} of {peer}", seconds + _START, run)

        played = sum(step.seconds for step in recorded_trace(size, self._places[0])[: self.steps])
        if "ui_step_ms" in self.only:
            jobs.append(job("trace", BLANK, {"held_ms": "ui_step_ms"}, played))
            for delay in _DELAYS[1:]:
                ends = {"held_ms": f"ui_step_ms at {delay} ms"}
                jobs += [job("trace", peer, ends, played, delay) for peer in names]
        if "sharp_ms" in self.only:
            for delay in _DELAYS:
                ends = {v: f"{v} at {delay} ms" for v in _JUMP}
                jobs += [job("jumps", peer, ends, 2.0 * _JUMPS, delay) for peer in names]
        if "rss_mb" in self.only:
            ends = {"rss_mb": "rss_mb", "most_mb": "rss_mb at most"}
            jobs += [job("memory", peer, ends, self.seconds) for peer in names]
        if "open_ms" in self.only:
            ends = {"open_ms": "open_ms", "first_in_process": "open_ms at first", "sharp_ms": "open_ms until sharp"}
            jobs += [job("open", peer, ends, 3.0) for peer in names]
        return jobs

    # ---------------------------------------------------------------------------------------------- figures

    def _figure(self, name: str) -> Figure | None:
        samples = self._samples
        if name == "ui_step_ms":
            return self._ui_step()
        if name == "sharp_ms":
            return self._sharp()
        if OURS not in samples.get(name, {}):
            return None
        said = figure(samples[name])
        if name == "rss_mb":
            said |= {"at_most": figure(samples["rss_mb at most"])["value"], "cache_mb": TILES.capacity >> 20}
        if name == "open_ms":
            said["first_in_process"] = figure(samples["open_ms at first"])["value"]
            said["until_sharp"] = figure(samples["open_ms until sharp"])["value"]
        return said

    def _ui_step(self) -> Figure | None:
        """Return how long the window was held beyond an empty frame; above all for the slower reads or the worse."""
        empty = self._samples.get("ui_step_ms", {}).get(BLANK, [])
        found = {}
        for delay in _DELAYS[1:]:
            samples = self._samples.get(f"ui_step_ms at {delay} ms", {})
            if OURS in samples:
                found[delay] = figure({peer: _beyond(repeats, empty) for peer, repeats in samples.items()})
        if not found:
            return None
        worse = max(found.values(), key=lambda said: said["worst"])
        return worse | _each(found) | {"empty_frame": over_repeats(empty)}

    def _sharp(self) -> Figure | None:
        """Return how long after a jump all tiles were there at their right level, and what that is to be held against:
        ``read_ms``, what reading them alone takes (``ratio`` to it), and ``shown_ms``, until they were on the screen.
        """
        found = {}
        for delay in _DELAYS:
            parts = [self._samples.get(f"{v} at {delay} ms", {}) for v in _JUMP]
            if OURS not in parts[0]:
                continue
            sharp, *others = (figure(samples) for samples in parts)
            for name, other in zip(_JUMP[1:], others, strict=True):
                sharp[name] = other["value"]
                for peer, said in sharp["peers"].items():
                    said[name] = other["peers"][peer]["value"]
            found[delay] = sharp
        if not found:
            return None
        slowed = [said for delay, said in found.items() if delay] or list(found.values())
        return max(slowed, key=lambda said: said["ratio"]) | _each(found)


def _beyond(repeats: list[list[float]], empty: list[list[float]]) -> list[list[float]]:
    """Return what is left of the times of each repeat when the empty frame's median in the same one is taken off."""
    bases = [float(np.median(values)) for values in empty]
    return [[max(0.0, v - base) for v in values] for values, base in zip(repeats, bases, strict=False)]


def _each(found: dict[int, Figure]) -> dict[str, Figure]:
    return {f"at_{delay}_ms": dict(said) for delay, said in found.items()}


def _repeated(name: str, seconds: float, repeat: Callable[[int], dict[str, list[float]]]) -> Iterator[_Job]:
    number = 0
    while True:
        yield _Job(f"{name} of {OURS} and peers", seconds, lambda number=number: {name: repeat(number)})  # type: ignore[misc]
        number += 1
