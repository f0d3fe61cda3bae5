"""How near detection comes to the limit of its parts, and what its engine gains: ``cervcell bench detect``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..casefile import open_case
from ..cells import Cells
from ..detection import HALO, Block, Scan, Tile, plan
from ..detection.engines import Engine, infer, make_engine
from ..errors import CervcellError
from ..learning.evaluation import HIT_RADIUS, match_points
from ..learning.fields import FIELD_MPP
from ..models import Model, decode, load_model
from ..slides import Slide, foreground, open_slide
from .figures import OURS, Figure, figure
from .reading import cores
from .sliced import SAHI, sahi

__all__ = ["FIGURES", "Detecting"]

FIGURES = ("pipeline_vs_limit", "cpu_vs_torch", "peer", "skipped")

_SQUARE = 4  # tiles, across and down, that peers look at, too

Pixels = NDArray[np.uint8]
Engines = Callable[[int], Engine]


@dataclass
class Detecting:
    """The benchmark of detection on one slide.

    Parameters
    ----------
    path : Path
    model : Path, optional
        The shipped one by default.
    device : str
        As for `Scan`.
    tiles : int
        How many to work on: the first ones of the smear that a scan would do.
    repeats : int
        How often everything is measured, in turn.
    progress : callable
        Told in words how far it is.

    Attributes
    ----------
    notes : list of str
        Under which conditions it was measured.
    """

    path: Path
    model: Path | None = None
    device: str = "auto"
    tiles: int = 32
    repeats: int = 5
    progress: Callable[[str], object] = lambda text: None
    notes: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Figure]:
        """Return the figures by name. Raises CervcellError if the slide cannot be read or has no cells."""
        with open_slide(self.path) as slide:
            model = load_model(self.model)
            scan = Scan(slide, model, foreground=foreground(slide), device=self.device)
            planned, everywhere = scan.tiles, [tile for block in plan(scan.grid) for tile in block.tiles]
            if not planned:
                raise CervcellError(f"{self.path} has no foreground to measure detection on.")
            blocks = self._first(scan.blocks)
            engines = self._engines(scan, scan.device)
            engine = engines(blocks[0].across)
            samples: dict[str, list[list[float]]] = {name: [] for name in ("pipeline", "model", "reading", "torch")}
            on_cpu = engine.name.startswith("cpu")
            plain = self._engines(scan, "cpu-torch") if on_cpu and engine.name != "cpu-torch" else None
            pixels = [scan.read(block) for block in blocks]
            self._model_alone(engines, blocks, pixels)  # the first call is slower
            tiles = sum(len(block.tiles) for block in blocks)
            for i in range(self.repeats):
                self.progress(f"repeat {i + 1} of {self.repeats}")
                alone = self._model_alone(engines, blocks, pixels)
                reading = self._reading_alone(scan, blocks)
                limit = alone + reading if on_cpu else max(alone, reading)
                made = self._making(scan, blocks)  # once a slide: with as few tiles as here that would count too much
                samples["pipeline"].append([(self._pipeline(slide, model, blocks)[0] - made) / limit])
                samples["model"].append([alone / tiles])
                samples["reading"].append([reading / tiles])
                if plain:
                    few = blocks[:1], pixels[:1]
                    once = self._model_alone(engines, *few)
                    samples["torch"].append([self._model_alone(plain, *few) / once])
            model_s, read_s = (np.median(samples[part]) for part in ("model", "reading"))
            self.notes.append(
                f"{cores()} cores; {engine.words}; {tiles} tiles of {scan.grid.size} px in {len(blocks)} blocks; a "
                f"tile alone takes {model_s:.3g} s in the model, {read_s:.3g} s to read"
            )
            said = {"pipeline_vs_limit": figure({OURS: samples["pipeline"]})}
            if plain:
                said["cpu_vs_torch"] = figure({OURS: samples["torch"]})
            else:
                self.notes.append("cpu_vs_torch: not measured, for nothing but torch computes here")
            said |= self._beside(slide, scan, blocks, (plain or engines)(1))
            left_out = sorted(set(everywhere) - set(planned), key=lambda t: (t.y, t.x))
            self.progress("what the mask leaves out")
            lost = self._lost(engines(1), scan, model.threshold, planned, left_out)
            share = len(left_out) / len(everywhere)
            return said | {"skipped": {"value": round(share, 4), "cells_lost": round(lost, 6), "repeats": 1}}

    def _first(self, blocks: Sequence[Block]) -> list[Block]:
        """Return as many of the first blocks as have `tiles` tiles."""
        before = np.cumsum([0, *(len(block.tiles) for block in blocks)])[:-1]
        return [block for block, n in zip(blocks, before, strict=True) if n < self.tiles]

    def _engines(self, scan: Scan, device: str) -> Engines:
        """Return what makes, once, the engine for blocks of so many tiles across."""
        return cache(lambda across: make_engine(scan.model, device, *scan.size_of(across)))

    def _making(self, scan: Scan, blocks: Sequence[Block]) -> float:
        """Return the seconds that it takes to make all engines for `blocks`."""
        start = time.perf_counter()
        engines = self._engines(scan, scan.device)
        for across in {block.across for block in blocks}:
            engines(across)
        return time.perf_counter() - start

    def _beside(self, slide: Slide, scan: Scan, blocks: Sequence[Block], plain: Engine) -> dict[str, Figure]:
        """Return how many times as long as we others take for a part of the slide, and the share of cells both find."""
        side = _SQUARE * scan.grid.size
        inside = [b for b in blocks if b.across > 1 and b.x + side <= slide.width and b.y + side <= slide.height]
        first = inside[len(inside) // 2] if inside else blocks[0]
        region = first.x, first.y, min(first.x + side, slide.width), min(first.y + side, slide.height)
        try:
            find = sahi(self.path, region, scan.grid, scan.model, plain)
        except ImportError as error:
            self.notes.append(f"peer: not measured, for {error.name} is not installed")
            return {}
        times, same = [], []
        for i in range(self.repeats):
            self.progress(f"{SAHI}, repeat {i + 1} of {self.repeats}")
            start = time.perf_counter()
            theirs = find()
            taken = time.perf_counter() - start
            there = plan(scan.grid, region=region)
            made = self._making(scan, there)
            seconds, ours = self._pipeline(slide, scan.model, there)
            times.append([taken / (seconds - made)])
            same.append(_same(ours[ours.scores >= scan.model.threshold], theirs, slide.mpp or FIELD_MPP))
        self.notes.append("peer: TIAToolbox was not measured, for it asks for other versions of torch and numpy")
        said = figure({OURS: times, SAHI: times})
        said["peers"][SAHI]["same_cells"] = round(float(np.median(same)), 4)
        return {"peer": said}

    def _pipeline(self, slide: Slide, model: Model, blocks: Sequence[Block]) -> tuple[float, Cells]:
        """Return the seconds of a scan of `blocks` into a case file, the model made ready included, and the cells."""
        with tempfile.TemporaryDirectory() as folder, open_case(Path(folder) / "a.cervcell", slide) as case:
            scan = Scan(slide, model, device=self.device, case=case)
            scan.blocks = list(blocks)
            steps = list(scan.run())
        return steps[-1].seconds, Cells.concatenate([step.cells for step in steps])

    def _model_alone(self, engines: Engines, blocks: Sequence[Block], pixels: Sequence[Pixels]) -> float:
        start = time.perf_counter()
        for across, of_size in groupby(zip(blocks, pixels, strict=True), lambda of: of[0].across):
            engine, seen = engines(across), [p for _, p in of_size]
            for i in range(0, len(seen), engine.batch):
                infer(engine, np.stack(seen[i : i + engine.batch]))
        return time.perf_counter() - start

    def _reading_alone(self, scan: Scan, blocks: Sequence[Block]) -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(scan.read, blocks))
        return time.perf_counter() - start

    def _lost(
        self, engine: Engine, scan: Scan, threshold: float, planned: Sequence[Tile], left_out: Sequence[Tile]
    ) -> float:
        """Return the share of all cells that lie on tiles left out, estimated from some of either kind."""

        def cells_on(tiles: Sequence[Tile]) -> float:
            some = [tiles[i] for i in np.linspace(0, len(tiles) - 1, min(len(tiles), self.tiles)).astype(int)]
            found = 0
            for tile in some:
                (cells,) = decode(infer(engine, scan.read(Block.of(tile))[None]), threshold)
                x, y = cells.centres.T - HALO
                found += int(((x >= 0) & (x < scan.grid.columns) & (y >= 0) & (y < scan.grid.rows)).sum())
            return found / max(1, len(some)) * len(tiles)

        lost = cells_on(left_out)
        return lost / max(1.0, lost + cells_on(planned))


def _same(ours: Cells, theirs: Cells, mpp: float) -> float:
    """Return the share of all cells that both found, 0 to 1; coordinates in level-0 px of `mpp` µm."""
    both = int((match_points(ours, theirs.centres, HIT_RADIUS * FIELD_MPP / mpp) >= 0).sum())
    return 2 * both / max(1, len(ours) + len(theirs))
