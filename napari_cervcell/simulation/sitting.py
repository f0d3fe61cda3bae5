"""One sitting from its first click to its last, and the detector measured after every round."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..casefile import Case, RoundState, Verdict, open_case
from ..detection import Scan
from ..learning import Field, RoundError, current_model, train_round
from ..learning.evaluation import judged, match_points, score_cells
from ..learning.features import FeatureMemory
from ..learning.fitting import Step
from ..learning.fresh import fresh_model
from ..learning.objective import LossName
from ..learning.promotion import Outcome
from ..learning.quick import quick_round
from ..learning.recipe import knows_nothing
from ..models import Model, save_model
from ..review import Session
from ..review.models import import_model
from ..review.sheet import Choice, Sheet
from ..review.strategies import StrategyName
from ..slides import Slide, open_slide
from .data import Fields, Truth, lay_out
from .oracle import Oracle

__all__ = ["Course", "ceiling", "sit"]

Point = dict[str, Any]
"""What was measured after one round; JSON-able."""

Tell = Callable[[str, float], object]
"""Told what is being done, and how much of the sitting is, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Course:
    """What all sittings that are compared have in common.

    Attributes
    ----------
    fields : Fields
    start : Path or None
        The model to begin with; None for one that has seen nothing.
    budgets : sequence of int
        Clicks, in all, after which there is a round and the detector is measured.
    steps : int
        Of the optimiser in every round.
    quick : bool
        Whether rounds are quick ones where they can be, else full ones.
    error : float
        Share of verdicts that are wrong.
    measured : dict
        The figures of models, by their ids, so that none is measured twice.
    """

    fields: Fields
    start: Path | None
    budgets: Sequence[int]
    steps: int
    quick: bool
    error: float
    measured: dict[str, Point] = field(default_factory=dict)


def sit(course: Course, strategy: StrategyName, loss: LossName, seed: int, tell: Tell) -> list[Point]:
    """Hold a sitting; return what was measured at its start and after each budget that was reached."""
    with _desk(course, seed) as (slide, case, truth):
        session = Session(slide, case, threshold=current_model(case).threshold, strategy=strategy, seed=seed)
        session.counts_changed.connect(lambda: _answer_at_once(session))
        oracle = Oracle(session, truth, error=course.error, seed=seed)
        memory = FeatureMemory()
        points: list[Point] = []

        def measure() -> None:
            tell("measuring", len(points) / (len(course.budgets) + 1))
            point = {"clicks": oracle.clicks, "seconds": oracle.seconds, **_figures(current_model(case), course)}
            points.append(point | {"acts": dict(oracle.acts), "promoted": _promoted(case)} | _slips(session, oracle))

        def say(text: str) -> None:
            tell(text, max(0.0, (len(points) - 0.5) / (len(course.budgets) + 1)))

        _look(slide, session, say)
        measure()
        for i, budget in enumerate(course.budgets):
            say("reviewing")
            enough = oracle.work(budget)
            settings = {"steps": course.steps, "seed": seed + 1000 * i}
            quick = course.quick and not knows_nothing(current_model(case))
            teach = partial(quick_round, memory=memory) if quick else train_round
            promoted = _learn(case, settings, partial(_train, teach, case, slide, settings, loss, say))
            if promoted and (course.error or budget != course.budgets[-1]):
                _look(slide, session, say)
            measure()
            if not enough:
                break
        return points


def ceiling(course: Course, seed: int, tell: Tell) -> Point:
    """Return what the detector reaches with every cell of the pool labelled rightly and every field checked, in one
    round as long as all those of a sitting together, whether or not a window would have promoted it."""
    with _desk(course, seed) as (slide, case, truth):
        case.record([Verdict("add", box, int(label)) for box, label in zip(truth.boxes, truth.labels, strict=True)])
        for area in truth.areas.tolist():
            case.check_region(area)

        def say(text: str) -> None:
            tell(text, 0.1)

        settings = {"steps": course.steps * len(course.budgets), "seed": seed}
        outcome = _train(train_round, case, slide, settings, "exclusive", say)
        tell("measuring", 0.9)
        return _figures(outcome.model, course)


@contextmanager
def _desk(course: Course, seed: int) -> Iterator[tuple[Slide, Case, Truth]]:
    """The pool on a slide of its own, and its empty case, in a folder that goes away again."""
    with tempfile.TemporaryDirectory(prefix="cervcell-simulate-") as folder:
        path = Path(folder) / "pool.tiff"
        truth = lay_out(course.fields.pool, path, np.random.default_rng([seed, 0]))
        taxonomy = course.fields.taxonomy
        with (
            open_slide(path, mpp=course.fields.mpp) as slide,
            open_case(path.with_suffix(".cervcell"), slide, "oracle", taxonomy) as case,
        ):
            start = course.start
            if start is None:
                start = Path(folder) / "fresh.safetensors"
                save_model(fresh_model(taxonomy, course.fields.pool, seed), start)
            case.use_round(import_model(case, start))
            yield slide, case, truth


def _slips(session: Session, oracle: Oracle) -> Point:
    """Return how many verdicts were wrong, and where those rank in the second look.

    ``wrong_rank`` is the chance that of a wrong and a right verdict the wrong one comes first in it, None where there
    are not both.
    """
    snapshot = session.snapshot()
    listed = Sheet.of(snapshot, Choice(reviewed="second look", split=False)).rows
    reviewed = np.flatnonzero(session.states > 0)
    is_wrong = np.isin(reviewed, list(oracle.wrong))
    against = snapshot.against[reviewed]
    pairs = against[is_wrong][:, None] - against[~is_wrong][None]
    rank = float(((pairs > 0) + (pairs == 0) / 2).mean()) if pairs.size else None
    wrong_listed = int(np.isin(listed, list(oracle.wrong)).sum())
    return {
        "wrong": int(is_wrong.sum()), "second_look": len(listed), "wrong_listed": wrong_listed, "wrong_rank": rank,
    }  # fmt: skip


def _answer_at_once(session: Session) -> None:
    """Move the scores of what looks like accepted and rejected cells, as the window does by default."""
    question = session.answers.ask()
    if question is not None:
        session.answers.take(question, question.answer())


def _look(slide: Slide, session: Session, say: Callable[[str], None]) -> None:
    """Let the model in use look at the whole slide."""
    case = session.case
    for progress in Scan(slide, current_model(case), case=case).run():
        say(f"looking, {progress.done} of {progress.total} tiles")
        session.add_cells([progress])


def _learn(case: Case, settings: dict[str, int], train: Callable[[], Outcome]) -> bool:
    """Do a round, as the trainer's process does; return whether another model is in use from now on."""
    number = case.start_round(current_model(case).id, settings)
    try:
        outcome = train()
    except RoundError as error:
        case.finish_round(number, "failed", message=str(error))
        return False
    state: RoundState = "promoted" if outcome.promoted else "candidate"
    model = outcome.model
    ended, _ = case.finish_round(number, state, outcome.metrics, model.to_bytes(), model.id, outcome.message)
    return ended == "promoted"


def _train(
    teach: Callable[..., Outcome],
    case: Case,
    slide: Slide,
    settings: dict[str, int],
    loss: LossName,
    say: Callable[[str], None],
) -> Outcome:
    def report(step: Step) -> None:
        say(f"learning, step {step.step + 1} of {settings['steps']}")

    return teach(case, slide, **settings, loss=loss, on_step=report, on_stage=say)


def _promoted(case: Case) -> bool | None:
    """Whether the last round was promoted, None before the first."""
    trained = [r for r in case.rounds() if not r.brought_in]
    return trained[-1].state == "promoted" if trained else None


def _figures(model: Model, course: Course) -> Point:
    if model.id not in course.measured:
        course.measured[model.id] = _measured(model, course.fields.held_out)
    return course.measured[model.id]


def _measured(model: Model, held_out: Sequence[Field]) -> Point:
    """Measure a model on fields kept aside.

    ``f1`` and ``ap`` are those of ``cervcell evaluate``: for finding cells, F1 at the best score to cut at. The others
    hold at the score from which the window shows cells: ``f1_shown``, ``found`` (share of all cells found), and
    ``recall``, the mean over the classes of the share of their cells that are found and named rightly.
    """
    results = [judged(model, field) for field in held_out]
    best = score_cells(results, model.taxonomy.names)
    hits = shown = 0
    right, all_ = (np.zeros(len(model.taxonomy), np.int64) for _ in range(2))
    for cells, points, labels, _ in results:
        cells = cells[cells.scores >= model.threshold]
        matched = match_points(cells, points)
        hit = matched >= 0
        true = labels[matched[hit]]
        hits, shown = hits + int(hit.sum()), shown + len(cells)
        right += np.bincount(true[true == cells.labels[hit]], minlength=len(right))
        all_ += np.bincount(labels, minlength=len(all_))
    present = all_ > 0
    return {
        "f1": best["f1"],
        "ap": best["ap"],
        "recall": float((right[present] / all_[present]).mean()),
        "f1_shown": 2 * hits / (shown + int(all_.sum())),
        "found": hits / int(all_.sum()),
        "naming": best["balanced_accuracy"],
    }
