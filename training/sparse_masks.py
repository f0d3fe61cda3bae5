"""Outlining nuclei when only some are outlined: exclusive cross-entropy against its rivals, pixel by pixel.

    python training/sparse_masks.py --data DIR --scale smoke|cpu|gpu

DIR holds ``images/`` and ``masks/`` with PNG of the same names, in which every nucleus has a number and all else is 0:
the brightfield images of DSB2018. Of the train images a share of the nuclei is labelled. Their pixels are known to be
nucleus, and as many discs, as large as the median nucleus and drawn at random where no nucleus reaches, are known to be
background. All else is unknown. Every rule trains the same U-Net, from the same pixels; scored on the test images, of
which every pixel is known. Writes ``training/results/sparse-masks-SCALE.csv``, ``.md`` and ``.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from experiments.finding import calibration_error
from experiments.fitting import Batch, train
from experiments.table import Table, arguments, curves, parted
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from sparse_labels import FULL, RULES, loss_of
from torch import nn

from napari_cervcell.learning.crops import stained
from napari_cervcell.models import to_input
from napari_cervcell.models.unet import UNet

TITLES = {
    "ap": "AP of pixels",
    "dice_at_half": "Dice at 0.5",
    "best_dice": "best Dice",
    "calibration_error": "calibration error",
}


@dataclass(frozen=True)
class Scale:
    steps: int
    shrink: int = 2
    """How much smaller the images are looked at than they are stored."""
    batch: int = 4
    crop: int = 48
    around: float = 0.5
    """Share of the crops that lie around something known; the others lie anywhere."""
    width: int = 8
    shares: tuple[str, ...] = ("0.05", "0.1", "0.2", "0.4")
    seeds: int = 3


SCALES = {
    "smoke": Scale(steps=3, batch=2, crop=24, width=4, shares=("0.4",), seeds=1),
    "cpu": Scale(steps=150),
    "gpu": Scale(steps=3000, shrink=1, batch=16, crop=192, width=16, seeds=5),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """uint8 (h, w, 3), and the number of the nucleus at every pixel, int32 (h, w), 0 where there is none."""

    rgb: NDArray[np.uint8]
    nuclei: NDArray[np.int32]


def pictures_by_split(data: Path, smoke: bool, shrink: int = 1) -> dict[str, list[Picture]]:
    parts = parted((p.name for p in (data / "masks").glob("*.png")), smoke)
    return {split: [_read(data, n, shrink) for n in names] for split, names in parts.items()}


def _read(data: Path, name: str, shrink: int) -> Picture:
    with Image.open(data / "images" / name) as rgb, Image.open(data / "masks" / name) as nuclei:
        small = rgb.convert("RGB").reduce(shrink)
        return Picture(np.asarray(small), np.asarray(nuclei.resize(small.size, Image.Resampling.NEAREST), np.int32))


def known_pixels(pictures: Sequence[Picture], labels: str, seed: int) -> list[NDArray[np.bool_]]:
    """Return bool (h, w) for every picture: what is known where the share `labels` of the nuclei is labelled."""
    if labels == FULL:
        return [np.ones(p.nuclei.shape, bool) for p in pictures]
    rng = np.random.default_rng(seed)
    areas = np.concatenate([np.bincount(p.nuclei.ravel())[1:] for p in pictures])
    radius = np.sqrt(np.median(areas[areas > 0]) / np.pi)
    known = []
    for picture in pictures:
        numbers = np.unique(picture.nuclei)[1:]
        kept = numbers[rng.random(len(numbers)) < float(labels)]
        free = np.argwhere(ndi.distance_transform_edt(picture.nuclei == 0) > radius)
        middles = np.ones(picture.nuclei.shape, bool)
        middles[tuple(free[rng.permutation(len(free))[: len(kept)]].T)] = False
        discs = (ndi.distance_transform_edt(middles) <= radius) & ~middles.all()
        known.append(np.isin(picture.nuclei, kept) | discs)
    return known


class Crops:
    """Draws batches of crops, turned, mirrored and stained anew; every pixel weighs the same."""

    def __init__(
        self, pictures: Sequence[Picture], known: Sequence[NDArray[np.bool_]], seed: int, scale: Scale
    ) -> None:
        self.pictures, self.known, self.scale = pictures, known, scale
        self.rng = np.random.default_rng(seed)
        self.spots = [(i, *map(int, at)) for i, k in enumerate(known) for at in _middles(k)]

    def __call__(self) -> Batch:
        crops = [self._crop() for _ in range(self.scale.batch)]
        rgb, label, known = (np.stack(parts) for parts in zip(*crops, strict=True))
        said = torch.from_numpy(known)
        weight = torch.full(said.shape, 1 / said.numel())
        return Batch(to_input(rgb), torch.from_numpy(label), said, ~said, weight)

    def _crop(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
        side = self.scale.crop
        i = int(self.rng.integers(len(self.pictures)))
        height, width = self.known[i].shape
        middle = self.rng.uniform(0, (height, width))
        if self.spots and self.rng.random() < self.scale.around:
            i, *at = self.spots[self.rng.integers(len(self.spots))]
            middle = np.array(at) + self.rng.uniform(-side / 4, side / 4, 2)
        y, x = (int(np.clip(m - side / 2, 0, n - side)) for m, n in zip(middle, self.known[i].shape, strict=True))
        turns, mirror = int(self.rng.integers(4)), int(self.rng.choice([-1, 1]))

        def cut(pixels: NDArray) -> NDArray:
            return np.ascontiguousarray(np.rot90(pixels[y : y + side, x : x + side], turns)[:, ::mirror])

        picture = self.pictures[i]
        known = cut(self.known[i])
        return stained(cut(picture.rgb), self.rng), np.where(known & (cut(picture.nuclei) > 0), 0, -1), known


def _middles(known: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return the middle (y, x) of everything that is known; nothing where all is."""
    if known.all():
        return []
    parts, n = ndi.label(known)
    return ndi.center_of_mass(known, parts, range(1, n + 1))


def fit(pictures: Sequence[Picture], rule: str, labels: str, seed: int, scale: Scale) -> nn.Module:
    """Train a U-Net by `rule`, from the labels that are kept."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(scale.width).to(memory_format=torch.channels_last)
    crops = Crops(pictures, known_pixels(pictures, labels, seed), seed, scale)
    return train(network, crops, loss_of(RULES[rule], seed), steps=scale.steps, rate=3e-3)


def judged(network: nn.Module, pictures: Sequence[Picture]) -> dict[str, float]:
    """Return how well a network knows nuclei from all else, over the pixels of all `pictures` together.

    AP is the mean precision where each pixel of a nucleus is met, the surest first. The calibration error is the mean
    difference between score and share of nucleus among like pixels (ten bins, all pixels).
    """
    logits, nucleus = [], []
    for picture in pictures:
        height, width = picture.nuclei.shape
        padded = np.pad(picture.rgb, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
        with torch.inference_mode():
            logits.append(network(to_input(padded[None]))[0, :height, :width].numpy().ravel())
        nucleus.append(picture.nuclei.ravel() > 0)
    z, hit = np.concatenate(logits), np.concatenate(nucleus)
    order = np.argsort(-z, kind="stable")
    z, hit = z[order], hit[order]
    true, said = np.cumsum(hit), np.arange(1, len(hit) + 1)
    dice = 2 * true / (said + true[-1])
    half, best = int((z > 0).sum()), int(dice.argmax())
    scores = 1 / (1 + np.exp(-z.astype(np.float64)))
    return {
        "ap": float((true / said)[hit].mean()),
        "dice_at_half": float(dice[half - 1]) if half else 0.0,
        "best_dice": float(dice[best]),
        "at_score": float(scores[best]),
        "recall_at_half": float(true[half - 1] / true[-1]) if half else 0.0,
        "calibration_error": calibration_error(scores, hit, lowest=0.0),
    }


def main(argv: Sequence[str] | None = None, judge_on: str = "test") -> Table:
    args = arguments(__doc__, argv, data="folder with images/ and masks/")
    scale = SCALES[args.scale]
    smoke = args.scale == "smoke"
    pictures = pictures_by_split(args.data, smoke, scale.shrink)

    def run(rule: str, labels: str, seed: int) -> dict[str, float]:
        return judged(fit(pictures["train"], rule, labels, seed, scale), pictures[judge_on])

    cells = []
    for seed in range(scale.seeds):
        cells += [(rule, FULL, seed) for rule in ("CE", "focal with alpha")]
        cells += [(rule, labels, seed) for labels in scale.shares for rule in RULES]
    table = Table(
        args.results / f"sparse-masks-{args.scale}.csv", ("rule", "labels_kept", "seed"), (scale, judge_on), args.seeds
    )
    table.fill(cells, run)
    report(table, {split: len(of) for split, of in pictures.items()}, smoke, judge_on)
    return table


def report(table: Table, counts: dict[str, int], smoke: bool, judge_on: str) -> None:
    values = table.values()
    notes = (
        f"A small U-Net, from nothing, on {counts['train']} images; scored on the pixels of {counts[judge_on]} "
        f"{judge_on} images; mean ± standard deviation over seeds. Every rule has the same labels: the kept nuclei and "
        "as many discs of background. Labels 1: every pixel of the train images is known."
    )
    table.markdown("Outlining nuclei with sparse labels", notes, smoke)
    panels = {}
    for figure, title in TITLES.items():
        lines = {}
        for rule in RULES:
            x = [labels for r, labels in values if r == rule and labels != FULL]
            of = [values[rule, labels][figure] for labels in x]
            lines[rule] = x, [v.mean() for v in of], [v.std() for v in of]
        if ("CE", FULL) in values:
            full = values["CE", FULL][figure]
            lines["all labels, CE"] = x, [full.mean()] * len(x), [full.std()] * len(x)
        panels[title] = lines
    curves(table.path.with_suffix(".png"), panels, "share of nuclei labelled")


if __name__ == "__main__":
    main()
