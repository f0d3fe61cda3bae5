"""A tenth of the fields labelled, the others not: dual alignment and a mean teacher against labels alone.

    python training/unlabelled.py --data DIR --scale smoke|cpu|gpu

Every rule trains the same head, background and six classes of every location on frozen ImageNet features, from the same
labelled fields, and goes on from the same start; scored on the test fields. Writes
``training/results/unlabelled-SCALE.csv``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from experiments.features import MPP, Sheet, sheets_by_split
from experiments.finding import Stacked, detect, figures, head, locations, logits_of, points_of
from experiments.fitting import Batch, Draws, train
from experiments.table import Table, arguments, dots, fields_by_split
from hard_negatives import rows_at
from torch import Tensor, nn

from napari_cervcell.learning.alignment import DualAlignment, accept, ramp
from napari_cervcell.learning.evaluation import score_cells
from napari_cervcell.models import STRIDE
from napari_cervcell.taxonomy import BETHESDA

N = len(BETHESDA)
RULES = ("labels alone", "mean teacher", "dual alignment", "all fields labelled")


@dataclass(frozen=True)
class Scale:
    steps: int
    share: float = 0.1
    batch: int = 1024
    noise: float = 0.25
    strong: float = 0.5
    proposals: int = 256
    width: int = 64
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
        order = np.random.default_rng(seed).permutation(len(learnt))
        n = max(1, round(share * len(learnt)))
        labelled, unlabelled = [learnt[i] for i in order[:n]], [learnt[i] for i in order[n:]]
        rows = Stacked(labelled)
        at = locations(labelled, [np.ones(len(s.labels), bool) for s in labelled], checked=[True] * n)
        start = head(N + 1, rows.width, seed, scale.width)
        nn.init.zeros_(start[-1].bias[:N])
        model = train(start, Draws(rows, at, seed, scale.batch, scale.noise), supervised, steps=scale.steps)
        # all rules get as many steps
        module = copy.deepcopy(model).requires_grad_(True)
        draws = Draws(rows, at, seed + 1000, scale.batch, scale.noise)
        if rule in ("mean teacher", "dual alignment"):
            loss = FromUnlabelled(rule, module, proposals(model, unlabelled), seed, scale)
            model = train(module, draws, loss, steps=scale.steps, extra=loss)
        else:
            model = train(module, draws, supervised, steps=scale.steps)
        return judged(model, judged_on)

    table = Table(args.results / f"unlabelled-{args.scale}.csv", ("rule", "seed"), (scale, judge_on), args.seeds)
    table.fill(((rule, seed) for seed in range(scale.seeds) for rule in RULES), run)
    notes = (
        f"Heads on frozen ImageNet features; {scale.share:.0%} of {len(learnt)} train fields labelled, drawn anew for "
        f"each seed; {judge_on} fields. Mean ± standard deviation over seeds."
    )
    table.markdown("Learning from unlabelled fields", notes, smoke)
    dots(table, ("ap", "f1_at_half", "balanced_accuracy"))
    return table


def supervised(batch: Batch, logits: Tensor, teacher: nn.Module, progress: float) -> Tensor:
    return F.cross_entropy(logits, torch.where(batch.label < 0, N, batch.label), reduction="none")


def proposals(model: nn.Module, sheets: Sequence[Sheet]) -> Tensor:
    """Return the features float32 (n, d) of what a model takes, however faintly, for cells."""
    found = [detect(cell_logit(model), s, 0.02).centres for s in sheets]
    return rows_at(sheets, np.repeat(np.arange(len(sheets)), [len(f) for f in found]), np.concatenate(found))


def cell_logit(model: nn.Module) -> nn.Module:
    """Return what gives the logit (n, 1) of any class against background."""

    class Cell(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = model(x)
            return (z[:, :N].logsumexp(1) - z[:, N])[:, None]

    return Cell()


class FromUnlabelled(nn.Module):
    """The loss of labelled rows with, spread over the batch, what proposals of unlabelled fields add.

    A mean teacher's sure answers are labels for noisier features of the same places; dual alignment draws their
    embeddings to proxies and prototypes.
    """

    def __init__(self, rule: str, module: nn.Module, x: Tensor, seed: int, scale: Scale) -> None:
        super().__init__()
        # what is trained is not this one's: its parameters would be counted twice
        object.__setattr__(self, "trained", module)
        self.rule, self.x, self.scale = rule, x, scale
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.alignment = DualAlignment(scale.width // 2, N)

    def forward(self, batch: Batch, logits: Tensor, teacher: nn.Module, progress: float) -> Tensor:
        loss = supervised(batch, logits, teacher, progress)
        x = self.x[torch.randint(len(self.x), (self.scale.proposals,), generator=self.generator)]
        strong = x + self.scale.strong * torch.randn(x.shape, generator=self.generator)
        with torch.no_grad():
            said = torch.softmax(teacher(x), 1)
        if self.rule == "mean teacher":
            label, sure = accept(said, self.alignment.theta, N)
            weight = ramp(progress, self.alignment.start, self.alignment.end)
            if not weight or not sure.any():
                return loss
            added = weight * F.cross_entropy(self.trained(strong[sure]), label[sure])
        else:
            trunk = self.trained[:-1]
            quarter = len(batch.x) // 4  # which is all cells
            some = torch.cat(
                [torch.arange(quarter), torch.randint(quarter, len(batch.x), (quarter,), generator=self.generator)]
            )
            label = torch.where(batch.label < 0, N, batch.label)[some]
            said = torch.cat([said, torch.zeros(len(said), 1)], 1)  # nobody rejected anything: no mimics
            added = self.alignment(trunk(batch.x[some]), label, trunk(strong), said, progress).total
        return loss + added / batch.weight.sum()  # the weighted sum over the batch then has it once


def judged(model: nn.Module, sheets: Sequence[Sheet]) -> dict[str, float]:
    """Return the figures of finding, and the mean recall over classes of the cells that were found."""
    results, named = [], []
    for sheet in sheets:
        found = detect(cell_logit(model), sheet)
        z = logits_of(model, sheet)
        results.append((found, points_of(sheet)))
        col, row = (found.centres.T * (sheet.field.mpp / MPP / STRIDE)).astype(int)
        found.labels = z[:N, row, col].argmax(0).numpy().astype(np.int16)
        named.append((found, points_of(sheet), sheet.labels))
    return figures(results) | {"balanced_accuracy": score_cells(named, BETHESDA.names)["balanced_accuracy"]}


if __name__ == "__main__":
    main()
