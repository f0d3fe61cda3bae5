"""One incremental round: from what the case file knows to a better model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..casefile import Case, State
from ..models import Model, load_model, model_from_bytes
from ..slides import Slide
from ..taxonomy import BETHESDA, Taxonomy
from .assignment import Assignment
from .crops import Crops, CropSampler
from .earlier import earlier_cases
from .evaluation import evaluate
from .fields import Field, read_fields
from .fitting import FitSettings, Step, fit
from .known import RIM, WINDOW, Known, RoundError, case_fields, case_windows, labelled_share, window_side
from .losses import Schedule, pull_at_half
from .newclasses import imprint
from .objective import A_POS, LossName, Objective
from .promotion import Measure, Outcome, compared
from .recipe import Recipe, recipe_for
from .targets import Targets

__all__ = ["current_model", "train_round"]

REPLAY = Path(__file__).with_name("replay")

_CROP = 320
_LEAST_STEPS = 20

EPOCH = 25
"""Steps after which a round notes the balance of gradients."""

_Net = TypeVar("_Net", bound=nn.Module)


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
    forgotten. None for a taxonomy of other classes than theirs.
    """
    if not taxonomy.continues(BETHESDA):
        return [], []
    fields = _replay(taxonomy)
    return [f for i, f in enumerate(fields) if i % 5], fields[::5]


def mixed(samplers: Iterable[CropSampler]) -> CropSampler:
    """Return what draws half of every batch by the first sampler, and of the others, if any, as much by each."""
    case, *replay = samplers
    return _Mixed(case, replay) if replay else case


class _Mixed(CropSampler):
    def __init__(self, case: CropSampler, replay: Sequence[CropSampler]) -> None:
        self._case, self._replay = case, replay

    def batch(self, n: int) -> tuple[Tensor, Targets]:
        shares = [len(part) for part in np.array_split(np.arange(n // 2), len(self._replay))]
        drawn = [self._case.batch(n - n // 2), *(r.batch(k) for r, k in zip(self._replay, shares, strict=True) if k)]
        images, targets = zip(*drawn, strict=True)
        return torch.cat(images), Targets(*(torch.cat(parts) for parts in zip(*targets, strict=True)))


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

    Half of every batch comes from the case, half is replayed: from fields that the shipped model learned from, and from
    the earlier cases that the case's model has learnt from, so that nothing is forgotten; how a model learns that began
    with nothing, `recipe_for` tells. Known elements take Grad-Libra, unknown ones the exclusive branch, its schedule
    where :func:`standing` says. Nothing is written: that is for the caller. Raises CervcellError.
    """
    say = on_stage or (lambda text: None)
    parent, known = begin(case, slide)
    recipe = replace(recipe_for(parent), loss=loss)
    replay, watched = replayed(case.taxonomy) if recipe.replay else ([], [])
    with earlier_cases(parent, case) as earlier:
        say("Reading the corrected cells from the slide")
        fields = case_fields(slide, known, parent.mpp)
        again = list(earlier.fields(parent.mpp, WINDOW, RIM))

        say("Training")
        torch.manual_seed(seed)  # of dropout
        rng = np.random.default_rng(seed)
        crops = Crops(_CROP, parent.mpp, assignment=Assignment.of(parent.card["architecture"]))
        sampler = mixed(
            CropSampler(part, crops, rng, hard=recipe.hard, even=recipe.even)
            for part in (fields, replay, again)
            if part
        )
        progress = standing(fields + again, recipe)
        settings = FitSettings(
            steps=min(steps or max(_LEAST_STEPS, int(seconds * 20)), most_steps(fields + again, recipe)),
            seconds=None if steps else seconds,
            rate=recipe.rate,
            progress=(progress, progress),
            average=0.95,
            frozen=recipe.frozen,
            freeze_norm=True,
            epoch=EPOCH,
        )
        start = beginning(case, parent) if recipe.anew else parent
        student = start.widened(case.taxonomy)
        imprint(student.network, sampler, len(start.taxonomy))
        objective = objective_of(fields + replay + again, student, seed, recipe)
        network, balance = taught(student.network, sampler, objective, settings, case, on_step)
        side = window_side(slide, parent.mpp, WINDOW)
        seen = known.seen_in(case_windows(known, side), side, side * RIM / WINDOW)
        model = Model(network, card_of(student, parent, "incremental round", settings, seen, seed, case))

        say("Comparing with the model in use")
        outcome = compared(model, parent, slide, known.judges, watched, measure, earlier)
    outcome.metrics["gradient_balance"] = balance
    return outcome


def begin(case: Case, slide: Slide) -> tuple[Model, Known]:
    """Return the model that a round starts from, and what it is to learn.

    Raises CervcellError where it cannot, CaseError for another slide than the case's.
    """
    case.check_slide(slide)
    parent, known = current_model(case), Known.of(case, slide)
    if not len(known.learnt) and not len(known.checked):
        kept = f" but those held back to judge models ({len(known.judges)})" if len(known.judges) else ""
        raise RoundError(
            f"The case {case.path} holds no corrections to learn from yet{kept}. Review a few cells first."
        )
    return parent, known


def beginning(case: Case, model: Model) -> Model:
    """Return what `model` of the case came of: it itself, or the one that was brought in and then taught here."""
    made = {r.model_id: r for r in reversed(case.rounds()) if r.has_model}  # one brought in again is still from here
    origin = model.id
    while origin in made and not made[origin].brought_in:
        origin = made[origin].parent_model_id
    return model_from_bytes(case.round_model(made[origin].id)) if origin in made else model


def standing(fields: Sequence[Field], recipe: Recipe) -> float:
    """Return where the exclusive schedule stands in a round on the case's `fields`, 0 to 1.

    At the end, where the model has been trained to it before: it knows most cells, and what it believes in is excluded.
    For one that began with nothing, as far as the cells that are labelled by now allow. Raises RoundError for such a
    one where nothing tells what is no cell: it would take everything for one.
    """
    if recipe.at_the_end:
        return 1.0
    if recipe.loss in ("exclusive", "ignore") and not any(len(f.checked) or len(f.rejected) for f in fields):
        raise RoundError(
            "Nothing tells yet what is no cell, so a round would take everything for one. Mark a place where every "
            "cell is marked as checked, or reject what is no cell, then begin the round again."
        )
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
    student: Model, parent: Model, recipe: str, settings: FitSettings, known: Known, seed: int, case: Case
) -> dict[str, Any]:
    """Return the card of the model that a round on `case` has made of `student`, which says what `parent` says.

    Cases that it has learnt from are in ``learnt_from`` by their ids, the last one last.
    """
    card = student.card
    learnt = known.learnt
    card["parent"] = parent.id
    card["learnt_from"] = [*(uid for uid in card.get("learnt_from", []) if uid != case.uid), case.uid]
    card["training"] = {
        "recipe": recipe,
        "progress": settings.progress[1],
        "margin": _margin(parent),
        "corrections": len(learnt),
        "rejections": int((learnt.states == State.REJECTED).sum()),
        "mined": len(known.mined),
        "seed": seed,
    }
    card.pop("metrics", None)
    return card
