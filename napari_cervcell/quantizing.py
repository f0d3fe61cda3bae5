"""Models made quicker for processors, in whole numbers of 8 bits: only where they still find the same cells.

``python -m napari_cervcell.quantizing CASE`` does so for the model in use in a case, and says how far it is: JSON
objects, one a line, of kind ``stage`` (text) and at the end ``done`` (used, before, after, fields) or ``failed``
(message).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import CervcellError
from .priority import give_way

if TYPE_CHECKING:
    from .learning import Field
    from .models import Model

__all__ = ["MOST_LOST", "QuantizeError", "Quantized", "quantize"]

MOST_LOST = 0.003
"""AP for finding cells that a quantized model may lose on labelled fields."""

_SIDE = 512  # of the pictures that ranges are taken from, px of the network's input
_PICTURES = 28

Tell = Callable[[str], None]
"""Told in words what is being done."""


class QuantizeError(CervcellError):
    """A model cannot be quantized."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What became of it: AP on the fields that judged it, `before` and `after`, and whether it is `used` from now."""

    before: float
    after: float
    fields: int

    @property
    def used(self) -> bool:
        return self.after >= self.before - MOST_LOST


def quantize(model: Model, tell: Tell) -> Quantized:
    """Make `model` ready in whole numbers of 8 bits, and keep it for all engines to come if it passes the check.

    If it does not, one that was kept before is given up, too.

    Ranges are taken from the fields that rounds replay, half of them with other stain and light; those that only judge
    rounds judge this, too. It takes minutes, and a process of its own: see
    :func:`~napari_cervcell.detection.conversion.quantize`. Raises QuantizeError where nothing here can do it or judge
    it, or it cannot be kept.
    """
    from .detection import conversion
    from .detection.engines import AnySize, OpenVINOEngine
    from .learning import evaluate
    from .learning.rounds import replayed

    if conversion.openvino is None:
        raise QuantizeError("There is no OpenVINO on this machine, without which nothing computes in 8 bits.")
    learnt, watched = replayed(model.taxonomy)
    if not watched:
        raise QuantizeError(
            f"There are no labelled fields of the classes of {model.name} here, so nothing could check that it still "
            "finds the same. It stays as it is."
        )
    pictures = _pictures(learnt, model.mpp)
    tell("Converting, which takes most of a minute")
    try:
        made = conversion.quantize(model, pictures)
    except ImportError:
        raise QuantizeError("NNCF is not installed. Install it with: pip install 'napari-cervcell[quantize]'") from None

    def candidate(_model: Model, device: str, height: int, width: int) -> OpenVINOEngine:
        return OpenVINOEngine(made.clone(), device, height, width, int8=True)

    def check(look: AnySize, text: str) -> float:
        figures = evaluate(model, watched, lambda done, of: tell(f"{text}, field {done} of {of}"), look=look)
        return float(figures["ap"])

    before = check(AnySize(model, "cpu-openvino-f32"), "Checking the model as it was")
    after = check(AnySize(model, "cpu-openvino", candidate), "Checking it in 8 bits")
    result = Quantized(before, after, len(watched))
    try:
        if result.used:
            conversion.keep_quantized(model, made)
        else:  # nor is one of before, whatever that passed
            conversion.forget_quantized(model)
    except (OSError, RuntimeError) as error:
        raise QuantizeError(f"The model in 8 bits could not be kept ({error}). Make room on the disk.") from None
    return result


def _pictures(fields: Sequence[Field], mpp: float) -> list[NDArray[np.uint8]]:
    """Return squares out of `fields` at `mpp`, every other one with another stain and light: slides differ so."""
    from .learning.crops import resample, stained

    rng = np.random.default_rng(0)
    pictures = []
    for i in range(_PICTURES):
        field = fields[i % len(fields)]
        side = _SIDE * mpp / field.mpp
        x, y = (rng.uniform(0, max(0.0, n - side)) for n in field.rgb.shape[1::-1])
        picture = resample(field.rgb, x, y, side, _SIDE)
        pictures.append(stained(picture, rng) if i % 2 else picture)
    return pictures


def _say(kind: str, **values: Any) -> None:
    print(json.dumps({"kind": kind, **values}), flush=True)


def _main(case_path: Path) -> None:
    from .casefile import Case
    from .learning import current_model

    give_way()  # the window comes first
    try:
        with Case.open(case_path) as case:
            model = current_model(case)
        result = quantize(model, lambda text: _say("stage", text=text))
    except CervcellError as error:
        _say("failed", message=str(error))
    else:
        _say("done", used=result.used, **asdict(result))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
