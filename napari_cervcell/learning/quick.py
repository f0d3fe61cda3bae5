"""The quick round: the head alone learns, on features that were made while the reviewer was still at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..casefile import Annotations, Case, State
from ..models import Model
from ..slides import Slide
from .assignment import Assignment
from .earlier import Earlier, earlier_cases
from .evaluation import evaluate
from .features import FeatureMemory, HeadAlone, Remembering
from .fields import Field
from .fitting import FitSettings, Step
from .known import (
    Known,
    RoundError,
    Window,
    annotated_windows,
    checked_windows,
    in_turn,
    read_windows,
    spread,
    window_side,
)
from .newclasses import imprint
from .objective import LossName
from .promotion import Outcome, compared, judge
from .recipe import recipe_for
from .rounds import EPOCH, begin, card_of, mixed, objective_of, replayed, standing, taught
from .seen import Ask, Seen, SeenSampler, see

__all__ = ["prepare", "quick_round"]

_WINDOW, _RIM = 160, 48  # px of the network's input: small, for corrections lie far apart
_BARE = 32  # px of the rim that give context and are not learnt from
_WINDOWS = 256  # of corrections that are no rejections, at most, and half as many of checked regions
_LOOKS = 2 * (_WINDOWS + _WINDOWS // 2)  # at the case, upright and upside down; where windows are more, one at each
_BATCH = 16


def quick_round(
    case: Case,
    slide: Slide,
    memory: FeatureMemory,
    *,
    seconds: float = 6.0,
    steps: int | None = None,
    seed: int = 0,
    loss: LossName = "exclusive",
    on_step: Callable[[Step], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Outcome:
    """Do what :func:`train_round` does, by the same objective, but leave the backbone and the neck as they are.

    What they make of pixels is looked up in `memory`, or kept there for the next round. Beside what was said the head
    learns what the model before thinks of all that nobody has spoken of, unless that began with nothing.
    """
    say = on_stage or (lambda text: None)
    parent, known = begin(case, slide)
    recipe = replace(recipe_for(parent), loss=loss)
    replay, watched = replayed(case.taxonomy) if recipe.replay else ([], [])
    eyes = _Eyes(parent, memory, recipe.opinion)
    with earlier_cases(parent, case) as earlier:
        say("Looking at the corrected cells")
        fields = list(eyes.of_case(slide, known))
        shipped, again = list(eyes.of_replay(replay)), list(eyes.of_earlier(earlier))

        say("Training")
        torch.manual_seed(seed)  # of dropout
        rng = np.random.default_rng(seed)
        sampler = mixed(
            SeenSampler(part, parent.mpp, rng, hard=recipe.hard, even=recipe.even)
            for part in (fields, shipped, again)
            if part
        )
        progress = standing([*fields, *again], recipe)
        settings = FitSettings(
            steps=steps or max(20, int(seconds * 100)),
            batch=_BATCH,
            seconds=None if steps else seconds,
            rate=5e-4,
            progress=(progress, progress),
            average=0.95,
            freeze_norm=True,
            epoch=EPOCH,
        )
        student = parent.widened(case.taxonomy)
        alone = HeadAlone(student.network)
        imprint(alone, sampler, len(parent.taxonomy))
        objective = objective_of([*fields, *shipped, *again], student, seed, recipe)
        learnt, balance = taught(alone, sampler, objective, settings, case, on_step)
        student.network.head = learnt.head
        card = card_of(student, parent, "quick round", settings, eyes.seen(slide, known), seed, case)
        model = Model(student.network, card)

        say("Comparing with the model in use")
        outcome = compared(eyes.behind(model), eyes.model, slide, known.judges, watched, memory.measure, earlier)
    outcome.model = model
    outcome.metrics["gradient_balance"] = balance
    return outcome


def prepare(case: Case, slide: Slide, memory: FeatureMemory) -> Iterator[None]:
    """Fill `memory` with all that a quick round would look at now, a little at every step, what it needs most first.

    Raises CervcellError.
    """
    try:
        parent, known = begin(case, slide)
    except RoundError:
        return  # nothing to learn from yet
    eyes = _Eyes(parent, memory)
    for _ in eyes.of_case(slide, known):
        yield
    yield from eyes.judging(slide, known.judges)
    replay, watched = replayed(case.taxonomy) if recipe_for(parent).replay else ([], [])
    for _ in eyes.of_replay(replay):
        yield
    for field in watched:
        evaluate(eyes.model, [field])
        yield
    if watched:
        memory.measure(eyes.model, watched)
    with earlier_cases(parent, case) as earlier:
        for _ in eyes.of_earlier(earlier):
            yield
        for there, kept in earlier.judges():
            yield from eyes.judging(there, kept)


class _Eyes:
    """A model that remembers what it has seen, and tells its opinion of that if it is asked.

    Attributes
    ----------
    model : Model
    """

    def __init__(self, model: Model, memory: FeatureMemory, asked: bool = False) -> None:
        self._memory = memory
        self._asked = asked
        self.network = Remembering(model.network, memory)
        self.model = Model(self.network, model.card)
        self._assignment = Assignment.of(model.card["architecture"])

    def behind(self, model: Model) -> Model:
        """Return `model`, which differs in its head alone, on the same memory."""
        return Model(Remembering(model.network, self._memory), model.card)

    def of_case(self, slide: Slide, known: Known) -> Iterator[Seen]:
        """Of every window two looks, as the network detects, or one where there are many."""
        windows = quick_windows(known, self._side(slide))
        both = 2 * len(windows) <= _LOOKS
        fields = read_windows(slide, known, self.model.mpp, windows, _WINDOW, _RIM)
        for window, field in zip(windows, fields, strict=True):
            turns = (False, True) if both else [bool(sum(window) % 2)]
            yield self._see_of_case(field, turns)

    def judging(self, slide: Slide, kept: Annotations) -> Iterator[None]:
        """Look at every correction that judges models, one at a step."""
        for i in range(len(kept)):
            judge(self.model, slide, kept[i : i + 1])
            yield

    def seen(self, slide: Slide, known: Known) -> Known:
        """Return what of `known` is in the fields of :meth:`of_case`."""
        side = self._side(slide)
        return known.seen_in(quick_windows(known, side), side, side * _RIM / _WINDOW)

    def _side(self, slide: Slide) -> float:
        """Side of a window, level-0 px."""
        return window_side(slide, self.model.mpp, _WINDOW)

    def of_replay(self, fields: list[Field]) -> Iterator[Seen]:
        """Of every earlier field one look: they are many, and known well."""
        ask: Ask = "everywhere" if self._asked else "nowhere"
        for i, field in enumerate(fields[::2]):
            yield see(field, self.network, self.model.mpp, self._assignment, turns=[bool(i % 2)], ask=ask)

    def of_earlier(self, earlier: Earlier) -> Iterator[Seen]:
        """Of every window of the earlier cases one look."""
        for i, field in enumerate(earlier.fields(self.model.mpp, _WINDOW, _RIM)):
            yield self._see_of_case(field, [bool(i % 2)])

    def _see_of_case(self, field: Field, turns: Sequence[bool]) -> Seen:
        ask: Ask = "unknown" if self._asked else "nowhere"
        return see(field, self.network, self.model.mpp, self._assignment, rim=_BARE, turns=turns, ask=ask)


def quick_windows(known: Known, side: float) -> list[Window]:
    """Return the windows of `side` level-0 px that a quick round looks at, what it needs most first.

    Every rejection that it may learn from is in them. Looking takes time, so those of other corrections are at most
    `_WINDOWS`, chosen by :func:`in_turn`, and those of checked regions half as many, evenly spread.
    """
    learnt = known.learnt
    rejected = learnt.states == State.REJECTED
    rejections = dict.fromkeys(annotated_windows(learnt[rejected], side))
    others = [w for w in annotated_windows(in_turn(learnt[~rejected]), side) if w not in rejections]
    regions = spread(checked_windows(known.checked, side), _WINDOWS // 2)
    return list(dict.fromkeys([*rejections, *others[:_WINDOWS], *regions]))
