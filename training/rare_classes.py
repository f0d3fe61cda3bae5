"""Naming cells of rare classes: ProCo against cross-entropy, balanced softmax and supervised contrast.

    python training/rare_classes.py --data DIR --scale smoke|cpu|gpu

Every rule trains the same small encoder on frozen ImageNet features of 80 px crops, in eight turns, of the cells of
train fields, and names those of test fields; how long to train was settled on val, all else is as given. Writes
``training/results/rare-classes-SCALE.csv``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from experiments.features import crop_features, imagenet, untrained
from experiments.table import Table, arguments, dots, fields_by_split
from torch import Tensor, nn

from napari_cervcell.learning.descent import descend
from napari_cervcell.learning.proco import ProCo
from napari_cervcell.taxonomy import BETHESDA


@dataclass(frozen=True)
class Scale:
    steps: int
    batch: int = 128
    width: int = 128
    noise: float = 0.3
    seeds: int = 3


SCALES = {
    "smoke": Scale(steps=4, batch=16, seeds=2),
    "cpu": Scale(steps=800),
    "gpu": Scale(steps=3000, batch=512, seeds=5),
}

PROCO = {
    "ProCo": {},
    "ProCo, no recalibration": {},
    "ProCo, no adversarial instances": {"hardest": 0},
    "PaCo (neither)": {"hardest": 0},
}
PLAIN = ("CE", "balanced softmax", "CE + supervised contrast", "balanced softmax + supervised contrast")


class Encoder(nn.Sequential):
    def __init__(self, features: int, width: int) -> None:
        super().__init__(nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3))


def contrast(z: Tensor, label: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss (NeurIPS 2020) of unit vectors (n, d)."""
    alone = torch.eye(len(z), dtype=torch.bool)
    log_p = (z @ z.T / temperature).masked_fill(alone, -math.inf).log_softmax(1).masked_fill(alone, 0)
    same = (label[:, None] == label[None]) & ~alone
    return -((log_p * same).sum(1) / same.sum(1).clamp_min(1)).mean()


def trained(rule: str, x: Tensor, label: Tensor, seed: int, scale: Scale) -> Callable[[Tensor], Tensor]:
    """Train by `rule` on features (n, turns, d) and return what gives logits (m, C) for features (m, d)."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    counts = torch.bincount(label, minlength=len(BETHESDA))
    encoder = Encoder(x.shape[2], scale.width)
    epoch = max(1, len(x) // scale.batch)

    def view(of: Tensor) -> Tensor:
        turn = torch.randint(x.shape[1], (len(of),), generator=generator)
        return x[of, turn] + scale.noise * torch.randn(len(of), x.shape[2], generator=generator)

    def drawn() -> Tensor:
        return torch.randint(len(x), (scale.batch,), generator=generator)

    if rule in PROCO or rule.startswith("PaCo"):
        model = ProCo(encoder, scale.width, counts.tolist(), momentum=0.99, **PROCO[rule])

        def loss_of_batch() -> Tensor:
            of = drawn()
            return model.loss(view(of), view(of), label[of], generator)

        recalibrated = rule in ("ProCo", "ProCo, no adversarial instances")
        for step, _ in enumerate(descend(model, loss_of_batch, steps=scale.steps, rate=3e-3)):
            if recalibrated and (step + 1) % epoch == 0:
                model.recalibration.end_epoch()
        return model.eval()

    classify = nn.Linear(scale.width, len(BETHESDA))
    project = nn.Sequential(nn.Linear(scale.width, scale.width), nn.ReLU(), nn.Linear(scale.width, 64))
    shift = (counts.clamp_min(1) / counts.sum()).log() if rule.startswith("balanced") else torch.zeros(len(counts))

    def plain_loss() -> Tensor:
        of = drawn()
        f = encoder(view(of))
        loss = F.cross_entropy(classify(f) + shift, label[of])
        if rule.endswith("contrast"):
            both = F.normalize(project(torch.cat([f, encoder(view(of))])), dim=1)
            loss = loss + 0.5 * contrast(both, label[of].repeat(2))
        return loss

    module = nn.ModuleList([encoder, classify, project])
    for _ in descend(module, plain_loss, steps=scale.steps, rate=3e-3):
        pass
    module.eval()
    return lambda features: classify(encoder(features))


def figures(probability: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return macro F1, mean recall, accuracy, calibration error (15 bins) and the recall of every class there is."""
    said, sure = probability.argmax(1), probability.max(1)
    recalls, f1s = {}, []
    for c, name in enumerate(BETHESDA.names):
        mine, called = label == c, said == c
        if mine.any():
            recalls[f"recall {name}"] = float((said[mine] == c).mean())
            f1s.append(2 * (mine & called).sum() / (mine.sum() + called.sum()))
    bins = np.minimum((sure * 15).astype(int), 14)
    right = said == label
    gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return {
        "macro_f1": float(np.mean(f1s)),
        "mean_recall": float(np.mean(list(recalls.values()))),
        "accuracy": float(right.mean()),
        "calibration_error": float(np.sum(gaps)),
        **recalls,
    }


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv)
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    fields = fields_by_split(args.data, smoke)
    features, labels, of = crop_features(
        [f for split in fields.values() for f in split],
        untrained() if smoke else imagenet(),
        args.cache,
        turns=2 if smoke else 8,
    )
    split_of = np.repeat(list(fields), [len(f) for f in fields.values()])[of]
    train, judged = split_of == "train", split_of == judge_on
    mean, sd = features[train].mean((0, 1)), features[train].std((0, 1)) + 1e-6
    x = torch.from_numpy((features - mean) / sd)
    label = torch.from_numpy(labels.astype(np.int64))

    def run(rule: str, seed: int) -> dict[str, float]:
        model = trained(rule, x[train], label[train], seed, scale)
        with torch.inference_mode():
            turns = [torch.softmax(model(x[judged][:, t]), 1) for t in range(x.shape[1])]
        return figures(torch.stack(turns).mean(0).numpy(), labels[judged])

    table = Table(args.results / f"rare-classes-{args.scale}.csv", ("rule", "seed"), (scale, judge_on), args.seeds)
    table.fill(((rule, seed) for seed in range(scale.seeds) for rule in (*PLAIN, *PROCO)), run)
    cells = ", ".join(f"{n} {int((labels[judged] == c).sum())}" for c, n in enumerate(BETHESDA.names))
    notes = f"Small heads on frozen features; {judge_on} fields: {cells}. Mean ± standard deviation over seeds."
    table.markdown("Naming cells of rare classes", notes, smoke)
    dots(table, ("macro_f1", "mean_recall", "calibration_error"))
    return table


if __name__ == "__main__":
    main()
