"""Starts the windows that are measured, each in a process of its own, on a virtual display where there is none."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import CervcellError
from ..ui.display import has_display, virtual_display
from .figures import OURS

__all__ = ["BLANK", "NAPARI_WSI", "POINTS", "SHAPES", "STOCK", "WindowError", "a_display", "measure", "window_peers"]

BLANK, STOCK, NAPARI_WSI = "empty frame", "napari + dask", "napari-wsi"
POINTS, SHAPES = "napari Points", "napari Shapes"

_PATIENCE = 300.0  # seconds beyond what a job is meant to take


class WindowError(CervcellError):
    """A window that was to be measured has failed."""


def window_peers() -> tuple[list[str], list[str]]:
    """Return the peers that show slides in napari here, ours first, and what is to be said of the others."""
    if importlib.util.find_spec("napari_wsi") is None:
        return [OURS, STOCK], [f"{NAPARI_WSI} is not installed"]
    return [OURS, STOCK, NAPARI_WSI], []


def measure(job: dict[str, Any], seconds: float, module: str = "window") -> dict[str, list[float]]:
    """Do a job of a module of this room, which takes about `seconds`, and return what it measured.

    Its napari has settings of its own, with async off. Raises WindowError where it fails.
    """
    who = job.get("way") or job["peer"]
    with TemporaryDirectory() as folder:
        homes = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"), folder)
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", f"napari_cervcell.bench.{module}", json.dumps(job)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **homes, "NAPARI_CONFIG": str(Path(folder) / "settings.yaml"), "NAPARI_ASYNC": "0"},
            start_new_session=True,  # ctrl-c is for us: we end it
        )
        try:
            out, complaints = process.communicate(timeout=seconds + _PATIENCE)
            # not by its exit status: napari may fall when it leaves
            return dict(json.loads(out.splitlines()[-1]))
        except subprocess.TimeoutExpired:
            raise WindowError(f"The window of {who} did not come to an end.") from None
        except (IndexError, ValueError):
            last = (complaints.strip().splitlines() or [f"it ended with status {process.returncode}"])[-1]
            raise WindowError(f"The window of {who} could not be measured: {last}") from None
        finally:
            process.kill()
            process.communicate()


def a_display() -> AbstractContextManager[None]:
    """Return what provides a display meanwhile: a virtual one where there is none."""
    return nullcontext() if has_display() else virtual_display()
