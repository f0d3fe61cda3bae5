"""How a round learns, for what differs from one round to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .objective import LossName

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["COLD", "USUAL", "Recipe", "knows_nothing", "recipe_for"]

_WHOLE_BACKBONE = 8  # parts: a handful of corrections is for the neck and the head, and half the time saved


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a round.

    Attributes
    ----------
    loss : LossName
    grad_libra : bool
        Whether known elements take Grad-Libra, else cross-entropy; see `Objective`.
    hard : bool
        Whether rejections count for more than cells, as hard negatives: drawn more often, and of more weight.
    even : bool
        Whether crops lie around cells of all classes equally often, else the oftener the more there are of a class.
    at_the_end : bool
        Whether the exclusive schedule stands at its end, else as far as labels allow; see `standing`.
    replay : bool
        Whether it replays the fields that ship with the plugin, where they are of the case's classes, and is judged on
        them too.
    rate : float
        Peak learning rate of the neck and the head.
    frozen : int
        So many parts of the backbone keep their weights.
    anew : bool
        Whether a full round begins with what its model was before the case taught it anything; see `beginning`.
    steps_a_cell : int or None
        At most so many steps for each labelled cell, None for as many as there is time for.
    opinion : bool
        Whether quick rounds learn what the model before thinks of all that nobody has spoken of, too. Without that a
        head that sees the same few patches again and again learns these by heart, and ranks and names new cells worse.
    doubt : float
        By how many standard errors a round must agree less with held-back corrections to be worse; see `is_worse`.
    """

    loss: LossName = "exclusive"
    grad_libra: bool = True
    hard: bool = True
    even: bool = False
    at_the_end: bool = True
    replay: bool = True
    rate: float = 5e-4
    frozen: int = _WHOLE_BACKBONE
    anew: bool = False
    steps_a_cell: int | None = None
    opinion: bool = True
    doubt: float = 1.0


USUAL = Recipe()
COLD = Recipe(
    grad_libra=False,
    hard=False,
    even=True,
    at_the_end=False,
    replay=False,
    rate=1e-3,
    frozen=3,
    anew=True,
    steps_a_cell=10,
    opinion=False,
    doubt=3.0,
)
"""For a model that has seen nothing but the case: all that is new in it is to be learnt, and nothing came earlier.
In so few steps cross-entropy's stronger pull finds cells sooner than Grad-Libra's, and a rejection says no more than a
cell does: what looks like both is a cell as likely as reviewers said so. A class with few labels must be found for more
of its cells to be asked about, and the first handful, with nothing replayed beside it, is soon learnt by heart; a round
that goes on from there keeps that, the more the oftener there are rounds. A round that learns from twice the labels is
better as a rule, and most held-back cells are ones that the model before it had found and was sure of: only clear
evidence counts against it."""


def recipe_for(model: Model) -> Recipe:
    """Return how rounds that go on from `model` learn: by `COLD` where it, or what it came of, began with nothing.

    Its card says so: it has never been trained to the end of the exclusive schedule.
    """
    return COLD if float(model.card.get("training", {}).get("progress", 1.0)) < 1 else USUAL


def knows_nothing(model: Model) -> bool:
    """Return whether `model` has not learnt from any cell yet: to teach its head alone would be of no use."""
    return recipe_for(model) == COLD and "learnt_from" not in model.card
