"""The commands ``cervcell screenshots`` and ``cervcell bench sitting``. What they need is loaded when one runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["add_screenshots", "add_sitting"]

Command = Callable[..., argparse.ArgumentParser]
Tell = Callable[[str], object]


def add_screenshots(command: Command, tell: Tell) -> None:
    """Add ``screenshots``; `command` takes a name, what runs and what is said of it, and returns the parser."""

    def run(options: argparse.Namespace) -> dict[str, Any]:
        from .screenshots import LOOKS, take_screenshots

        looks = [look for look in LOOKS if not options.theme or look[0] == options.theme]
        try:
            return take_screenshots(options.out, looks=looks, only=options.only, cells=options.cells, progress=tell)
        finally:
            tell("")

    shots = command("screenshots", run, "Save pictures of every panel and state of the window, to be looked at.")
    shots.add_argument("out", type=Path, help="folder for the pictures")
    shots.add_argument("--theme", choices=["dark", "light"], help="only this one")
    shots.add_argument("--only", nargs="+", metavar="SCENE", help="only these, e.g. reviewing gallery")
    shots.add_argument("--cells", type=int, default=300_000, help="in the scenes with many (default: %(default)s)")


def add_sitting(command: Command, measured: Callable[[Any, argparse.Namespace], dict[str, Any]], tell: Tell) -> None:
    """Add ``bench sitting``; `measured` runs a benchmark and words its answer."""

    def run(options: argparse.Namespace) -> dict[str, Any]:
        from .sitting import Sitting

        return measured(Sitting(options.repeats, options.seconds, tell), options)

    sitting = command("sitting", run, "Do a full case by script with real keys, and say how long each was waited for.")
    sitting.add_argument("--repeats", type=int, default=1, help="of the whole sitting (default: %(default)s)")
    sitting.add_argument("--seconds", type=float, default=30.0, help="of the round (default: %(default)s)")
