"""Finding cells with sparse labels, the whole detector learning: exclusive cross-entropy against its rivals.

    python training/sparse_detector.py --data DIR --scale smoke|cpu|gpu

Asks what ``sparse_labels.py`` asks of a small head, of the detector that ships: from ImageNet, backbone, neck and FCOS
head learn from the same share of the cells and as many rejections, all else being unknown, every rule for as many
steps. The recipe spends a third of them on a second stage: scores are moved so that as many cells are found as there
must be, and the network's own opinion of every place is then learnt beside the labels, as the shipped model did. It was
settled on val with a tenth and a twentieth of the cells and one seed. Scored on the test fields. Writes
``training/results/sparse-detector-SCALE.csv``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from experiments.features import MPP
from experiments.finding import LOWEST, figures
from experiments.table import Table, arguments, fields_by_split
from numpy.typing import NDArray
from scipy.special import logit
from sparse_labels import FULL, against_share, only_kept, rejections
from train import GENTLY, initialised, objective_of

from napari_cervcell.cells import Cells
from napari_cervcell.learning.assignment import Assignment
from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.evaluation import judged, opinion_of, predict_field
from napari_cervcell.learning.fields import BOX_UM, Field
from napari_cervcell.learning.fitting import FitSettings, fit
from napari_cervcell.learning.objective import LossName, Objective
from napari_cervcell.models import DEFAULT_CONFIG, Model, Network, build
from napari_cervcell.taxonomy import BETHESDA


@dataclass(frozen=True)
class Rule:
    """What becomes of the unknown, and which parts of the recipe are used."""

    loss: LossName
    opinion: bool = False
    moved: bool = True
    rejections: bool = True


RULES = {
    "CE": Rule("ce"),
    "focal with alpha": Rule("focal"),
    "BRL": Rule("brl"),
    "unknown ignored": Rule("ignore"),
    "exclusive CE": Rule("exclusive"),
    "recipe": Rule("exclusive", opinion=True),
}
ABLATED = {
    "recipe, no rejections": Rule("exclusive", opinion=True, rejections=False),
    "recipe, scores not moved": Rule("exclusive", opinion=True, moved=False),
    "recipe, unknown ignored": Rule("ignore", opinion=True),
    "recipe, unknown is background": Rule("ce", opinion=True),
}


@dataclass(frozen=True)
class Scale:
    """Steps of both stages; `crop` is the side of what is drawn, px of the network's input."""

    steps: int
    second_steps: int
    batch: int = 2
    crop: int = 320
    shares: tuple[str, ...] = ("0.1", "0.05", "0.2", "0.4")
    reviewed: int = 20
    seeds: int = 3


SCALES = {
    "smoke": Scale(steps=2, second_steps=1, crop=64, shares=("0.4",), seeds=1),
    "cpu": Scale(steps=400, second_steps=200),
    "gpu": Scale(steps=3400, second_steps=1200, batch=16, seeds=5),
}


class Bench:
    """The fields, and what a rule makes of them at one setting of `scale`; a smoke run's network is small."""

    def __init__(
        self, train: list[Field], judged_on: list[Field], scale: Scale, smoke: bool, embedding: int = 0
    ) -> None:
        self.train, self.judged_on, self.scale, self.smoke = train, judged_on, scale, smoke
        self.config = {**DEFAULT_CONFIG, "embedding": embedding, "box_size": BOX_UM / MPP}
        if smoke:
            self.config |= {"backbone": "small", "width": 32}
        self.known = lru_cache(maxsize=2)(self._known)

    def run(self, name: str, labels: str, seed: int) -> dict[str, float]:
        rule = (RULES | ABLATED)[name]
        if labels != FULL:
            model = self.model(self.known(labels, rule.rejections, seed), rule, float(labels), seed)
        else:
            # the strip of a field in which nobody labelled is no background; all else is known
            loss: LossName = "ignore" if rule.loss == "ce" else rule.loss
            model = self.model(self.train, replace(rule, loss=loss), 1.0, seed)
        return self.judged(model)

    def judged(self, model: Model) -> dict[str, float]:
        return figures([found(model, f) for f in self.judged_on])

    def model(self, fields: list[Field], rule: Rule, share: float, seed: int) -> Model:
        """Train by a rule on fields of which `share` of the cells is labelled, as checked regions tell a round."""
        steps, more = self.scale.steps, self.scale.second_steps
        if not rule.opinion:
            return self.fit(fields, seed, rule.loss, steps + more)
        first = self.fit(fields, seed, rule.loss, steps)
        if rule.moved:
            move(first, fields, round(sum(len(f.labels) for f in fields) / share))
        told = [replace(f, opinion=opinion_of(first, f)) for f in fields]
        return self.fit(told, seed + 1, rule.loss, more, first)

    def fit(
        self,
        fields: list[Field],
        seed: int,
        loss: LossName,
        steps: int,
        start: Model | None = None,
        more: Callable[[Objective, Network, int], Any] | None = None,
    ) -> Model:
        """Train, from ImageNet or gently from `start`; known elements take cross-entropy, in so few steps.

        `more` makes of the objective, the network and the seed an objective that asks more of it.
        """
        torch.manual_seed(seed)
        network = self.begun() if start is None else copy.deepcopy(start.network).requires_grad_(True)
        objective = objective_of(fields, seed)
        objective.loss, objective.grad_libra, objective.rejected_weight = loss, False, 1.0
        settings = FitSettings(steps, self.scale.batch, weight_decay=0.05, frozen=2)
        if start is not None:
            rates = {"rate": GENTLY * settings.rate, "backbone_rate": GENTLY * settings.backbone_rate}
            settings = replace(settings, progress=(1.0, 1.0), **rates)
        crops = Crops(self.scale.crop, MPP, rim=32, assignment=Assignment.of(self.config))
        sampler = CropSampler(fields, crops, np.random.default_rng(seed), hard=False)
        asked = objective if more is None else more(objective, network, seed)
        network = fit(network.to(memory_format=torch.channels_last), sampler, asked, settings)
        return Model(network, {"architecture": self.config, "taxonomy": BETHESDA.to_json(), "mpp": MPP})

    def begun(self) -> Network:
        return build(self.config) if self.smoke else initialised(self.config)[0]

    def _known(self, labels: str, rejected: bool, seed: int) -> list[Field]:
        """Return the train fields with the kept cells, and as many places where a first model was wrong."""
        fields = only_kept(self.train, labels, seed)
        if not rejected:
            return fields
        first = self.fit(fields, seed, "focal", self.scale.second_steps)
        looked = [found(first, f) for f in self.train[: self.scale.reviewed]]
        false = rejections(looked, sum(len(f.labels) for f in fields), len(fields), seed)
        return [replace(f, rejected=r) for f, r in zip(fields, false, strict=True)]


def move(model: Model, fields: list[Field], n: int) -> None:
    """Move the logit of "a cell" so that `n` cells of the fields score above a half."""
    scores = np.sort(np.concatenate([predict_field(model, f, LOWEST).scores for f in fields]))
    if len(scores):
        with torch.no_grad():
            model.network.head.cell.bias -= float(logit(scores[-min(n, len(scores))]))


def found(model: Model, field: Field) -> tuple[Cells, NDArray[np.float32]]:
    """Return what `model` finds in the annotated part of `field`, however faintly, and where its cells are (m, 2)."""
    cells, points, *_ = judged(model, field, threshold=LOWEST)
    return cells, points


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv)
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    fields = fields_by_split(args.data, smoke)
    bench = Bench(fields["train"], fields[judge_on], scale, smoke)
    cells: list[tuple[Any, ...]] = []
    for labels in (FULL, *scale.shares):
        rules = ("CE", "recipe") if labels == FULL else tuple(RULES)
        cells += [(rule, labels, seed) for seed in range(scale.seeds) for rule in rules]
    # what shows which part of it does it comes after the main table
    cells += [(rule, scale.shares[0], seed) for seed in range(scale.seeds) for rule in ABLATED]
    path = args.results / f"sparse-detector-{args.scale}.csv"
    table = Table(path, ("rule", "labels_kept", "seed"), (scale, judge_on), args.seeds)
    table.fill(cells, bench.run)
    notes = (
        f"The whole detector learns, from ImageNet; scored on the {judge_on} fields; mean ± standard deviation over "
        "seeds. Every rule has the same labels and as many steps: the kept cells, and as many rejections. Labels 1: "
        "every cell of train fields, all else known to be none."
    )
    table.markdown("Finding cells with sparse labels, the whole detector learning", notes, smoke)
    against_share(table, tuple(RULES))
    return table


if __name__ == "__main__":
    main()
