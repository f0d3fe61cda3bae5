"""The models of a case: what they are called, and out of it and into it as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..casefile import SUFFIX, Case, Round, note_place
from ..files import spare_sources, written_whole
from ..slides import Slide
from ..weights import ACCURATE_MODEL, SHIPPED_MODEL
from .verdicts import ReviewError

if TYPE_CHECKING:
    from ..models import Model

__all__ = [
    "STANDARD",
    "begin_with_nothing",
    "described",
    "export_model",
    "import_model",
    "is_accurate",
    "kept_accurate",
    "left_threshold",
    "name_of",
    "state_of",
    "use_accurate",
    "usual_threshold",
]

_NOTHING = "nothing"  # what a model was imported from that began with nothing

STANDARD = "Standard model"
"""What reviewers call the model that a case uses from the start."""


def name_of(round_: Round) -> str:
    """Return what reviewers call the model of a round."""
    return "Accurate model" if is_accurate(round_) else f"Round {round_.id}"


def described(round_: Round) -> str:
    """Return the same with what became of it: "Round 3 (promoted)"."""
    name = name_of(round_)
    return name if is_accurate(round_) else f"{name} ({state_of(round_)})"


def state_of(round_: Round) -> str:
    """Return what became of a round in a word; a model that was brought in is "imported"."""
    if round_.settings.get("imported") == _NOTHING:
        return "knows no cells"
    return "imported" if round_.brought_in else round_.state


def is_accurate(round_: Round) -> bool:
    """Return whether the model of a round is the accurate one that ships, as it came."""
    return round_.settings.get("imported") == ACCURATE_MODEL.name


def kept_accurate(case: Case) -> int | None:
    """Return the round of the accurate model that the case has kept, maybe of an earlier version of this package.

    Raises CaseError.
    """
    return next((r.id for r in reversed(case.rounds()) if is_accurate(r) and r.has_model), None)


def use_accurate(case: Case) -> int:
    """Use the accurate model that ships from now on, as a round of the case; return the round's id.

    Loads torch where the case has not got it yet. Raises CaseError, and ModelError where the case has other classes.
    """
    kept = kept_accurate(case)
    number = import_model(case, ACCURATE_MODEL) if kept is None else kept
    case.use_round(number)
    return number


def begin_with_nothing(case: Case, slide: Slide) -> int:
    """Use a model that knows no cells yet from now on, for kinds of cells that no model knows; return its round's id.

    Loads torch. Raises RoundError where too few cells are annotated to tell their size, CaseError, SlideError, and
    CervcellError without the ImageNet backbone.
    """
    from ..learning.fresh import fresh_model_of

    number = _keep(case, fresh_model_of(case, slide), _NOTHING, "It knows no cells yet, and learns from yours alone.")
    case.use_round(number)
    return number


def usual_threshold() -> float:
    """Return the score from which the shipped model's detections are shown, read from its card: that needs no torch."""
    try:
        return float(json.loads(SHIPPED_MODEL.with_suffix(".json").read_text(encoding="utf-8"))["threshold"])
    except (OSError, ValueError, KeyError):
        return 0.5


def left_threshold(case: Case) -> float:
    """Return the score from which cells are shown as the reviewer has left it, or the usual one. Raises CaseError."""
    return float(case.desk.get("threshold", usual_threshold()))


def export_model(case: Case, round_id: int, path: str | Path) -> None:
    """Write the model of a round to a file of its own, whole or not at all.

    Raises CaseError, ReviewError, and CervcellError where a case or a slide would be lost.
    """
    path, model = Path(path), case.round_model(round_id)
    spare_sources(path)
    try:
        with written_whole(path) as part:
            part.write_bytes(model)
    except OSError as error:
        raise ReviewError(f"Cannot export to {path}: {error.strerror or error}. Choose another place.") from None


def import_model(case: Case, path: str | Path) -> int:
    """Keep a model file in the case as a round of its own, not in use until it is chosen; return the round's id.

    `path` may also be another case: then it is the model that is in use there, and rounds here find that case. The
    model before it, with which it is compared, is the one in use now.

    Loads torch. Raises CaseError, ReviewError for a case that uses the standard model, and ModelError for what is no
    model or one of other classes.
    """
    from ..models import load_model

    path = Path(path)
    model = _model_of_case(path) if path.suffix == SUFFIX else load_model(path)
    model.check_classes(case.taxonomy, str(path))
    return _keep(case, model, path.name, f"Imported from {path.name}.")


def _model_of_case(path: Path) -> Model:
    from ..models import model_from_bytes

    with Case.open(path) as case:
        active = case.active_model()
        if active is None:
            raise ReviewError(f"The case {path} uses the standard model, which is here already. Choose another one.")
        note_place(case)
    return model_from_bytes(active[1], f"the model of {path}")


def _keep(case: Case, model: Model, source: str, message: str) -> int:
    """Keep a model that was not learnt here as a round of its own."""
    from ..models import load_model

    active = case.active_model()
    before = active[0] if active else load_model().id
    number = case.start_round(before, {"imported": source})
    case.finish_round(number, "candidate", {}, model.to_bytes(), model.id, message)
    return number
