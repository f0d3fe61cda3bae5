"""Finding cells when only some are labelled: exclusive cross-entropy and a recipe around it against its rivals.

    python training/sparse_labels.py --data DIR --scale smoke|cpu|gpu [--coco NAME]

Keeps a share of the cells of the train fields, or so many a field, and lets every rule learn from the same ones, and
from as many rejections: false detections of a first model, as a reviewer would reject them. All else is unknown. Heads
on frozen ImageNet features, scored on the test fields; how much noise to train with was settled on val. Writes
``training/results/sparse-labels-SCALE.csv``, ``.md`` and ``.png``; with ``--coco`` DIR is any folder with a COCO file,
whose cells count as of one kind, and the results are ``sparse-labels-NAME-SCALE``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from experiments.features import MPP, Sheet, sheets_by_split
from experiments.finding import Locations, Stacked, detect, head, judged, locations, points_of
from experiments.fitting import Batch, Draws, train
from experiments.table import Table, arguments, boxed_fields_by_split, curves, fields_by_split
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn

from napari_cervcell.cells import Cells, centres_of
from napari_cervcell.learning.evaluation import HIT_RADIUS, match_points
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.losses import named_loss

RULES = {
    "CE": "ce+negative",
    "focal with alpha": "focal+negative",
    "unknown ignored": "ce+ignored",
    "BRL": "focal+brl",
    "exclusive CE": "ce+exclusive",
}
RECIPE = "recipe"
ABLATED = (
    "recipe, no rejections",
    "recipe, nothing taken as a cell",
    "recipe, nothing excluded",
    "recipe, in-fold teacher",
    "exclusive CE, no rejections",
)
FULL = "1"


@dataclass(frozen=True)
class Scale:
    steps: int
    batch: int = 1024
    noise: float = 0.5
    full_noise: float = 0.0
    """With every label less is learnt by heart and noise costs F1: the yardstick must not be the worse for it."""
    shares: tuple[str, ...] = ("0.05", "0.1", "0.2", "0.4")
    numbers: tuple[str, ...] = ("1 a field", "3 a field", "10 a field")
    seeds: int = 3
    reviewed: int = 20
    taken: float = 0.4
    """Share of the kept cells that score so high out of fold: what does is taken for a cell."""
    excluded: float = 0.8
    """And from here on it may be one, and is excluded from the background."""


SCALES = {
    "smoke": Scale(steps=3, batch=64, shares=("0.4",), numbers=("1 a field",), seeds=1),
    "cpu": Scale(steps=300, batch=512),
    "gpu": Scale(steps=3000, batch=8192, seeds=5),
}

Kept = list[NDArray[np.bool_]]
Boxes = list[NDArray[np.float32]]
Detected = tuple[float, int, NDArray[np.float32]]  # its score, which field it is in, and its box (4,)


def kept_cells(sheets: Sequence[Sheet | Field], labels: str, seed: int) -> Kept:
    """Draw which cells are labelled: a share of them all ("0.1") or so many of every field ("3 a field")."""
    rng = np.random.default_rng(seed)
    kept = []
    for sheet in sheets:
        rank = rng.permutation(len(sheet.labels))
        number = labels.partition(" a field")
        kept.append(rank < int(number[0]) if number[1] else rng.random(len(rank)) < float(labels))
    return kept


def only_kept(fields: Sequence[Field], labels: str, seed: int) -> list[Field]:
    """Return `fields` with the cells that :func:`kept_cells` draws; all else in them is unknown."""
    return [
        replace(f, boxes=f.boxes[k], labels=f.labels[k], checked=np.zeros((0, 4), np.float32))
        for f, k in zip(fields, kept_cells(fields, labels, seed), strict=True)
    ]


def false_detections(looked: Sequence[tuple[Cells, NDArray[np.float32]]]) -> list[Detected]:
    """Return what was found far from every cell, the surest first; `looked` has the cells and the points (m, 2)."""
    false = []
    for i, (cells, points) in enumerate(looked):
        far = cKDTree(points).query(cells.centres)[0] > HIT_RADIUS if len(points) else np.ones(len(cells), bool)
        false += [(float(s), i, box) for s, box in zip(cells.scores[far], cells.boxes[far], strict=True)]
    return sorted(false, key=lambda f: -f[0])


def by_field(false: Sequence[Detected], n: int) -> Boxes:
    """Return the boxes float32 (k, 4) of false detections in each of `n` fields."""
    boxes: list[list[NDArray[np.float32]]] = [[] for _ in range(n)]
    for _, i, box in false:
        boxes[i].append(box)
    return [np.array(b, np.float32).reshape(-1, 4) for b in boxes]


def rejections(looked: Sequence[tuple[Cells, NDArray[np.float32]]], n: int, fields: int, seed: int) -> Boxes:
    """Return `n` false detections as a reviewer would reject them, in each of `fields` fields.

    `looked` is that of :func:`false_detections`, of the first of them. Drawn from the 3 `n` surest, which a reviewer
    meets first, of which some are reviewed.
    """
    surest = false_detections(looked)[: 3 * n]
    return by_field([surest[j] for j in np.random.default_rng(seed).permutation(len(surest))[:n]], fields)


class Bench:
    """The sheets, and what one setting of `scale` makes of them."""

    def __init__(self, train: list[Sheet], judged_on: list[Sheet], scale: Scale) -> None:
        self.train, self.judged_on, self.scale = train, judged_on, scale
        self.rows = Stacked(train)
        self.rejections = lru_cache(maxsize=None)(self._rejections)

    def fit(self, rule: str, at: Locations, seed: int, noise: float) -> nn.Module:
        """Train a head at the locations `at` and return what gives logits (n, 1) for rows (n, d)."""
        draws = Draws(self.rows, at, seed, self.scale.batch, noise)
        return train(head(1, self.rows.width, seed), draws, loss_of(rule, seed), steps=self.scale.steps)

    def _rejections(self, labels: str, seed: int) -> Boxes:
        """Return for every train sheet false detections of a first model, together as many as there are kept cells.

        The reviewer has looked at the first `reviewed` fields.
        """
        kept = kept_cells(self.train, labels, seed)
        first = self.fit("focal+negative", locations(self.train, kept), seed, self.scale.noise)
        looked = self.train[: self.scale.reviewed]
        n = sum(int(k.sum()) for k in kept)
        false = rejections([(detect(first, s, 0.01), points_of(s)) for s in looked], n, len(self.train), seed)
        return [b * np.float32(s.field.mpp / MPP) for b, s in zip(false, self.train, strict=True)]

    def run(self, rule: str, labels: str, seed: int) -> dict[str, float]:
        kept = kept_cells(self.train, labels, seed)
        if labels == FULL:
            at = locations(self.train, kept, checked=[True] * len(kept))
            return dict(judged(self.fit(RULES[rule], at, seed, self.scale.full_noise), self.judged_on))
        rejected = None if rule.endswith("no rejections") else self.rejections(labels, seed)
        if rule.startswith(RECIPE):
            model = self.recipe(kept, rejected, seed, rule)
        else:
            at = locations(self.train, kept, rejected)
            model = self.fit(RULES[rule.partition(",")[0]], at, seed, self.scale.noise)
        return dict(judged(model, self.judged_on))

    def recipe(self, kept: Kept, rejected: Boxes | None, seed: int, rule: str) -> nn.Module:
        """Exclusive cross-entropy whose exclusion follows an averaged teacher that has not seen the field.

        1. Two teachers learn by exclusive cross-entropy from the labels of half of the fields each, and look for cells
           in the other half. (In-fold: one learns from all.)
        2. Where the labelled cells score in fields that a teacher does not know says how the missed ones score: above
           the score that `taken` of them reach, a detection is taken for a cell; above that of `excluded`, it is
           excluded from the background.
        3. A new head learns: known elements and the taken cells by cross-entropy, the excluded not at all, and all
           other unknown ones as background.
        """
        folds = [np.arange(len(self.train)) % 2 == k for k in (0, 1)]
        if rule.endswith("in-fold teacher"):
            folds = [np.ones(len(self.train), bool)]
        found: list[Cells] = [Cells()] * len(self.train)
        for k, mine in enumerate(folds):
            learnt = mine if len(folds) == 1 else ~mine
            part = [k_ & learnt[i] for i, k_ in enumerate(kept)]
            spoken = None if rejected is None else [r if learnt[i] else r[:0] for i, r in enumerate(rejected)]
            at = locations(self.train, part, spoken)
            if len(folds) > 1:
                seen = np.repeat(learnt, [s.rows.shape[0] * s.rows.shape[1] for s in self.train])
                at = replace(at, unknown=at.unknown[seen[at.unknown]])
            teacher = self.fit("ce+exclusive", at, seed + 100 * (k + 1), self.scale.noise)
            for i in np.flatnonzero(mine):
                found[i] = detect(teacher, self.train[i], 0.01)
        sure, likely = self._cuts(found, kept)
        cells: list[NDArray[np.float32]] = []
        excluded: list[NDArray[np.float32]] = []
        for i, (cell, sheet) in enumerate(zip(found, self.train, strict=True)):
            told = [sheet.boxes[kept[i]], *([] if rejected is None else [rejected[i]])]
            told_at = centres_of(np.concatenate(told))
            boxes = _input_px(cell, sheet)
            news = np.ones(len(cell), bool)
            if len(told_at) and len(cell):
                news = cKDTree(told_at).query(centres_of(boxes))[0] > HIT_RADIUS * sheet.field.mpp / MPP
            taken = news & (cell.scores >= sure)
            if rule.endswith("nothing taken as a cell"):
                taken[:] = False
            left = news & ~taken & (cell.scores >= likely)
            if rule.endswith("nothing excluded"):
                left[:] = False
            cells.append(boxes[taken])
            excluded.append(boxes[left])
        at = locations(self.train, kept, rejected, taken=cells, skipped=excluded)
        return self.fit("ce+negative", at, seed, self.scale.noise)

    def _cuts(self, found: list[Cells], kept: Kept) -> tuple[float, float]:
        """Return the scores that `taken` and `excluded` of the kept cells reach; cells that were not found score 0."""
        scores = []
        for cells, sheet, k in zip(found, self.train, kept, strict=True):
            points = points_of(sheet)[k]
            of_point = np.zeros(len(points))
            matched = match_points(cells, points)
            of_point[matched[matched >= 0]] = cells.scores[matched >= 0]
            scores.append(of_point)
        reached = np.concatenate(scores)
        if not len(reached):
            return 1.1, 1.1
        return tuple(max(float(np.quantile(reached, 1 - q)), 0.01) for q in (self.scale.taken, self.scale.excluded))


def _input_px(cells: Cells, sheet: Sheet) -> NDArray[np.float32]:
    return cells.boxes * np.float32(sheet.field.mpp / MPP)


def loss_of(name: str, seed: int) -> Callable[[Batch, Tensor, nn.Module, float], Tensor]:
    """Return the loss called `name` of one logit for every element of a batch: rows (n, d), or maps."""
    rule = named_loss(name, 1, generator=torch.Generator().manual_seed(seed))

    def loss(batch: Batch, logits: Tensor, teacher: nn.Module, progress: float) -> Tensor:
        target = (batch.label >= 0).float()[:, None]
        return rule(logits.reshape_as(target), target, batch.known[:, None], batch.unknown[:, None], progress)[:, 0]

    return loss


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv, coco="read DIR as images/ with one COCO file, e.g. from make_coco.py, called so")
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    fields = boxed_fields_by_split(args.data, smoke) if args.coco else fields_by_split(args.data, smoke)
    sheet = sheets_by_split(fields, smoke, args.cache)
    bench = Bench(sheet["train"], sheet[judge_on], scale)

    cells: list[tuple[Any, ...]] = []
    for seed in range(scale.seeds):
        cells += [(rule, FULL, seed) for rule in ("CE", "focal with alpha")]
        cells += [(rule, labels, seed) for labels in scale.shares for rule in (*RULES, RECIPE)]
    for seed in range(scale.seeds):  # what shows which part of it does it comes after the main table
        cells += [(rule, scale.shares[min(1, len(scale.shares) - 1)], seed) for rule in ABLATED]
    for seed in range(scale.seeds):
        cells += [(rule, labels, seed) for labels in scale.numbers for rule in (*RULES, RECIPE)]
    name = "-".join(["sparse-labels", *([args.coco] if args.coco else []), args.scale])
    table = Table(args.results / f"{name}.csv", ("rule", "labels_kept", "seed"), (scale, judge_on), args.seeds)
    table.fill(cells, bench.run)
    report(table, "Finding cells with sparse labels" + (f": {args.coco}" if args.coco else ""), smoke, judge_on)
    return table


def report(table: Table, title: str, smoke: bool, judge_on: str) -> None:
    notes = (
        f"Heads on frozen ImageNet features, scored on the {judge_on} fields; mean ± standard deviation over seeds. "
        "Every rule has the same labels: the kept cells, and as many rejections. Labels 1: every cell of train fields, "
        "all else known to be none."
    )
    table.markdown(title, notes, smoke)
    against_share(table, (*RULES, RECIPE))


def against_share(table: Table, rules: Sequence[str]) -> None:
    """Draw what `rules` reach against the share of the cells that is labelled, beside 95 % of what all labels give."""
    values = table.values()
    panels = {}
    for figure in ("ap", "f1_at_half", "best_f1", "calibration_error"):
        lines = {}
        for rule in rules:
            x = sorted(
                {labels for r, labels in values if r == rule and " " not in labels and labels != FULL}, key=float
            )
            of = [values[rule, labels][figure] for labels in x]
            lines[rule] = x, [v.mean() for v in of], [v.std() for v in of]
        full = max((of[figure].mean() for (_, labels), of in values.items() if labels == FULL), default=0.0)
        if figure != "calibration_error":
            lines["95 % of full labels"] = x, [0.95 * full] * len(x), [0.0] * len(x)
        panels[figure.replace("_", " ")] = lines
    curves(table.path.with_suffix(".png"), panels, "share of cells labelled")


if __name__ == "__main__":
    main()
