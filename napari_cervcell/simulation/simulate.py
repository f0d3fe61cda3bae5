"""Sittings by several reviewers, each strategy and loss beside random choice with plain cross-entropy."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import CervcellError
from ..files import written_whole
from ..learning.objective import LossName
from ..models import SHIPPED_MODEL, load_model
from ..review.strategies import StrategyName
from .data import read, taxonomy_of
from .report import write_report
from .sitting import Course, Point, ceiling, sit

__all__ = ["Settings", "Simulation", "SimulationError"]

_FIGURES = ("f1", "ap", "recall", "f1_shown", "found", "naming")
_SLIPS = ("wrong", "second_look", "wrong_listed", "wrong_rank")

_FIRST = 20  # clicks after which a model that has seen nothing gets its first round: it can ask nothing before


class SimulationError(CervcellError):
    """A simulation is asked for that cannot be done."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is simulated.

    Attributes
    ----------
    data : Path
        A folder of labelled fields; see :func:`learning.read_fields`.
    names : sequence of str or None
        Only these images of it.
    start : Path or None
        The model to begin with; None for the ImageNet backbone alone.
    clicks : int
        The budget of a sitting.
    every : int
        Clicks between two rounds.
    seeds : int
        How many sittings each strategy and loss gets.
    steps, quick, error
        See :class:`.sitting.Course`.
    """

    data: Path
    names: Sequence[str] | None = None
    start: Path | None = SHIPPED_MODEL
    clicks: int = 200
    every: int = 50
    seeds: int = 3
    steps: int = 120
    quick: bool = False
    error: float = 0.0

    @property
    def budgets(self) -> list[int]:
        first = [_FIRST] if self.start is None and self.every > _FIRST else []
        budgets = {*first, *range(self.every, self.clicks, self.every), self.clicks}
        return sorted(b for b in budgets if b <= self.clicks)

    def signature(self) -> dict[str, Any]:
        """Return what must be the same for two sittings to be comparable, JSON-able."""
        start = None if self.start is None else hashlib.sha256(self.start.read_bytes()).hexdigest()[:12]
        names = None if self.names is None else sorted(self.names)
        return {
            "data": str(self.data.resolve()), "images": names, "start": start, "budgets": self.budgets,
            "steps": self.steps, "quick": self.quick, "error": self.error,
        }  # fmt: skip


class Simulation:
    """A simulation, whose sittings are kept in a folder as they are finished.

    Parameters
    ----------
    settings : Settings
    strategy, loss : str
        The curve in question.
    out : Path or None
        The folder. Sittings found in it are not held again. None: nothing is kept.
    progress : callable
        Told in words how far it is.

    Raises DataError, ModelError, and SimulationError where `out` holds sittings of other settings.
    """

    def __init__(
        self,
        settings: Settings,
        strategy: StrategyName,
        loss: LossName,
        out: Path | None = None,
        progress: Callable[[str], object] = lambda text: None,
    ) -> None:
        start = settings.start
        taxonomy = taxonomy_of(settings.data) if start is None else load_model(start).taxonomy
        self.settings = settings
        self.curves = list(dict.fromkeys([(strategy, loss), ("random", "ce")]))
        fields = read(settings.data, taxonomy, settings.names)
        self._kept = None if out is None else _kept_in(out, settings.signature())
        self._out = out
        self._progress = progress
        self._course = Course(fields, settings.start, settings.budgets, settings.steps, settings.quick, settings.error)

    def run(self) -> dict[str, Any]:
        """Hold all sittings and return the curves, medians over seeds with the least and greatest beside them.

        Raises CervcellError; a KeyboardInterrupt says where what is finished lies.
        """
        try:
            return self._answer(self._hold_all())
        except OSError as error:  # the disk is full, or gone
            raise SimulationError(
                f"The simulation had to stop: {error}. What is finished is kept with --out."
            ) from None

    def _hold_all(self) -> dict[tuple[str, int], list[Point]]:
        names = [*(f"{strategy}-{loss}" for strategy, loss in self.curves), "ceiling"]
        # seed by seed, so that an early stop leaves curves that can be compared
        tasks = [(name, seed) for seed in range(self.settings.seeds) for name in names]
        sittings: dict[tuple[str, int], list[Point]] = {t: p for t in tasks if (p := self._load(*t)) is not None}
        left = [t for t in tasks if t not in sittings]
        start = time.monotonic()
        for done, (name, seed) in enumerate(left):

            def tell(text: str, share: float, done: int = done, name: str = name, seed: int = seed) -> None:
                ready = done + share
                seconds = (time.monotonic() - start) * (len(left) - ready) / ready if ready else None
                when = "" if seconds is None else f", about {seconds / 60:.0f} min left"
                number = len(tasks) - len(left) + done + 1
                self._progress(f"{name}, seed {seed} ({number} of {len(tasks)}): {text}{when}")

            try:
                points = self._hold(name, seed, tell)
            except KeyboardInterrupt:
                where = f"the finished ones are kept in {self._out}" if self._out else "nothing was kept without --out"
                raise KeyboardInterrupt(f"stopped with {done} of {len(left)} sittings done; {where}") from None
            sittings[name, seed] = points
            self._save(name, seed, points)
        return sittings

    def _hold(self, name: str, seed: int, tell: Callable[[str, float], object]) -> list[Point]:
        for strategy, loss in self.curves:
            if name == f"{strategy}-{loss}":
                return sit(self._course, strategy, loss, seed, tell)
        return [ceiling(self._course, seed, tell)]

    def _answer(self, sittings: dict[tuple[str, int], list[Point]]) -> dict[str, Any]:
        seeds = range(self.settings.seeds)
        curves = {}
        for strategy, loss in self.curves:
            runs = [sittings[f"{strategy}-{loss}", seed] for seed in seeds]
            curves[f"{strategy}/{loss}"] = [_over_seeds(points) for points in zip(*runs, strict=False)]
        fields = self._course.fields
        answer = {
            "curves": curves,
            "ceiling": _over_seeds([sittings["ceiling", seed][0] for seed in seeds]),
            "fields": {"pool": len(fields.pool), "held_out": len(fields.held_out)},
            "cells": {side: sum(len(f.labels) for f in getattr(fields, side)) for side in ("pool", "held_out")},
            "seeds": self.settings.seeds,
        }
        if self._out is not None:
            answer["files"] = [str(p) for p in write_report(answer, self._out)]
        return answer

    def _path(self, name: str, seed: int) -> Path | None:
        return None if self._kept is None else self._kept / f"{name}-{seed}.json"

    def _load(self, name: str, seed: int) -> list[Point] | None:
        path = self._path(name, seed)
        if path is None or not path.exists():
            return None
        with suppress(ValueError):  # damaged: held again
            points: list[Point] = json.loads(path.read_text(encoding="utf-8"))
            return points
        return None

    def _save(self, name: str, seed: int, points: list[Point]) -> None:
        if (path := self._path(name, seed)) is not None:
            with written_whole(path) as part:
                part.write_text(json.dumps(points, indent=1), encoding="utf-8")


def _kept_in(out: Path, signature: dict[str, Any]) -> Path:
    """Return the folder of finished sittings in `out`, made if need be. Raises SimulationError."""
    folder, noted = out / "sittings", out / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not noted.exists():
            noted.write_text(json.dumps(signature, indent=1), encoding="utf-8")
        before = json.loads(noted.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SimulationError(f"Cannot keep sittings in {out}: {error}. Choose another folder with --out.") from None
    differing = [k for k in signature if before.get(k) != signature[k]]
    if differing:
        raise SimulationError(
            f"{out} holds sittings of another simulation (other {', '.join(differing)}). "
            "Choose another folder with --out."
        )
    return folder


def _over_seeds(points: Sequence[Point]) -> dict[str, Any]:
    """Return the medians of points of several seeds, and the least and greatest of each figure as its spread."""
    costs = [k for k in ("clicks", "seconds") if k in points[0]]
    figures = [*costs, *_FIGURES, *(k for k in _SLIPS if all(p.get("wrong") and p[k] is not None for p in points))]
    medians = {k: round(float(median(p[k] for p in points)), 4) for k in figures}
    spread = {k: [round(min(p[k] for p in points), 4), round(max(p[k] for p in points), 4)] for k in figures}
    return {**medians, "spread": spread}
