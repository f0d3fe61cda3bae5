"""Six classes, most cells of one: Grad-Libra against cross-entropy, focal with alpha, equalised focal, Seesaw.

    python training/long_tail.py --data DIR --scale smoke|cpu|gpu

Every loss trains the same head, six classifiers of every location of a field on frozen ImageNet features, from all the
labels of the train fields; scored on the test fields. Frequent: NILM; common: LSIL, ASC-US; rare: HSIL, SCC, ASC-H.
Writes ``training/results/long-tail-SCALE.csv``, ``.md`` and ``.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from experiments.features import sheets_by_split
from experiments.finding import Stacked, decoded, head, locations, logits_of
from experiments.fitting import Batch, Draws, train
from experiments.table import Table, arguments, dots, fields_by_split
from torch import Tensor, nn

from napari_cervcell.cells import Cells, centres_of
from napari_cervcell.learning.evaluation import Judged, match_points, score_cells
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.losses import GradientBalance, named_loss
from napari_cervcell.taxonomy import BETHESDA

GROUPS = {"frequent": ("NILM",), "common": ("LSIL", "ASC-US"), "rare": ("HSIL", "SCC", "ASC-H")}
LOSSES = {
    "CE": ("ce", {}),
    "focal with alpha": ("focal", {}),
    "EFL": ("efl", {}),
    "Seesaw": ("seesaw", {}),
    "Grad-Libra 0.8/0.8": ("grad-libra", {"a_pos": 0.8, "a_neg": 0.8}),
    "Grad-Libra 0.6/0.6": ("grad-libra", {"a_pos": 0.6, "a_neg": 0.6}),
    "Grad-Libra 0.8/0.8 detached": ("grad-libra-detached", {"a_pos": 0.8, "a_neg": 0.8}),
}
EXCLUSIVE = ("seesaw",)  # a softmax, in which background is one class more
FORM = "a softmax begins with background; balance by the locations that a row stands for"
"""Beside the scale, what rows must have been made with to be kept."""


@dataclass(frozen=True)
class Scale:
    steps: int
    batch: int = 1024
    noise: float = 0.25
    width: int = 64
    seeds: int = 3


SCALES = {
    "smoke": Scale(steps=3, batch=64, seeds=1),
    "cpu": Scale(steps=400, batch=512),
    "gpu": Scale(steps=4000, batch=8192, width=128, seeds=5),
}


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv)
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    sheet = sheets_by_split(fields_by_split(args.data, smoke), smoke, args.cache)
    learnt, judged = sheet["train"], sheet[judge_on]
    rows = Stacked(learnt)
    at = locations(learnt, [np.ones(len(s.labels), bool) for s in learnt], checked=[True] * len(learnt))
    n = len(BETHESDA)

    def run(loss: str, seed: int) -> dict[str, float]:
        name, options = LOSSES[loss]
        outputs = n + (name in EXCLUSIVE)
        rule = named_loss(name, outputs, **options)
        balance = GradientBalance(n)

        def loss_of(batch: Batch, logits: Tensor, teacher: nn.Module, progress: float) -> Tensor:
            target = F.one_hot(batch.label + 1, n + 1)[:, 1:].float()
            if name in EXCLUSIVE:
                target = torch.cat([target, (batch.label < 0).float()[:, None]], 1)
            known = batch.known[:, None].expand_as(target)
            said = odds(logits.T).T if name in EXCLUSIVE else logits
            balance.add(said, target[:, :n], batch.weight[:, None].expand_as(said))
            return rule(logits, target, known, ~known).sum(1)

        module = head(outputs, rows.width, seed, scale.width, background=name in EXCLUSIVE)
        model = train(module, Draws(rows, at, seed, scale.batch, scale.noise), loss_of, steps=scale.steps)
        said = [odds(z) if name in EXCLUSIVE else z for z in (logits_of(model, s) for s in judged)]
        found = [[decoded(z, s, 0.0) for z in of] for of, s in zip(said, judged, strict=True)]
        return figures(found, [s.field for s in judged]) | {
            f"balance {c}": r for c, r in zip(BETHESDA.names, balance.ratios(), strict=True)
        }

    table = Table(args.results / f"long-tail-{args.scale}.csv", ("loss", "seed"), (scale, judge_on, FORM), args.seeds)
    table.fill(((loss, seed) for seed in range(scale.seeds) for loss in LOSSES), run)
    notes = (
        f"One head on frozen ImageNet features; {judge_on} fields: {counted([s.field for s in judged])}. "
        "Recall: share of a class's cells among its hundred surest detections a field. Balance: gradient of "
        "cross-entropy that pulls a class up by that which pushes it down, over the run and all locations. "
        "Mean ± standard deviation over seeds."
    )
    table.markdown("Finding and naming six classes", notes, smoke)
    dots(table, ("mAP", "AP frequent", "AP common", "AP rare"))
    return table


def odds(logits: Tensor) -> Tensor:
    """Return the logit of each class of a softmax over logits (classes, ...), the last of which is background."""
    others = [torch.cat([logits[:c], logits[c + 1 :]]).logsumexp(0) for c in range(len(logits) - 1)]
    return logits[:-1] - torch.stack(others)


def figures(found: Sequence[Sequence[Cells]], fields: Sequence[Field]) -> dict[str, float]:
    """Return AP and recall of every class, and the means over all and over the groups.

    `found` has for every field the cells of every class, in px of its image.
    """
    aps, recalls = {}, {}
    for c, name in enumerate(BETHESDA.names):
        points = [centres_of(f.boxes)[f.labels == c] for f in fields]
        n = sum(map(len, points))
        if n:
            surest = [of[c][np.argsort(-of[c].scores, kind="stable")[:100]] for of in found]
            said = [Judged(cells, p, np.zeros(len(p), np.int16)) for cells, p in zip(surest, points, strict=True)]
            aps[name] = score_cells(said, ["cell"])["ap"]
            recalls[name] = sum(int((match_points(cells, p) >= 0).sum()) for cells, p, *_ in said) / n
    shown = {"mAP": float(np.mean(list(aps.values())))}
    for group, members in GROUPS.items():
        shown[f"AP {group}"] = float(np.mean([aps[m] for m in members if m in aps] or [0]))
    shown["mean recall"] = float(np.mean(list(recalls.values())))
    return shown | {f"AP {name}": ap for name, ap in aps.items()}


def counted(fields: Sequence[Field]) -> str:
    """Return how many cells of each class there are."""
    return ", ".join(f"{c} {sum(int((f.labels == i).sum()) for f in fields)}" for i, c in enumerate(BETHESDA.names))


if __name__ == "__main__":
    main()
