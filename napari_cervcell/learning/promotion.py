"""Whether what a round has made is taken into use: judged against the model before it on what was held back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..casefile import Annotations, State
from ..models import Model, predict, to_input
from ..slides import Slide
from ..taxonomy import Taxonomy
from .earlier import NO_EARLIER, Earlier
from .fields import Field
from .recipe import recipe_for

__all__ = ["Measure", "Outcome", "compared", "is_worse", "judge"]

_TOLERANCE = 0.01
_FEW = 5  # corrections held back; of fewer nobody knows from themselves how much of their change is chance
_SPREAD = 0.15  # usual, of the changes of single corrections: 0.1 to 0.2 in rounds on the sample slide
_FORGOTTEN = 0.03  # AP: the shipped model knows the earlier fields by heart, and whatever it learns costs some of that
_NOBODY = np.zeros(0, np.float32)

Measure = Callable[[Model, list[Field]], dict[str, Any]]
"""Tells how a model does on earlier fields (see :func:`replayed`), as :func:`evaluate` does."""


@dataclass(slots=True)
class Outcome:
    """What a round gave.

    Attributes
    ----------
    model : Model
    promoted : bool
        Whether it is not worse than its parent: on the corrections held back, those of earlier cases too (see
        :func:`is_worse`), and on earlier fields.
    metrics : dict
        Figures of both, JSON-able: ``held_back``, how many corrections were, and where there were any ``agreement``
        (``before``, ``after``), how likely each model thinks what was said of them, 0 to 1, on average. The same of
        those of each class and of the rejections alone: ``classes`` (by name) and ``rejections``, of each
        ``held_back``, ``before`` and ``after``. With earlier fields ``earlier_fields`` (``before``, ``after``), with
        earlier cases ``earlier_cases`` (``replayed``, ``missing``, ``held_back``, ``before``, ``after``).
    message : str
        The same in a sentence for the reviewer.
    """

    model: Model
    promoted: bool
    metrics: dict[str, Any]
    message: str


def judge(
    model: Model, slide: Slide, annotations: Annotations, taxonomy: Taxonomy | None = None
) -> NDArray[np.float32]:
    """Return float32 (n,): for each annotation the probability that `model` gives to what the reviewer said.

    For a cell: that a cell is there and that it has the reviewer's class; for a rejection: that there is none.
    `taxonomy`, which continues the model's, says which of its classes count as others by now; by default its own does.
    """
    if slide.mpp is None or not len(annotations.ids):
        return np.zeros(0, np.float32)
    taxonomy = taxonomy or model.taxonomy
    downsample = model.mpp / slide.mpp
    side = 256
    right = np.zeros(len(annotations.ids), np.float32)
    for i, box in enumerate(annotations.boxes):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        whole = side * downsample
        rgb = slide.read_scaled(x - whole / 2, y - whole / 2, whole, whole, downsample)
        with torch.inference_mode():
            dense = predict(model.network, to_input(rgb[None]))
        middle = slice(dense.cell.shape[1] // 2 - 1, dense.cell.shape[1] // 2 + 1)
        cell = torch.sigmoid(dense.cell[0, middle, middle]).flatten()
        names = torch.softmax(dense.classes[0, :, middle, middle].flatten(1), 0)
        best = int(cell.argmax())
        if annotations.states[i] == State.REJECTED:
            right[i] = 1 - float(cell[best])
        else:
            # a class may be newer than the model, which then never gives it
            is_it = taxonomy.merged(np.arange(len(names), dtype=np.int16)) == annotations.labels[i]
            right[i] = float(cell[best] * names[torch.from_numpy(is_it), best].sum())
    return right


def compared(
    model: Model,
    parent: Model,
    slide: Slide,
    kept: Annotations,
    watched: list[Field],
    measure: Measure,
    earlier: Earlier = NO_EARLIER,
) -> Outcome:
    """Judge `model` against `parent` on `kept`, the corrections held back, also on those of earlier cases, and, by
    `measure`, on earlier fields."""
    metrics: dict[str, Any] = {"held_back": len(kept.ids)}
    worse, lost = False, 0.0
    if len(kept.ids):
        before, after = (judge(m, slide, kept, model.taxonomy) for m in (parent, model))
        metrics |= _agreement(kept, before, after, model.taxonomy.names)
        agreement = metrics["agreement"]
        worse = is_worse(after - before, recipe_for(parent).doubt)
        found = (
            f"agreement with {len(kept.ids)} held-back {'correction' if len(kept.ids) == 1 else 'corrections'}"
            f"{' (too few to tell for certain)' if len(kept.ids) < _FEW else ''} {agreement['before']:.0%} before, "
            f"{agreement['after']:.0%} after"
        )
    else:
        found = f"no correction was held back yet, so {'only earlier fields' if watched else 'nothing'} could judge it"
    if earlier.cases or earlier.missing:
        metrics["earlier_cases"], forgotten, words = _forgotten(model, parent, earlier)
        worse, found = worse or forgotten, f"{found}; {words}"
    if watched:
        figures = {name: measure(m, watched) for name, m in (("before", parent), ("after", model))}
        metrics["earlier_fields"] = {
            name: {k: f[k] for k in ("ap", "f1", "balanced_accuracy")} for name, f in figures.items()
        }
        ap = [figures[name]["ap"] for name in ("before", "after")]
        lost = ap[0] - ap[1]
        found += f"; finding cells in earlier fields (AP) {ap[0]:.3f} before, {ap[1]:.3f} after"
    promoted = not worse and lost <= _FORGOTTEN
    verdict = "The new model is not worse" if promoted else "The new model is worse and is kept as a candidate"
    return Outcome(model, promoted, metrics, f"{verdict}: {found}.")


def _forgotten(model: Model, parent: Model, earlier: Earlier) -> tuple[dict[str, Any], bool, str]:
    """Return the figures of :class:`Outcome` for earlier cases, whether too much of them is forgotten, and words."""
    judges = list(earlier.judges())
    before, after = (
        np.concatenate([_NOBODY, *(judge(m, *said, model.taxonomy) for said in judges)]) for m in (parent, model)
    )
    missing = len(earlier.missing)
    figures: dict[str, Any] = {"replayed": len(earlier.cases), "missing": missing, "held_back": len(before)}
    words = []
    if len(before):
        figures |= {"before": float(before.mean()), "after": float(after.mean())}
        words.append(f"with {len(before)} of earlier cases {before.mean():.0%} before, {after.mean():.0%} after")
    if missing:
        why = " ".join(dict.fromkeys(earlier.missing))
        words.append(f"{missing} earlier {'case' if missing == 1 else 'cases'} could not be used ({why})")
    worse = len(before) > 0 and is_worse(after - before, recipe_for(parent).doubt)
    return figures, worse, "; ".join(words or ["nothing of earlier cases was held back"])


def _agreement(
    kept: Annotations, before: NDArray[np.float32], after: NDArray[np.float32], names: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of :class:`Outcome` for the corrections held back, of classes called `names`."""

    def of(which: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "held_back": int(which.sum()),
            "before": float(before[which].mean()),
            "after": float(after[which].mean()),
        }

    rejected = kept.states == State.REJECTED
    labels = np.unique(kept.labels[~rejected]).tolist()
    figures: dict[str, Any] = {
        "agreement": {"before": float(before.mean()), "after": float(after.mean())},
        "classes": {names[label]: of(~rejected & (kept.labels == label)) for label in labels},
    }
    if rejected.any():
        figures["rejections"] = of(rejected)
    return figures


def is_worse(change: NDArray[np.float32], doubt: float) -> bool:
    """Say whether agreement with held-back corrections, changed by `change` (n,), fell by more than chance lets it.

    Chance is `doubt` standard errors of the mean change. That of fewer than `_FEW` would be chance itself (of a single
    one there is none), so it is worked out from the usual spread.
    """
    spread = float(change.std(ddof=1)) if len(change) >= _FEW else _SPREAD
    # asked the other way round, so that what is no number is worse
    return not float(change.mean()) + doubt * spread / math.sqrt(len(change)) >= -_TOLERANCE
