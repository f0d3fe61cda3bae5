"""Which negatives are worth training on: the search over mining regimes against all negatives and random ones.

    python training/hard_negatives.py --data DIR --scale smoke|cpu|gpu

Patches are the frozen ImageNet features of a place. The pool is a grid and the false detections of detectors that have
not seen the field; it is scored out of fold, and every regime trains a classifier on the cells and what it keeps. The
best regime is chosen by F1 on val fields, each at its own best threshold, which it keeps on the test fields. Writes
``training/results/hard-negatives-SCALE.csv``, ``.md`` and ``.png``; and of the first chosen regime the surest false
detections on the test fields, as a strip ``-left.png``, and where they are, ``-left.csv``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from confusions import SIDE, close_up
from experiments.features import MPP, Sheet, sheets_by_split
from experiments.finding import Stacked, decoded, detect, head, judged, locations, logits_of, points_of
from experiments.fitting import Batch, Draws, train
from experiments.table import Table, arguments, dots, fields_by_split
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from napari_cervcell.cells import centres_of
from napari_cervcell.learning import mining
from napari_cervcell.learning.descent import descend
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.mining import GRID, Candidates, Mined, Regime, gather, mine, search
from napari_cervcell.learning.outoffold import Scorer, out_of_fold
from napari_cervcell.learning.patchclassifier import balanced_batch
from napari_cervcell.learning.voting import hits, pooled_f1
from napari_cervcell.models import STRIDE

_REACH_UM = 6.0
_LEFT, _IN_A_ROW = 24, 8  # false detections in the strip


@dataclass(frozen=True)
class Scale:
    steps: int
    regimes: tuple[Regime, ...] = GRID
    batch: int = 256
    noise: float = 0.25
    seeds: int = 3


SCALES = {
    "smoke": Scale(steps=3, batch=32, regimes=GRID[:1] + GRID[-1:], seeds=1),
    "cpu": Scale(steps=200, regimes=tuple(r for r in GRID if r.upper != 0.999)),
    "gpu": Scale(steps=2000, seeds=5),
}
HOW = ("searched", "all", "as many at random", "hardest 19.6 %", "19.6 % at random")


def rows_at(sheets: Sequence[Sheet], field: NDArray[np.int64], centres: NDArray[np.float32]) -> Tensor:
    """Return the features float32 (n, d) at `centres` (n, 2), px of the image of the sheets `field` (n,)."""
    rows = []
    for i, (x, y) in zip(field.tolist(), centres, strict=True):
        sheet = sheets[i]
        step = STRIDE * MPP / sheet.field.mpp
        h, w = sheet.rows.shape[:2]
        rows.append(sheet.rows[min(int(y / step), h - 1), min(int(x / step), w - 1)])
    return torch.from_numpy(np.stack(rows)).float()


def fitted(x: Tensor, positive: NDArray[np.bool_], seed: int, scale: Scale) -> nn.Module:
    """Train a classifier of rows (n, d) on batches that are half cells."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    module = head(1, x.shape[1], seed)
    certified = np.zeros(len(x), bool)
    truth = torch.from_numpy(positive).float()

    def loss_of_batch() -> Tensor:
        drawn = torch.from_numpy(balanced_batch(positive, certified, scale.batch, rng))
        noisy = x[drawn] + scale.noise * torch.randn(len(drawn), x.shape[1], generator=generator)
        return F.binary_cross_entropy_with_logits(module(noisy)[:, 0], truth[drawn])

    for _ in descend(module, loss_of_batch, steps=scale.steps, rate=2e-3):
        pass
    return module.eval()


def look_alikes(learnt: list[Sheet], seed: int, scale: Scale) -> list[NDArray[np.float32]]:
    """Return for every sheet what a detector that learnt from the other half of the sheets finds, centres (k, 2)."""
    found: list[NDArray[np.float32]] = [np.zeros((0, 2), np.float32)] * len(learnt)
    for k in (0, 1):
        others = [s for i, s in enumerate(learnt) if i % 2 != k]
        at = locations(others, [np.ones(len(s.labels), bool) for s in others], checked=[True] * len(others))

        def loss(batch: Batch, logits: Tensor, teacher: nn.Module, progress: float) -> Tensor:
            return F.binary_cross_entropy_with_logits(logits[:, 0], (batch.label >= 0).float(), reduction="none")

        rows = Stacked(others)
        draws = Draws(rows, at, seed, 4 * scale.batch, scale.noise)
        model = train(head(1, rows.width, seed), draws, loss, steps=scale.steps)
        for i in range(k, len(learnt), 2):
            found[i] = centres_of(detect(model, learnt[i], 0.1).boxes)
    return found


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv)
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    fields = fields_by_split(args.data, smoke)
    sheet = sheets_by_split(fields, smoke, args.cache)
    learnt, val, test = (sheet[split] for split in ("train", "val", judge_on))

    pool = gather([s.field for s in learnt], look_alikes(learnt, 0, scale))
    cells = Candidates(
        np.repeat(np.arange(len(learnt)), [len(s.labels) for s in learnt]),
        np.concatenate([points_of(s) for s in learnt]),
        np.zeros(sum(len(s.labels) for s in learnt), np.int64),
    )
    x = torch.cat([rows_at(learnt, c.field, c.centres) for c in (cells, pool)])
    positive = np.arange(len(x)) < len(cells)
    group = np.concatenate([cells.field, pool.field])

    def of_seed(seed: int) -> tuple[NDArray[np.float32], Callable[[Mined], nn.Module]]:
        def scorer(index: NDArray[np.int64]) -> Scorer:
            model = fitted(x[index], positive[index], seed, scale)
            return lambda asked: torch.sigmoid(model(x[asked])[:, 0]).detach().numpy()

        scores, _ = out_of_fold(group, positive, scorer, rng=np.random.default_rng(seed))

        def learn(mined: Mined) -> nn.Module:
            index = np.concatenate([np.flatnonzero(positive), len(cells) + mined.index])
            return fitted(x[index], positive[index], seed, scale)

        return scores[len(cells) :], learn

    def run(how: str, seed: int) -> dict[str, float]:
        scores, learn = of_seed(seed)
        rng = np.random.default_rng(seed)

        def judge(mined: Mined) -> float:
            return judged(learn(mined), val)["best_f1"]

        cut = -np.inf  # every field of train is labelled: what is unlabelled is the strip where nobody labelled
        regime = {"hardest 19.6 %": Regime(0.804), "19.6 % at random": Regime(1.0, 1.0, 0.196), "all": Regime()}.get(
            how
        )
        if regime is None:
            regime, _ = search(pool, scores, judge, cut=cut, seed=seed, regimes=scale.regimes)
        if how == "as many at random":
            regime = Regime(1.0, 1.0, mine(pool, scores, regime, rng, cut=cut).share)
        mined = mine(pool, scores, regime, rng, cut=cut)
        model = learn(mined)
        threshold = judged(model, val)["at_score"]
        counts = []
        for s in test:
            found = decoded(logits_of(model, s)[0], s, threshold)
            counts.append(hits(found.centres, found.scores, points_of(s), _REACH_UM / s.field.mpp))
        return {
            "share_kept": mined.share,
            "f1": pooled_f1(counts),
            "false_a_field": float(np.mean([c[1] for c in counts])),
            "missed_a_field": float(np.mean([c[2] for c in counts])),
            "ap": judged(model, test)["ap"],
            "lower": regime.lower,
            "upper": regime.upper,
            "random": regime.random,
        }

    table = Table(
        args.results / f"hard-negatives-{args.scale}.csv", ("negatives", "seed"), (scale, judge_on), args.seeds
    )
    table.fill(((how, seed) for seed in range(scale.seeds) for how in HOW), run)
    notes = (
        f"Classifiers of frozen ImageNet features; pool of {len(pool)} negatives in {len(learnt)} train fields; "
        f"{judge_on} fields, hit within {_REACH_UM:g} µm, threshold from val. Mean ± standard deviation over seeds."
    )
    table.markdown("Hard negatives", notes, smoke)
    dots(table, ("f1", "ap", "share_kept"))

    first = next(r for r in table.rows if r["negatives"] == HOW[0])
    scores, learn = of_seed(int(first["seed"]))
    regime = Regime(*(float(first[k]) for k in ("lower", "upper", "random")))
    model = learn(mine(pool, scores, regime, np.random.default_rng(int(first["seed"])), cut=-np.inf))
    left = false_detections(model, judged(model, val)["at_score"], test)[:_LEFT]
    show(left, fields[judge_on], table.path.with_name(f"{table.path.stem}-left.png"))
    return table


def false_detections(
    model: nn.Module, threshold: float, sheets: Sequence[Sheet]
) -> list[tuple[float, int, tuple[float, float]]]:
    """Return what a model finds far from all labelled cells, the surest first: score, sheet, and place in its image."""
    false = []
    for i, sheet in enumerate(sheets):
        found = decoded(logits_of(model, sheet)[0], sheet, threshold)
        clear = mining.look_alikes(found.centres, points_of(sheet), sheet.field.checked, sheet.field.mpp)
        for score, (x, y) in zip(found.scores[clear].tolist(), found.centres[clear].tolist(), strict=True):
            false.append((score, i, (x, y)))
    return sorted(false, key=lambda f: -f[0])


def show(left: Sequence[tuple[float, int, tuple[float, float]]], fields: Sequence[Field], path: Path) -> None:
    """Draw false detections, with their scores and how the names of their fields begin, and list them in a CSV."""
    step = SIDE + 14
    strip = Image.new("RGB", ((SIDE + 2) * _IN_A_ROW - 2, step * max(1, -(-len(left) // _IN_A_ROW))), "white")
    draw = ImageDraw.Draw(strip)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["field", "x", "y", "score"])
        for k, (score, i, (x, y)) in enumerate(left):
            corner = k % _IN_A_ROW * (SIDE + 2), k // _IN_A_ROW * step
            strip.paste(close_up(fields[i], x, y), corner)
            draw.text((corner[0] + 2, corner[1] + SIDE + 1), f"{score:.3f}  {fields[i].name[:6]}", "black")
            writer.writerow([fields[i].name, round(x), round(y), f"{score:.4f}"])
    strip.save(path)


if __name__ == "__main__":
    main()
