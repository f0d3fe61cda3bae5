"""One incremental round: from what the case file knows to a better model, judged on corrections held back."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..casefile import Annotations, Case, State
from ..models import Model, load_model, model_from_bytes, predict, to_input
from ..slides import Slide
from ..taxonomy import BETHESDA, Taxonomy
from .assignment import Assignment
from .crops import Crops, CropSampler
from .evaluation import evaluate
from .fields import Field, read_fields
from .fitting import FitSettings, Step, fit
from .known import Known, RoundError, case_fields, held_back, labelled_share
from .losses import Schedule, pull_at_half
from .newclasses import imprint
from .objective import A_POS, LossName, Objective
from .recipe import Recipe, recipe_for
from .targets import Targets

__all__ = ["Outcome", "current_model", "judge", "train_round"]

REPLAY = Path(__file__).with_name("replay")

_CROP = 320
_LEAST_STEPS = 20
_TOLERANCE = 0.01
_FEW = 5  # corrections held back; of fewer nobody knows from themselves how much of their change is chance
_SPREAD = 0.15  # usual, of the changes of single corrections: 0.1 to 0.2 in rounds on the sample slide
_FORGOTTEN = 0.03  # AP: the shipped model knows the earlier fields by heart, and whatever it learns costs some of that


EPOCH = 25
"""Steps after which a round notes the balance of gradients."""

_Net = TypeVar("_Net", bound=nn.Module)

Measure = Callable[[Model, list[Field]], dict[str, Any]]
"""Tells how a model does on earlier fields (see :func:`replayed`), as :func:`evaluate` does."""


@dataclass(slots=True)
class Outcome:
    """What a round gave.

    Attributes
    ----------
    model : Model
    promoted : bool
        Whether it is not worse than its parent: on the corrections held back (see :func:`is_worse`), and on earlier
        fields.
    metrics : dict
        Figures of both, JSON-able: ``held_back``, how many corrections were, and where there were any ``agreement``
        (``before``, ``after``), how likely each model thinks what was said of them, 0 to 1, on average. The same of
        those of each class and of the rejections alone: ``classes`` (by name) and ``rejections``, of each
        ``held_back``, ``before`` and ``after``. With earlier fields ``earlier_fields`` (``before``, ``after``).
    message : str
        The same in a sentence for the reviewer.
    """

    model: Model
    promoted: bool
    metrics: dict[str, Any]
    message: str


def current_model(case: Case | None) -> Model:
    """Return the model that the case uses now: its newest promoted or chosen one, else the shipped one.

    Raises ModelError, also for a model of other classes than the case's.
    """
    active = case.active_model() if case else None
    model = model_from_bytes(active[1], f"the model of {case.path}") if case and active else load_model()
    if case:
        model.check_classes(case.taxonomy, model.name)
    return model


@cache
def _replay(taxonomy: Taxonomy) -> list[Field]:
    return read_fields(REPLAY, taxonomy)


def replayed(taxonomy: Taxonomy) -> tuple[list[Field], list[Field]]:
    """The labelled fields that ship with the plugin: those replayed in every round, and those that only judge what was
    forgotten. The reviewer's earlier cases are not among them.

    None for a taxonomy of other classes than theirs.
    """
    if not taxonomy.continues(BETHESDA):
        return [], []
    fields = _replay(taxonomy)
    return [f for i, f in enumerate(fields) if i % 5], fields[::5]


class Mixed(CropSampler):
    """Half of every batch from the case, half replayed."""

    def __init__(self, case: CropSampler, replay: CropSampler) -> None:
        self._parts = (case, replay)

    def batch(self, n: int) -> tuple[Tensor, Targets]:
        (a, s), (b, t) = self._parts[0].batch(n - n // 2), self._parts[1].batch(n // 2)
        return torch.cat([a, b]), Targets(*(torch.cat(pair) for pair in zip(s, t, strict=True)))


def judge(model: Model, slide: Slide, annotations: Annotations) -> NDArray[np.float32]:
    """Return float32 (n,): for each annotation the probability that `model` gives to what the reviewer said.

    For a cell: that a cell is there and that it has the reviewer's class; for a rejection: that there is none.
    """
    if slide.mpp is None or not len(annotations.ids):
        return np.zeros(0, np.float32)
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
            label = int(annotations.labels[i])  # a class may be newer than the model, which then never gives it
            right[i] = float(cell[best] * names[label, best]) if label < len(names) else 0.0
    return right


def train_round(
    case: Case,
    slide: Slide,
    *,
    seconds: float = 60.0,
    steps: int | None = None,
    seed: int = 0,
    loss: LossName = "exclusive",
    measure: Measure = evaluate,
    on_step: Callable[[Step], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Outcome:
    """Train the case's model on the case's corrections, and judge it against its parent.

    It trains for about `seconds`, or where a script must get the same model twice, for `steps`, in both cases for no
    more than :func:`most_steps`; `loss` is that of finding cells, for comparison.

    Half of every batch comes from the case, half is replayed from fields that the shipped model learned from, so that
    nothing is forgotten; how a model learns that began with nothing, `recipe_for` tells. Known elements take
    Grad-Libra, unknown ones the exclusive branch, its schedule where :func:`standing` says. Nothing is written: that is
    for the caller. Raises CervcellError.
    """
    say = on_stage or (lambda text: None)
    parent, known = begin(case, slide)
    recipe = replace(recipe_for(parent), loss=loss)
    say("Reading the corrected cells from the slide")
    fields = case_fields(slide, known, parent.mpp)
    replay, watched = replayed(case.taxonomy) if recipe.replay else ([], [])

    say("Training")
    torch.manual_seed(seed)  # of dropout
    rng = np.random.default_rng(seed)
    crops = Crops(_CROP, parent.mpp, assignment=Assignment.of(parent.card["architecture"]))
    sampler = CropSampler(fields, crops, rng, hard=recipe.hard, even=recipe.even)
    if replay:
        sampler = Mixed(sampler, CropSampler(replay, crops, rng))
    progress = standing(fields, recipe)
    settings = FitSettings(
        steps=min(steps or max(_LEAST_STEPS, int(seconds * 20)), most_steps(fields, recipe)),
        seconds=None if steps else seconds,
        rate=recipe.rate,
        progress=(progress, progress),
        average=0.95,
        frozen=recipe.frozen,
        freeze_norm=True,
        epoch=EPOCH,
    )
    student = parent.widened(case.taxonomy)
    imprint(student.network, sampler, len(parent.taxonomy))
    objective = objective_of(fields + replay, student, seed, recipe)
    network, balance = taught(student.network, sampler, objective, settings, case, on_step)
    model = Model(network, card_of(student, parent, "incremental round", settings, known, seed))

    say("Comparing with the model in use")
    outcome = compared(model, parent, slide, known.annotations, watched, measure)
    outcome.metrics["gradient_balance"] = balance
    return outcome


def begin(case: Case, slide: Slide) -> tuple[Model, Known]:
    """Return the model that a round starts from, and what it is to learn. Raises CervcellError where it cannot."""
    parent, known = current_model(case), Known.of(case, slide)
    if held_back(known.annotations.ids).all() and not len(known.checked):
        raise RoundError(f"The case {case.path} holds no corrections to learn from yet. Review a few cells first.")
    return parent, known


def standing(fields: Sequence[Field], recipe: Recipe) -> float:
    """Return where the exclusive schedule stands in a round on the case's `fields`, 0 to 1.

    At the end, where the model has been trained to it before: it knows most cells, and what it believes in is excluded.
    For one that began with nothing, as far as the cells that are labelled by now allow.
    """
    if recipe.at_the_end:
        return 1.0
    pull = pull_at_half(A_POS) if recipe.grad_libra else 0.5  # cross-entropy's
    return Schedule().progress_for(labelled_share(fields), pull)


def most_steps(fields: Sequence[Field], recipe: Recipe) -> int:
    """Return the most steps that a round may take on the case's `fields` without learning their cells by heart."""
    if recipe.steps_a_cell is None:
        return sys.maxsize
    return max(_LEAST_STEPS, recipe.steps_a_cell * sum(len(f.labels) for f in fields))


def objective_of(fields: Sequence[Field], student: Model, seed: int, recipe: Recipe) -> Objective:
    """Return the objective of a round on `fields`."""
    labels = np.concatenate([f.labels for f in fields])
    count = np.bincount(labels, minlength=len(student.taxonomy)) + 1.0
    counts = torch.tensor(50 * count / count.sum(), dtype=torch.float32)
    generator, margin = torch.Generator().manual_seed(seed), _margin(student)
    objective = Objective(counts, generator, margin=margin, loss=recipe.loss, grad_libra=recipe.grad_libra)
    if not recipe.hard:
        objective.rejected_weight = 1.0
    return objective


def _margin(model: Model) -> float:
    """The margin for rare classes that `model` has learnt with: with another one it would unlearn some of them."""
    return float(model.card.get("training", {}).get("margin", 1.0))


def taught(
    network: _Net,
    sampler: CropSampler,
    objective: Objective,
    settings: FitSettings,
    case: Case,
    on_step: Callable[[Step], None] | None,
) -> tuple[_Net, list[list[float]]]:
    """Train `network`; return what came of it, and after every epoch the balance of gradients of each class.

    Raises RoundError where the loss is no longer a number.
    """
    balance: list[list[float]] = []

    def report(step: Step, _: _Net) -> None:
        if step.balance is not None:
            balance.append([round(r, 3) for r in step.balance])
        if on_step is not None:
            on_step(step)

    try:
        return fit(network, sampler, objective, settings, report), balance
    except FloatingPointError as error:
        raise RoundError(f"The round on {case.path} was given up: {error}. The model in use stays.") from None


def card_of(
    student: Model, parent: Model, recipe: str, settings: FitSettings, known: Known, seed: int
) -> dict[str, Any]:
    """Return the card of the model that a round has made of `student`, which says what `parent` says."""
    card = student.card
    learnt = ~held_back(known.annotations.ids)
    card["parent"] = parent.id
    card["training"] = {
        "recipe": recipe,
        "progress": settings.progress[1],
        "margin": _margin(parent),
        "corrections": int(learnt.sum()),
        "rejections": int((learnt & (known.annotations.states == State.REJECTED)).sum()),
        "mined": len(known.mined),
        "seed": seed,
    }
    card.pop("metrics", None)
    return card


def compared(
    model: Model,
    parent: Model,
    slide: Slide,
    annotations: Annotations,
    watched: list[Field],
    measure: Measure,
) -> Outcome:
    """Judge `model` against `parent` on the corrections held back and, by `measure`, on earlier fields."""
    kept = annotations[held_back(annotations.ids)]
    metrics: dict[str, Any] = {"held_back": len(kept.ids)}
    worse, lost = False, 0.0
    if len(kept.ids):
        before, after = (judge(m, slide, kept) for m in (parent, model))
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
    if watched:
        figures = {name: measure(m, watched) for name, m in (("before", parent), ("after", model))}
        earlier = {name: {k: f[k] for k in ("ap", "f1", "balanced_accuracy")} for name, f in figures.items()}
        metrics["earlier_fields"] = earlier
        ap = [earlier[name]["ap"] for name in ("before", "after")]
        lost = ap[0] - ap[1]
        found += f"; finding cells in earlier fields (AP) {ap[0]:.3f} before, {ap[1]:.3f} after"
    promoted = not worse and lost <= _FORGOTTEN
    verdict = (
        "The new model is not worse and is now in use"
        if promoted
        else "The new model is worse and is kept as a candidate"
    )
    return Outcome(model, promoted, metrics, f"{verdict}: {found}.")


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
    return float(change.mean()) + doubt * spread / math.sqrt(len(change)) < -_TOLERANCE
