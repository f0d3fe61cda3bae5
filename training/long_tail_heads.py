"""The long tail on four detectors: Grad-Libra against its rivals with the heads that the paper measured.

    python training/long_tail_heads.py --data DIR --scale smoke|cpu|gpu

Neck and head of FCOS, ATSS, RepPoints and YOLOF, each with its own assignment, learn on the maps of a frozen ImageNet
backbone from all labels of the train fields, and are scored on the test fields. Every class is a classifier of its own
at every location, and background is none of them: its logit is that of a cell plus that of the class, so that all of a
head has its say. Writes ``training/results/long-tail-heads-SCALE.csv``, ``.md`` and ``.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from experiments.features import MPP
from experiments.finding import peaks
from experiments.frozen import SCALES, Eyes, detector
from experiments.table import Table, arguments, dots, fields_by_split
from long_tail import EXCLUSIVE, LOSSES, counted, figures, odds
from torch import Tensor, nn

from napari_cervcell.cells import Cells
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.fitting import FitSettings, fit
from napari_cervcell.learning.losses import GradientBalance, named_loss
from napari_cervcell.learning.objective import Losses, box_loss
from napari_cervcell.learning.seen import Seen, SeenSampler
from napari_cervcell.learning.targets import Targets
from napari_cervcell.models.heads import Dense
from napari_cervcell.taxonomy import BETHESDA

HEADS = ("fcos", "atss", "reppoints", "yolof")
COMPARED = ("CE", "focal with alpha", "EFL", "Seesaw", "Grad-Libra 0.8/0.8")


class Classifiers:
    """Objective of C classifiers of every location by one of the `LOSSES`; boxes learn as in the recipe."""

    def __init__(self, loss: str) -> None:
        name, options = LOSSES[loss]
        self.exclusive = name in EXCLUSIVE
        self.rule = named_loss(f"{name}+ignored", len(BETHESDA) + self.exclusive, **options)
        self.balance = GradientBalance(len(BETHESDA))

    def __call__(self, dense: Dense, target: Targets, progress: float) -> Losses:
        logits, n = self.logits(dense), len(BETHESDA)
        wanted = F.one_hot(target.label + 1, n + 1).movedim(-1, 1).roll(-1, 1).float()[:, : logits.shape[1]]
        known = target.known[:, None].expand_as(wanted)
        self.balance.add(logits[:, :n], wanted[:, :n], known[:, :n])
        naming = self.rule(logits, wanted, known, ~known).sum() / target.cell.sum().clamp_min(1)
        sides = box_loss(dense, target) if target.cell.any() else torch.zeros(())
        return Losses(naming + sides, 0.0, 0.0, float(naming.detach()), float(sides.detach()), 0.0, 0.0)

    def logits(self, dense: Dense) -> Tensor:
        """Return the logits (n, C, h, w); for a softmax, background's 0 is one more."""
        logits = dense.cell[:, None] + dense.classes
        return F.pad(logits, (0, 0, 0, 0, 0, 1)) if self.exclusive else logits


def found(model: nn.Module, rule: Classifiers, seen: Seen, field: Field) -> list[Cells]:
    """Return the cells of every class in the annotated part of `field`, px of its image."""
    with torch.inference_mode():
        dense = model(seen.looks[0].features[None])
        logits = rule.logits(dense)[0]
    scores = odds(logits) if rule.exclusive else logits
    of_class = [Dense(z[None], dense.classes, dense.sides) for z in scores]
    return [peaks(d, 0.0, seen.checked[0]).cells.moved(0, 0, MPP / field.mpp) for d in of_class]


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv)
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    fields = fields_by_split(args.data, smoke)
    eyes = Eyes(smoke, args.cache)
    learnt = lru_cache(maxsize=None)(lambda head: eyes.see(fields["train"], head))
    judged = eyes.see(fields[judge_on], HEADS[0])

    def run(head: str, loss: str, seed: int) -> dict[str, float]:
        rule = Classifiers(loss)
        sampler = SeenSampler(learnt(head), MPP, np.random.default_rng(seed), scale.patch)
        settings = FitSettings(scale.steps, scale.batch, rate=scale.rate, weight_decay=0.05, epoch=scale.steps + 1)
        model = fit(detector(head, scale.width, seed), sampler, rule, settings)
        cells = [found(model, rule, s, f) for s, f in zip(judged, fields[judge_on], strict=True)]
        balance = {f"balance {c}": r for c, r in zip(BETHESDA.names, rule.balance.ratios(), strict=True)}
        return figures(cells, fields[judge_on]) | balance

    path = args.results / f"long-tail-heads-{args.scale}.csv"
    table = Table(path, ("head", "loss", "seed"), (scale, judge_on), args.seeds)
    table.fill(((head, loss, seed) for seed in range(scale.seeds) for head in HEADS for loss in COMPARED), run)
    report(table, fields[judge_on], smoke, judge_on)
    return table


def report(table: Table, judged: Sequence[Field], smoke: bool, judge_on: str) -> None:
    notes = (
        "Neck and head of four detectors on a frozen ImageNet backbone, "
        f"{judge_on} fields: {counted(judged)}. "
        "Recall: share of a class's cells among its hundred surest detections a field. Balance: gradient that pulls a "
        "class up by that which pushes it down, over the run. Mean ± standard deviation over seeds."
    )
    table.markdown("Finding and naming six classes with four detectors", notes, smoke)
    dots(table, ("mAP", "AP frequent", "AP common", "AP rare"))


if __name__ == "__main__":
    main()
