"""The commands ``cervcell screenshots`` and ``cervcell bench``. What they need is loaded when one runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import CervcellError
from ..weights import model_file

__all__ = ["add_benchmarks", "add_screenshots"]

Command = Callable[..., argparse.ArgumentParser]
Tell = Callable[[str], object]


def add_screenshots(command: Command, tell: Tell) -> None:
    """Add ``screenshots``; `command` takes a name, what runs and what is said of it, and returns the parser."""

    def run(options: argparse.Namespace) -> dict[str, Any]:
        from .scenes import SCENES
        from .screenshots import LOOKS, take_screenshots

        _check_known(options.only, SCENES, "scene")
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


def _check_known(asked: Sequence[str] | None, known: Sequence[str], kind: str) -> None:
    if unknown := set(asked or ()) - set(known):
        raise CervcellError(f"There is no {kind} {', '.join(sorted(unknown))}. There are {', '.join(known)}.")


def add_benchmarks(command: Command, devices: Sequence[str], tell: Tell) -> None:
    """Add ``bench streaming``, ``overlay``, ``detect`` and ``sitting``; `command` and `tell` as for `add_screenshots`.

    `devices` are those that can detect.
    """

    def measured(bench: Any, options: argparse.Namespace) -> dict[str, Any]:
        """Run a benchmark; return its figures as they are, or in words."""
        from .figures import in_words

        try:
            figures = bench.run()
        finally:
            tell("")
        if options.json:
            return dict(figures)
        return {name: in_words(said) for name, said in figures.items()} | {"measured with": bench.notes}

    def run_streaming(options: argparse.Namespace) -> dict[str, Any]:
        from .streaming import FIGURES, Streaming

        _check_known(options.only, FIGURES, "figure")
        figures = options.only or FIGURES
        return measured(
            Streaming(options.slide, figures, options.repeats, options.seconds, options.steps, tell), options
        )

    def run_overlay(options: argparse.Namespace) -> dict[str, Any]:
        from .overlay import Overlaid

        return measured(Overlaid(options.cells, options.slide, options.repeats, tell), options)

    def run_detect(options: argparse.Namespace) -> dict[str, Any]:
        from .detecting import Detecting

        bench = Detecting(options.slide, options.model, options.device, options.tiles, options.repeats, progress=tell)
        return measured(bench, options)

    def run_sitting(options: argparse.Namespace) -> dict[str, Any]:
        from .sitting import Sitting

        return measured(Sitting(options.repeats, options.seconds, tell), options)

    in_turn = "of everything, in turn (default: %(default)s)"
    streaming = command(
        "streaming", run_streaming, "Measure how fast a slide is read and shown, beside every other way installed."
    )
    streaming.epilog = (
        "Two slides to measure on: 'cervcell make-slide smooth.svs --size 100000 100000', and the same with "
        "'--noise 10 --quality 90' for one that is hard to decode. Peers: pip install 'napari-cervcell[bench]'."
    )
    streaming.add_argument("slide", type=Path)
    streaming.add_argument("--only", nargs="+", metavar="FIGURE", help="only these figures, e.g. read_vs_decode")
    streaming.add_argument("--repeats", type=_count, default=5, help=in_turn)
    streaming.add_argument(
        "--seconds", type=float, default=60.0, help="to pan while memory is watched (default: %(default)s)"
    )
    streaming.add_argument("--steps", type=int, help="of the recorded trace in the window (default: all)")

    overlay = command("overlay", run_overlay, "Measure what very many cells cost in the window, beside napari's own.")
    overlay.add_argument("--cells", type=_count, default=1_000_000, help="how many (default: %(default)s)")
    overlay.add_argument("--slide", type=Path, help="on which slide; by default one is made for it")
    overlay.add_argument("--repeats", type=_count, default=5, help=in_turn)

    detect = command("detect", run_detect, "Measure how fast cells are found, beside limits and peers.")
    detect.add_argument("slide", type=Path)
    detect.add_argument("--model", type=model_file, help="model file, or 'accurate' (default: the standard one)")
    detect.add_argument("--device", choices=devices, default="auto", help="what computes (default: the best)")
    detect.add_argument("--tiles", type=_count, default=32, help="how many to work on (default: %(default)s)")
    detect.add_argument("--repeats", type=_count, default=5, help=in_turn)

    sitting = command(
        "sitting", run_sitting, "Do a full case by script with real keys, and say how long each was waited for."
    )
    sitting.add_argument("--repeats", type=_count, default=1, help="of the whole sitting (default: %(default)s)")
    sitting.add_argument("--seconds", type=float, default=30.0, help="of the round (default: %(default)s)")


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number
