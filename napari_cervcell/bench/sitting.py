"""A full case by a scripted reviewer, and how long the window kept them waiting: ``cervcell bench sitting``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

import numpy as np

from .figures import OURS, Figure, figure
from .windows import a_display, measure

__all__ = ["Sitting"]

_SECONDS = 900.0


@dataclass
class Sitting:
    """The benchmark of a sitting on the sample slide: open, detect, 60 cells by keys, 10 in the gallery, 5 added, a
    region, a round of training and a scan with what came of it, an export.

    Parameters
    ----------
    repeats : int
    seconds : float
        Of the round.
    progress : callable
        Told in words how far it is.

    Attributes
    ----------
    notes : list of str
        Which key was waited for longest, and how long the steps took.
    """

    repeats: int = 1
    seconds: float = 30.0
    progress: Callable[[str], object] = lambda text: None
    notes: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Figure]:
        """Return ``key_ms``, the wait after a key, and ``pan_round`` and ``pan_detection``: how many times longer a
        step of panning holds the window during a round, and during a scan, than at rest.

        Raises CervcellError where the sitting comes to no end.
        """
        keys: list[list[float]] = []
        pans: dict[str, list[list[float]]] = {"pan_round": [], "pan_detection": []}
        with a_display():
            for number in range(self.repeats):
                self.progress(f"{number + 1}/{self.repeats}")
                with TemporaryDirectory() as folder:
                    job = {"way": OURS, "folder": folder, "seconds": self.seconds}
                    values = measure(job, _SECONDS, "sittingwindow")
                waits = {name: times for name, times in values.items() if name.startswith("key ")}
                keys.append([ms for times in waits.values() for ms in times])
                rest = float(np.median(values["pan at rest"]))
                for name, when in (("pan_round", "during the round"), ("pan_detection", "during detection")):
                    pans[name].append([float(np.median(values[f"pan {when}"])) / rest])
                worst = max(waits, key=lambda name: max(waits[name]))
                taken = [f"{k.removeprefix('seconds ')} {v[0]:.0f} s" for k, v in values.items() if k.startswith("sec")]
                self.notes += [f"longest wait: {worst}, {max(waits[worst]):.0f} ms", ", ".join(taken)]
                self.notes.append(f"a step of panning at rest {rest:.1f} ms; {values['verdicts'][0]:.0f} verdicts")
        return {"key_ms": figure({OURS: keys})} | {name: figure({OURS: ratios}) for name, ratios in pans.items()}
