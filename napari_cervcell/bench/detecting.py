"""How near detection comes to the limit of its parts, and what its engine gains: ``cervcell bench detect``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..casefile import open_case
from ..cells import Cells
from ..detection import HALO, Scan, Tile, plan
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

_SQUARE = 2  # tiles, across and down, that peers look at, too

Pixels = NDArray[np.uint8]


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
    tiles: int = 12
    repeats: int = 5
    progress: Callable[[str], object] = lambda text: None
    notes: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Figure]:
        """Return the figures by name. Raises CervcellError if the slide cannot be read or has no cells."""
        with open_slide(self.path) as slide:
            model = load_model(self.model)
            scan = Scan(slide, model, foreground=foreground(slide), device=self.device)
            planned, everywhere = scan.tiles, plan(scan.grid)
            if not planned:
                raise CervcellError(f"{self.path} has no foreground to measure detection on.")
            tiles = planned[: self.tiles]
            engine = self._engine(scan, scan.device)
            samples: dict[str, list[list[float]]] = {name: [] for name in ("pipeline", "model", "reading", "torch")}
            on_cpu = engine.name.startswith("cpu")
            plain = self._engine(scan, "cpu-torch") if on_cpu and engine.name != "cpu-torch" else None
            pixels = [read(scan, tile) for tile in tiles]
            infer(engine, np.stack(pixels[: engine.batch]))  # the first call is slower
            for i in range(self.repeats):
                self.progress(f"repeat {i + 1} of {self.repeats}")
                alone = self._model_alone(engine, pixels)
                reading = self._reading_alone(scan, tiles)
                limit = alone + reading if on_cpu else max(alone, reading)
                start = time.perf_counter()
                self._engine(scan, scan.device)
                made = time.perf_counter() - start  # once a slide: with as few tiles as here that would count too much
                samples["pipeline"].append([(self._pipeline(slide, model, tiles)[0] - made) / limit])
                samples["model"].append([alone / len(tiles)])
                samples["reading"].append([reading / len(tiles)])
                if plain:
                    few = pixels[: engine.batch]
                    once = self._model_alone(engine, few)
                    samples["torch"].append([self._model_alone(plain, few) / once])
            self.notes.append(
                f"{cores()} cores; {engine.words}; {len(tiles)} tiles of {scan.grid.size} px; a tile alone takes "
                f"{np.median(samples['model']):.3g} s in the model, {np.median(samples['reading']):.3g} s to read"
            )
            said = {"pipeline_vs_limit": figure({OURS: samples["pipeline"]})}
            if plain:
                said["cpu_vs_torch"] = figure({OURS: samples["torch"]})
            else:
                self.notes.append("cpu_vs_torch: not measured, for nothing but torch computes here")
            said |= self._beside(slide, scan, tiles, plain or engine)
            left_out = sorted(set(everywhere) - set(planned), key=lambda t: (t.y, t.x))
            self.progress("what the mask leaves out")
            lost = self._lost(engine, scan, model.threshold, planned, left_out)
            share = len(left_out) / len(everywhere)
            return said | {"skipped": {"value": round(share, 4), "cells_lost": round(lost, 6), "repeats": 1}}

    def _engine(self, scan: Scan, device: str) -> Engine:
        return make_engine(scan.model, device, scan.grid.rows + 2 * HALO, scan.grid.columns + 2 * HALO)

    def _beside(self, slide: Slide, scan: Scan, tiles: Sequence[Tile], plain: Engine) -> dict[str, Figure]:
        """Return how many times as long as we others take for a part of the slide, and the share of cells both find."""
        side = _SQUARE * scan.grid.size
        within = [t for t in tiles if t.x + side <= slide.width and t.y + side <= slide.height]
        first = within[len(within) // 2] if within else tiles[0]
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
            start = time.perf_counter()
            self._engine(scan, scan.device)
            made = time.perf_counter() - start
            seconds, ours = self._pipeline(slide, scan.model, scan.grid.within(region))
            times.append([taken / (seconds - made)])
            same.append(_same(ours[ours.scores >= scan.model.threshold], theirs, slide.mpp or FIELD_MPP))
        self.notes.append("peer: TIAToolbox was not measured, for it asks for other versions of torch and numpy")
        said = figure({OURS: times, SAHI: times})
        said["peers"][SAHI]["same_cells"] = round(float(np.median(same)), 4)
        return {"peer": said}

    def _pipeline(self, slide: Slide, model: Model, tiles: Sequence[Tile]) -> tuple[float, Cells]:
        """Return the seconds of a scan of `tiles` into a case file, the model made ready included, and the cells."""
        with tempfile.TemporaryDirectory() as folder, open_case(Path(folder) / "a.cervcell", slide) as case:
            scan = Scan(slide, model, device=self.device, case=case)
            scan.tiles = list(tiles)
            steps = list(scan.run())
        return steps[-1].seconds, Cells.concatenate([step.cells for step in steps])

    def _model_alone(self, engine: Engine, pixels: Sequence[Pixels]) -> float:
        start = time.perf_counter()
        for i in range(0, len(pixels), engine.batch):
            infer(engine, np.stack(pixels[i : i + engine.batch]))
        return time.perf_counter() - start

    def _reading_alone(self, scan: Scan, tiles: Sequence[Tile]) -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda tile: read(scan, tile), tiles))
        return time.perf_counter() - start

    def _lost(
        self, engine: Engine, scan: Scan, threshold: float, planned: Sequence[Tile], left_out: Sequence[Tile]
    ) -> float:
        """Return the share of all cells that lie on tiles left out, estimated from some of either kind."""

        def cells_on(tiles: Sequence[Tile]) -> float:
            some = [tiles[i] for i in np.linspace(0, len(tiles) - 1, min(len(tiles), self.tiles)).astype(int)]
            found = 0
            for tile in some:
                (cells,) = decode(infer(engine, read(scan, tile)[None]), threshold)
                x, y = cells.centres.T - HALO
                found += int(((x >= 0) & (x < scan.grid.columns) & (y >= 0) & (y < scan.grid.rows)).sum())
            return found / max(1, len(some)) * len(tiles)

        lost = cells_on(left_out)
        return lost / max(1.0, lost + cells_on(planned))


def _same(ours: Cells, theirs: Cells, mpp: float) -> float:
    """Return the share of all cells that both found, 0 to 1; coordinates in level-0 px of `mpp` µm."""
    both = int((match_points(ours, theirs.centres, HIT_RADIUS * FIELD_MPP / mpp) >= 0).sum())
    return 2 * both / max(1, len(ours) + len(theirs))


def read(scan: Scan, tile: Tile) -> Pixels:
    """Return the pixels of a tile and its halo."""
    (step_x, step_y), grid = scan.grid.steps, scan.grid
    columns, rows = grid.columns + 2 * HALO, grid.rows + 2 * HALO
    return scan.slide.read_grid(tile.x - HALO * step_x, tile.y - HALO * step_y, columns, rows, step_x, step_y)
