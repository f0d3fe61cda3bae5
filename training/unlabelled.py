"""A tenth of the fields labelled, the others not: dual alignment and a mean teacher against labels alone.

    python training/unlabelled.py --data DIR --scale smoke|cpu|gpu

Every rule trains the same head, background and six classes of every location on frozen ImageNet features, from the same
labelled fields, and goes on from the same start; scored on the test fields. Writes
``training/results/unlabelled-SCALE.csv``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from experiments.features import MPP, Sheet, sheets_by_split
from experiments.finding import Stacked, decoded, figures, head, locations, logits_of, points_of
from experiments.fitting import Batch, Draws, train
from experiments.table import Table, arguments, dots, fields_by_split
from hard_negatives import rows_at
from torch import Tensor, nn

from napari_cervcell.cells import Cells
from napari_cervcell.learning.alignment import DualAlignment, ramp
from napari_cervcell.learning.evaluation import Judged, match_points, score_cells
from napari_cervcell.learning.teacher import calibrate, with_pseudo_labels
from napari_cervcell.models import STRIDE
from napari_cervcell.taxonomy import BETHESDA

N = len(BETHESDA)
RULES = ("labels alone", "mean teacher", "dual alignment", "all fields labelled")
NONE = np.zeros((0, 4), np.float32)
T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    steps: int
    share: float = 0.1
    batch: int = 1024
    noise: float = 0.25
    strong: float = 0.5
    proposals: int = 256
    width: int = 64
    cut: float = 0.7
    """The calibrated probability from which on a cell is what the mean teacher finds."""
    asked: int = 100
    """Steps after which it is asked anew."""
    seeds: int = 3


SCALES = {
    "smoke": Scale(steps=3, share=0.5, batch=64, seeds=1),
    "cpu": Scale(steps=300),
    "gpu": Scale(steps=3000, batch=8192, width=128, seeds=5),
}


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv)
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    sheet = sheets_by_split(fields_by_split(args.data, smoke), smoke, args.cache)
    learnt, judged_on = sheet["train"], sheet[judge_on]

    def run(rule: str, seed: int) -> dict[str, float]:
        share = 1.0 if rule == "all fields labelled" else scale.share
        labelled, unlabelled = drawn(learnt, share, seed)
        n = len(labelled)
        rows = Stacked(labelled)
        at = locations(labelled, [np.ones(len(s.labels), bool) for s in labelled], checked=[True] * n)
        start = head(N + 1, rows.width, seed, scale.width, background=True)
        model = train(start, Draws(rows, at, seed, scale.batch, scale.noise), supervised, steps=scale.steps)
        # all rules get as many steps
        module = copy.deepcopy(model).requires_grad_(True)
        draws = Draws(rows, at, seed + 1000, scale.batch, scale.noise)
        if rule == "mean teacher":
            cells = len(at.positive) / len(labelled) * len(unlabelled)
            taught = FromTeacher(module, unlabelled, cells, sheet["val"], seed, scale)
            model = train(module, draws, taught, steps=scale.steps)
            return judged(model, judged_on) | {"pseudo_cells": taught.taken, "of_them_right": taught.right}
        if rule == "dual alignment":
            aligned = FromProposals(module, proposals(model, unlabelled), seed, scale)
            model = train(module, draws, aligned, steps=scale.steps, extra=aligned)
        else:
            model = train(module, draws, supervised, steps=scale.steps)
        return judged(model, judged_on)

    table = Table(args.results / f"unlabelled-{args.scale}.csv", ("rule", "seed"), (scale, judge_on), args.seeds)
    table.fill(((rule, seed) for seed in range(scale.seeds) for rule in RULES), run)
    notes = (
        f"Heads on frozen ImageNet features; {scale.share:.0%} of {len(learnt)} train fields labelled, drawn anew for "
        f"each seed; {judge_on} fields. The mean teacher is calibrated on val fields; its pseudo-cells are what it "
        "took for cells when last asked. Mean ± standard deviation over seeds."
    )
    table.markdown("Learning from unlabelled fields", notes, smoke)
    dots(table, ("ap", "f1_at_half", "balanced_accuracy"))
    return table


def drawn(fields: Sequence[T], share: float, seed: int) -> tuple[list[T], list[T]]:
    """Return a share of the fields, at least one, drawn at random, and the others."""
    order = np.random.default_rng(seed).permutation(len(fields))
    n = max(1, round(share * len(fields)))
    return [fields[i] for i in order[:n]], [fields[i] for i in order[n:]]


def supervised(batch: Batch, logits: Tensor, teacher: nn.Module, progress: float) -> Tensor:
    return F.cross_entropy(logits, torch.where(batch.label < 0, N, batch.label), reduction="none")


def proposals(model: nn.Module, sheets: Sequence[Sheet]) -> Tensor:
    """Return the features float32 (n, d) of what a model takes, however faintly, for cells."""
    found = [named(model, s, 0.02).centres for s in sheets]
    return rows_at(sheets, np.repeat(np.arange(len(sheets)), [len(f) for f in found]), np.concatenate(found))


class FromTeacher:
    """The loss of labelled rows with, spread over the batch, that of the cells that a mean teacher finds elsewhere.

    It looks through the unlabelled sheets every so often, each time calibrated on the `known` ones. What it surely
    finds is a cell, in noisier features; of all else nothing is learnt. `cells` is how many locations of cells they
    must hold.
    """

    def __init__(
        self, module: nn.Module, sheets: Sequence[Sheet], cells: float, known: Sequence[Sheet], seed: int, scale: Scale
    ) -> None:
        self.trained, self.sheets, self.cells, self.known, self.scale = module, sheets, cells, known, scale
        self.generator = torch.Generator().manual_seed(seed)
        self.steps = 0

    def __call__(self, batch: Batch, logits: Tensor, teacher: nn.Module, progress: float) -> Tensor:
        if self.steps % self.scale.asked == 0:
            self.ask(teacher)
        self.steps += 1
        loss = supervised(batch, logits, teacher, progress)
        if not len(self.label):
            return loss
        drawn = torch.randint(len(self.label), (self.scale.proposals,), generator=self.generator)
        x = self.x[drawn] + self.scale.strong * torch.randn(len(drawn), self.x.shape[1], generator=self.generator)
        weight = ramp(progress, 0.05, 0.3) * len(self.label) / self.cells
        return loss + weight * F.cross_entropy(self.trained(x), self.label[drawn]) / batch.weight.sum()

    def ask(self, teacher: nn.Module) -> None:
        """Take what the teacher finds for cells, and note how many there are and which share of them is right."""
        calibration = calibrate([(named(teacher, s), points_of(s)) for s in self.known])
        taught, right = [], 0
        for sheet in self.sheets:
            found = named(teacher, sheet)
            blank = replace(sheet.field, boxes=NONE, labels=np.zeros(0, np.int16), checked=NONE)
            field = with_pseudo_labels(blank, found, calibration, self.scale.cut)
            sure = found[calibration(found.scores) >= self.scale.cut]
            right += int((match_points(sure, points_of(sheet)) >= 0).sum())
            taught.append(replace(sheet, boxes=field.boxes * np.float32(sheet.field.mpp / MPP), labels=field.labels))
        at = locations(taught, [np.ones(len(s.labels), bool) for s in taught])
        self.x, self.label = Stacked(taught)[at.positive], torch.from_numpy(at.label)
        self.taken = sum(len(s.labels) for s in taught)
        self.right = right / max(self.taken, 1)


class FromProposals(nn.Module):
    """The loss of labelled rows with, spread over the batch, what proposals of unlabelled fields add.

    Dual alignment draws the embeddings of noisier features of the same places to proxies and prototypes.
    """

    def __init__(self, module: nn.Module, x: Tensor, seed: int, scale: Scale) -> None:
        super().__init__()
        # what is trained is not this one's: its parameters would be counted twice
        object.__setattr__(self, "trained", module)
        self.x, self.scale = x, scale
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.alignment = DualAlignment(scale.width // 2, N)

    def forward(self, batch: Batch, logits: Tensor, teacher: nn.Module, progress: float) -> Tensor:
        x = self.x[torch.randint(len(self.x), (self.scale.proposals,), generator=self.generator)]
        strong = x + self.scale.strong * torch.randn(x.shape, generator=self.generator)
        with torch.no_grad():
            said = torch.softmax(teacher(x), 1)
        trunk = self.trained[:-1]
        quarter = len(batch.x) // 4  # which is all cells
        some = torch.cat(
            [torch.arange(quarter), torch.randint(quarter, len(batch.x), (quarter,), generator=self.generator)]
        )
        label = torch.where(batch.label < 0, N, batch.label)[some]
        said = torch.cat([said, torch.zeros(len(said), 1)], 1)  # nobody rejected anything: no mimics
        added = self.alignment(trunk(batch.x[some]), label, trunk(strong), said, progress).total
        # the weighted sum over the batch then has it once
        return supervised(batch, logits, teacher, progress) + added / batch.weight.sum()


def judged(model: nn.Module, sheets: Sequence[Sheet]) -> dict[str, float]:
    """Return the figures of finding, and the mean recall over classes of the cells that were found."""
    results = [Judged(named(model, s), points_of(s), s.labels) for s in sheets]
    accuracy = score_cells(results, BETHESDA.names)["balanced_accuracy"]
    return figures([(found, points) for found, points, *_ in results]) | {"balanced_accuracy": accuracy}


def named(model: nn.Module, sheet: Sheet, lowest: float = 0.002) -> Cells:
    """Return what a model finds in a sheet, and of which class it takes that for; px of the field's image."""
    z = logits_of(model, sheet)
    found = decoded(z[:N].logsumexp(0) - z[N], sheet, lowest)
    col, row = (found.centres.T * (sheet.field.mpp / MPP / STRIDE)).astype(int)
    found.labels = z[:N, row, col].argmax(0).numpy().astype(np.int16)
    return found


if __name__ == "__main__":
    main()
