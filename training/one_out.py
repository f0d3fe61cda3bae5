"""What each part of the shipped recipe adds: all of it together, one part out, and a plain focal detector.

    python training/one_out.py --data DIR --scale smoke|cpu|gpu

Neck and FCOS head learn on the maps of a frozen ImageNet backbone, from all labels of the train fields and from a
tenth of their cells with as many rejections, and are scored on the test fields. The figures say which part helps, not
how good the shipped model is, whose backbone has learnt too. Writes ``training/results/one-out-SCALE.csv``, ``.md`` and
``.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from experiments.features import MPP
from experiments.finding import figures, peaks
from experiments.frozen import SCALES, Eyes, Scale, detector
from experiments.table import Table, arguments, dots, fields_by_split
from sparse_labels import by_field, false_detections, only_kept
from torch import nn
from train import objective_of

from napari_cervcell.cells import centres_of
from napari_cervcell.learning.evaluation import Judged, score_cells
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.fitting import FitSettings, fit
from napari_cervcell.learning.objective import LossName
from napari_cervcell.learning.seen import Seen, SeenSampler
from napari_cervcell.models.network import both_looks
from napari_cervcell.taxonomy import BETHESDA

ALL, TENTH = "all", "0.1"


@dataclass(frozen=True)
class Recipe:
    """The parts of the recipe; `loss` is that of finding cells, and so says what becomes of the unknown."""

    loss: LossName = "exclusive"
    grad_libra: bool = True
    balanced_softmax: bool = True
    drawn_by_class: bool = True
    embedding: bool = True
    averaged: bool = True
    two_looks: bool = True
    rejections: bool = True


PLAIN = Recipe(
    "focal",
    balanced_softmax=False,
    drawn_by_class=False,
    embedding=False,
    averaged=False,
    two_looks=False,
    rejections=False,
)
RECIPES = {
    ALL: {
        "whole recipe": Recipe(),
        "cross-entropy for Grad-Libra": Recipe(grad_libra=False),
        "unknown ignored": Recipe("ignore"),
        "no balanced softmax": Recipe(balanced_softmax=False),
        "crops not drawn by class": Recipe(drawn_by_class=False),
        "no embedding": Recipe(embedding=False),
        "last weights, not averaged": Recipe(averaged=False),
        "one look": Recipe(two_looks=False),
        "plain focal": PLAIN,
    },
    TENTH: {
        "whole recipe": Recipe(),
        "unknown is background, cross-entropy": Recipe("ce"),
        "unknown is background, focal": Recipe("focal"),
        "unknown ignored": Recipe("ignore"),
        "no rejections": Recipe(rejections=False),
    },
}


class Evenly(SeenSampler):
    """Draws every cell as often as any other, whatever its class."""

    def __init__(self, fields: Sequence[Seen], mpp: float, rng: np.random.Generator, patch: int) -> None:
        super().__init__(fields, mpp, rng, patch)
        self._cell_weight = np.full(len(self._cell_weight), 1 / max(len(self._cell_weight), 1))


class Bench:
    """The fields, and what a recipe makes of them at one setting of `scale`."""

    def __init__(self, train: list[Field], judged_on: list[Field], eyes: Eyes, scale: Scale) -> None:
        self.train, self.judged_on, self.eyes, self.scale = train, judged_on, eyes, scale
        self.seen = eyes.see(train, "fcos")
        self.judged = eyes.see(judged_on, "fcos")
        self.fitted = lru_cache(maxsize=None)(self._fitted)
        self.known = lru_cache(maxsize=2)(self._known)

    def run(self, labels: str, rule: str, seed: int) -> dict[str, float]:
        recipe = RECIPES[labels][rule]
        averaged, last = self.fitted(labels, replace(recipe, averaged=True, two_looks=True), seed)
        model = averaged if recipe.averaged else last
        found = [detected(model, s, f, recipe.two_looks) for s, f in zip(self.judged, self.judged_on, strict=True)]
        of_cells = figures([(cells, points) for cells, points, *_ in found])
        named = score_cells(found, BETHESDA.names)
        return {
            "ap": of_cells["ap"],
            "f1_at_half": of_cells["f1_at_half"],
            "best_f1": of_cells["best_f1"],
            "mean_recall": named["balanced_accuracy"],
            "mAP": named["mean_ap_named"],
        }

    def _fitted(self, labels: str, recipe: Recipe, seed: int) -> tuple[nn.Module, nn.Module]:
        """Train; return the average of all weights and the last ones."""
        fields = self.seen if labels == ALL else self.known(recipe.rejections, seed)
        objective = objective_of(fields, seed)
        objective.grad_libra = recipe.grad_libra
        objective.loss = recipe.loss
        if not recipe.balanced_softmax:  # beside so many of each class what is counted does not show
            objective.counts = torch.full_like(objective.counts, 1e30)
        if not recipe.embedding:
            objective.looks_weight = 0.0
        sampler = SeenSampler if recipe.drawn_by_class else Evenly
        model = detector("fcos", self.scale.width, seed, embedding=self.scale.width)
        settings = FitSettings(self.scale.steps, self.scale.batch, rate=self.scale.rate, weight_decay=0.05)
        draws = sampler(fields, MPP, np.random.default_rng(seed), self.scale.patch)
        return fit(model, draws, objective, settings), model.eval()

    def _known(self, rejections: bool, seed: int) -> list[Seen]:
        """Return the train fields with a tenth of the cells, and as many places where a first model was wrong."""
        fields = only_kept(self.train, TENTH, seed)
        if rejections:
            _, first = self.fitted(TENTH, PLAIN, seed)
            seen = zip(self.seen, self.train, strict=True)
            found = [detected(first, s, f, two_looks=False) for s, f in seen]
            surest = false_detections([(cells, points) for cells, points, *_ in found])
            false = by_field(surest[: sum(len(f.labels) for f in fields)], len(fields))
            fields = [replace(f, rejected=r) for f, r in zip(fields, false, strict=True)]
        return self.eyes.see(fields, "fcos")


def detected(model: nn.Module, seen: Seen, field: Field, two_looks: bool) -> Judged:
    """Return what `model` finds in the annotated part of `field` beside what is there."""
    with torch.inference_mode():
        upright, turned = (model(look.features[None]) for look in seen.looks)
        dense = both_looks(upright, turned if two_looks else None)
    cells, _, shares = peaks(dense, 0.0, seen.checked[0])
    return Judged(cells.moved(0, 0, MPP / field.mpp), centres_of(field.boxes), field.labels, shares)


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv)
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    fields = fields_by_split(args.data, smoke)
    bench = Bench(fields["train"], fields[judge_on], Eyes(smoke, args.cache), scale)
    table = Table(args.results / f"one-out-{args.scale}.csv", ("labels", "rule", "seed"), (scale, judge_on), args.seeds)
    cells = ((labels, rule, seed) for seed in range(scale.seeds) for labels, of in RECIPES.items() for rule in of)
    table.fill(cells, bench.run)
    report(table, smoke, judge_on)
    return table


def report(table: Table, smoke: bool, judge_on: str) -> None:
    notes = (
        f"Neck and FCOS head on a frozen ImageNet backbone, scored on the {judge_on} fields; mean ± standard deviation "
        "over seeds. Labels: all cells, or a tenth of them and as many rejections, all else unknown. Finding: ap, f1 "
        "at a score of 0.5, best f1. Naming: mean recall over six classes of the found cells, mAP over six classes, "
        "each detection counted for its likeliest class alone."
    )
    table.markdown("The recipe, and one part out", notes, smoke)
    dots(table, ("ap", "f1_at_half", "mean_recall", "mAP"))


if __name__ == "__main__":
    main()
