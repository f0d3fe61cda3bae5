"""The commands that open a window: ``cervcell review`` and ``demo``. Loads Qt only when one runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import CervcellError

__all__ = ["add_window_commands"]


class CommandError(CervcellError):
    """The command line asks for something that cannot be done."""


def add_window_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands; `command` takes a name, what runs and what is said of it, and returns the parser."""
    review = command("review", _review, "Open a slide, or a worklist of slides, in napari for review.")
    review.add_argument("slide", type=Path, help="a slide; or a folder of slides, or a CSV file with a column slide")
    review.add_argument("--case", type=Path, help="case file of the one slide; by default beside it")

    demo = command("demo", _demo, "Open the sample slide; without a display, do a scripted sitting on it.")
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), help="where the sitting's files go (default: %(default)s)"
    )
    demo.add_argument("--scripted", action="store_true", help="do the scripted sitting also where there is a display")


def _review(options: argparse.Namespace) -> None:
    from ..slides.layers import get_reader
    from .app import launch, launch_worklist
    from .display import has_display

    if not has_display():
        raise CommandError("There is no display to open a window on. On a server, use cervcell detect and report.")
    is_list = options.slide.suffix.lower() == ".csv" or (
        os.path.isdir(options.slide) and get_reader(str(options.slide)) is None
    )
    if is_list and options.case:
        raise CommandError("--case is for one slide. A worklist names cases in its column case.")
    if is_list:
        launch_worklist(options.slide)
    else:
        launch(options.slide, options.case)


def _demo(options: argparse.Namespace) -> dict[str, Any] | None:
    from .display import has_display

    if has_display() and not options.scripted:
        from ..slides import sample_slide
        from .app import launch

        launch(sample_slide(), detect=True)
        return None
    from .sitting import run_on_virtual_display

    return run_on_virtual_display(options.out)
