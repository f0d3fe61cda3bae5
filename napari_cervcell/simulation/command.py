"""``cervcell simulate``: what it asks for. What does the work is imported only when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["add_simulate_command"]

_STRATEGIES = ("mix", "uncertainty", "missed", "committee", "diverse", "rare", "random")
_STEPS, _COLD_STEPS = 120, 240
_LOSSES = ("exclusive", "ce", "focal", "ignore")


def add_simulate_command(command: Callable[..., argparse.ArgumentParser], progress: Callable[[str], object]) -> None:
    """Add the command by `command` (name, what runs it, text); it tells `progress` in words how far it is."""

    def run(options: argparse.Namespace) -> dict[str, Any]:
        try:
            return _simulate(options, progress)
        finally:
            progress("")

    simulate = command(
        "simulate",
        run,
        "Let reviewers who know the truth work through labelled fields, and measure how fast the detector learns.",
    )
    simulate.epilog = (
        "Beside the strategy and the loss in question stand random choice with cross-entropy that takes unknown for "
        "negative, and what all labels together give. Prices: accept and reject 1 click (1.5 s), re-class 1 (2.5 s), "
        "draw a box that does not fit anew 2 (4 s), add a cell 2 (4 s), mark a region as checked 2 (3 s); the seconds "
        "are assumed."
    )
    simulate.add_argument("data", type=Path, help="folder with images/ and images.csv, points.csv or a COCO file")
    simulate.add_argument("--split", nargs=2, metavar=("FILE.csv", "NAME"), help="only images that FILE.csv puts there")
    simulate.add_argument("--strategy", choices=_STRATEGIES, default="mix", help="what to ask (default: %(default)s)")
    simulate.add_argument("--loss", choices=_LOSSES, default="exclusive", help="of the rounds (default: %(default)s)")
    simulate.add_argument("--clicks", type=_count, default=200, help="budget of a sitting (default: %(default)s)")
    simulate.add_argument("--seeds", type=_count, default=3, help="sittings of each kind (default: %(default)s)")
    simulate.add_argument(
        "--start",
        help="a model file, 'accurate', or 'none' for the ImageNet backbone alone (default: the standard model)",
    )
    simulate.add_argument("--error", type=_share, default=0.0, help="share of wrong verdicts (default: %(default)s)")
    simulate.add_argument(
        "--every", type=_count, default=50, metavar="CLICKS", help="clicks between two rounds (default: %(default)s)"
    )
    simulate.add_argument(
        "--steps",
        type=_count,
        help=f"of the optimiser a round (default: {_STEPS}, or {_COLD_STEPS} with --start none, for then every round "
        "begins anew)",
    )
    simulate.add_argument(
        "--quick", action="store_true", help="quick rounds, which teach the head alone, in place of full ones"
    )
    simulate.add_argument(
        "--out", type=Path, help="folder for the table and the picture; finished sittings in it are not held again"
    )


def _simulate(options: argparse.Namespace, progress: Callable[[str], object]) -> dict[str, Any]:
    from ..learning import split_names
    from ..weights import SHIPPED_MODEL, model_file
    from .simulate import Settings, Simulation

    start = None if options.start == "none" else model_file(options.start) if options.start else SHIPPED_MODEL
    names = split_names(*options.split) if options.split else None
    steps = options.steps or (_COLD_STEPS if start is None else _STEPS)
    settings = Settings(
        data=options.data,
        names=names,
        start=start,
        clicks=options.clicks,
        every=options.every,
        seeds=options.seeds,
        steps=steps,
        quick=options.quick,
        error=options.error,
    )
    answer = Simulation(settings, options.strategy, options.loss, options.out, progress).run()
    if options.json:
        return answer
    curves = {name: [_in_words(point) for point in points] for name, points in answer["curves"].items()}
    return answer | {"curves": curves, "ceiling": [_in_words(answer["ceiling"])]}


def _in_words(point: dict[str, Any]) -> str:
    names = {"f1": "F1", "ap": "AP", "recall": "class recall"}
    said = [
        f"{name} {point[key]:.3f} ({' to '.join(f'{v:.3f}' for v in point['spread'][key])})"
        for key, name in names.items()
    ]
    spent = [f"{point['clicks']:.0f} clicks, {point['seconds']:.0f} s"] if "clicks" in point else []
    return ": ".join([*spent, ", ".join(said)])


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _share(text: str) -> float:
    if not 0 <= (share := float(text)) <= 1:
        raise ValueError
    return share
