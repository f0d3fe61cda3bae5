"""A tenth of the fields labelled, the others not, the whole detector learning: a teacher's opinion, and dual alignment.

    python training/unlabelled_detector.py --data DIR --scale smoke|cpu|gpu

Asks what ``unlabelled.py`` asks of a small head, of the detector that ships. Every rule trains for as many steps from
ImageNet, all but a third of them on the labelled fields alone; then the network that came of it looks at the unlabelled
ones too, and the last third learns, gently, what it found there. Scored on the test fields. Writes
``training/results/unlabelled-detector-SCALE.csv``, ``.md`` and ``.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from experiments.table import Table, arguments, dots, fields_by_split
from sparse_detector import SCALES, Bench, found
from torch import Tensor
from unlabelled import drawn

from napari_cervcell.learning.alignment import DualAlignment
from napari_cervcell.learning.evaluation import opinion_of, predict_field
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.objective import Losses, Objective
from napari_cervcell.learning.targets import Targets
from napari_cervcell.learning.teacher import calibrate, with_pseudo_labels
from napari_cervcell.models import Model, Network
from napari_cervcell.models.heads import Dense
from napari_cervcell.taxonomy import BETHESDA

ALONE, ALL = "labels alone", "all fields labelled"
TAUGHT = ("mean teacher", "own opinion", "own opinion and dual alignment")
SHARE = 0.1  # of the fields are labelled
CUT = 0.7  # the calibrated probability from which on a detection is taken for a cell
EMBEDDING = 128
_NONE = np.zeros((0, 4), np.float32)


@dataclass
class Aligning:
    """The objective, and in it dual alignment of the embeddings of what lies in labelled and unlabelled fields.

    Known cells, as many known places without one, and places nobody looked at that the teacher thinks most likely to
    hold one, and as many others: `most` of each. What the detector says of the latter is the teacher's opinion of them,
    shared out over the classes as the student would.
    """

    objective: Objective
    alignment: DualAlignment
    generator: torch.Generator
    weight: float = 0.1
    most: int = 128

    @property
    def balance(self) -> object:
        return self.objective.balance

    def __call__(self, dense: Dense, target: Targets, progress: float) -> Losses:
        losses = self.objective(dense, target, progress)
        embedding = dense.embedding
        assert embedding is not None
        factor = dense.cell.shape[-1] // embedding.shape[-1]

        def looks(at: Tensor) -> Tensor:
            image, row, col = at.T
            return embedding[image, :, row // factor, col // factor]

        cell, empty = self.some(target.label >= 0), self.some(target.known & (target.cell == 0))
        empty = empty[: max(len(cell), 1)]
        likely = self.some(target.unknown & (target.opinion >= 0.3))
        rest = self.some(target.unknown & (target.opinion < 0.3) & (target.opinion >= 0))[: max(len(likely), 1)]
        label = torch.cat([target.label[tuple(cell.T)], torch.full((len(empty),), self.alignment.background)])
        asked = torch.cat([likely, rest])
        image, row, col = asked.T
        opinion = target.opinion[image, row, col][:, None]
        classes = torch.softmax(dense.classes[image, :, row, col].detach(), 1)
        said = torch.cat([classes * opinion, 1 - opinion, torch.zeros_like(opinion)], 1)  # nobody rejected anything
        added = self.alignment(looks(torch.cat([cell, empty])), label, looks(asked), said, progress).total
        return losses._replace(total=losses.total + self.weight * added)

    def some(self, which: Tensor) -> Tensor:
        """Return at most `most` of the locations, drawn at random, int64 (k, 3)."""
        at = torch.nonzero(which)
        return at[torch.randperm(len(at), generator=self.generator)[: self.most]]


class Unlabelled:
    """What the rules make of a tenth of the train fields being labelled."""

    def __init__(self, bench: Bench, val: list[Field]) -> None:
        self.bench, self.val = bench, val
        self.first = lru_cache(maxsize=1)(self._first)

    def run(self, rule: str, seed: int) -> dict[str, float]:
        scale = self.bench.scale
        labelled, others = drawn(self.bench.train, SHARE, seed)
        if rule == ALL:
            model = self.bench.fit(self.bench.train, seed, "ignore", scale.steps + scale.second_steps)
        elif rule == ALONE:
            model = self.bench.fit(labelled, seed, "ignore", scale.steps + scale.second_steps)
        else:
            first = self.first(seed)
            fields = labelled + [replace(f, boxes=_NONE, labels=f.labels[:0], checked=_NONE) for f in others]
            if rule == "mean teacher":
                calibration = calibrate([found(first, f) for f in self.val])
                fields = [with_pseudo_labels(f, predict_field(first, f), calibration, CUT) for f in fields]
            else:
                fields = [replace(f, opinion=opinion_of(first, f)) for f in fields]
            aligned = self.aligning if rule.endswith("dual alignment") else None
            model = self.bench.fit(fields, seed + 1, "ignore", scale.second_steps, first, aligned)
        return self.bench.judged(model)

    def _first(self, seed: int) -> Model:
        return self.bench.fit(drawn(self.bench.train, SHARE, seed)[0], seed, "ignore", self.bench.scale.steps)

    @staticmethod
    def aligning(objective: Objective, network: Network, seed: int) -> Aligning:
        """Return `objective` with dual alignment, whose proxies learn with the network."""
        torch.manual_seed(seed)
        alignment = DualAlignment(EMBEDDING, len(BETHESDA))
        network.add_module("alignment", alignment)
        return Aligning(objective, alignment, torch.Generator().manual_seed(seed))


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv)
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    fields = fields_by_split(args.data, smoke)
    bench = Bench(fields["train"], fields[judge_on], scale, smoke, EMBEDDING)
    unlabelled = Unlabelled(bench, fields["val"])
    path = args.results / f"unlabelled-detector-{args.scale}.csv"
    table = Table(path, ("rule", "seed"), (scale, SHARE, CUT, judge_on), args.seeds)
    table.fill(((rule, seed) for seed in range(scale.seeds) for rule in (ALONE, *TAUGHT, ALL)), unlabelled.run)
    notes = (
        f"The whole detector learns, from ImageNet; {SHARE:.0%} of {len(bench.train)} train fields labelled, drawn "
        f"anew for each seed; scored on the {judge_on} fields. The mean teacher is calibrated on val fields. Mean ± "
        "standard deviation over seeds."
    )
    table.markdown("Learning from unlabelled fields, the whole detector learning", notes, smoke)
    dots(table, ("ap", "f1_at_half", "best_f1"))
    return table


if __name__ == "__main__":
    main()
