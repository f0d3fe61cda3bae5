"""Train the U-Net that outlines the nucleus of a cell, from points alone.

    python training/train_outliner.py --data DIR [--out FILE] [--picture FILE]

DIR is laid out as for ``training/train.py``. Nobody has drawn these nuclei: the masks are made from the annotated
points. Around each point the image is cut at every level of darkness, and of what hangs together with the point the
level with the steepest and roundest edge is taken; where no edge is clear the cell teaches nothing. Within a mask is
nucleus, what is brighter than its level is none, and what else is dark around it is unknown: it takes the exclusive
branch, for most of it are other nuclei.

It learns from the train fields; the logit from which a pixel is nucleus is settled on the val fields. The figures on
the card are of the test fields: how well it agrees with masks made in the same way, in how many of the others it finds
a nucleus, and how large nuclei are by class.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from torch import Tensor
from train import fields_of

from napari_cervcell.cells import centres_of
from napari_cervcell.learning.crops import resample, stained
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.losses import exclusive_cross_entropy
from napari_cervcell.models import Stored, build_unet, save_model, to_input
from napari_cervcell.nuclei import SHIPPED_OUTLINER, Nuclei, outlines
from napari_cervcell.taxonomy import BETHESDA

CONFIG = {"head": "unet", "width": 16, "depth": 3}
MPP = 0.25
SIDE = 128  # px of what is looked at around a point, 32 µm
CROP = 112  # px of what is learnt from
AREAS = (12.0, 350.0)  # µm²: what a nucleus can be
CLEAR, ROUND = 4.0, 0.8  # grey levels a px, and 1 for a disc: from which an edge is believed
STEPS, BATCH, RATE = 1200, 12, 3e-3
TAU, SAMPLING = 0.3, 0.5  # of the exclusive branch
CUTS = np.arange(0, 4.1, 0.5)  # logits that are tried

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """A cell with a mask: uint8 (SIDE, SIDE, 3); bool (SIDE, SIDE) what is nucleus, and what is known."""

    rgb: NDArray[np.uint8]
    nucleus: Mask
    known: Mask


def around(field: Field, box: NDArray[np.float32]) -> NDArray[np.uint8]:
    x, y = centres_of(box[None])[0].tolist()
    whole = SIDE * MPP / field.mpp
    return resample(field.rgb, x - whole / 2, y - whole / 2, whole, SIDE)


def seeded(rgb: NDArray[np.uint8]) -> tuple[Mask, Mask] | None:
    """Return the nucleus in the middle of `rgb` and what is known, or None where no edge is clear."""
    x = rgb.astype(np.float32)
    # haematoxylin takes red away most, and the colours of cytoplasm differ most in blue
    dark = 255 - ndi.gaussian_filter(0.6 * x[..., 0] + 0.3 * x[..., 1] + 0.1 * x[..., 2], 1.2)
    steepness = np.hypot(*np.gradient(ndi.gaussian_filter(dark, 0.8)))
    near = dark[SIDE // 2 - 6 : SIDE // 2 + 6, SIDE // 2 - 6 : SIDE // 2 + 6]
    seed = tuple(int(i) + SIDE // 2 - 6 for i in np.unravel_index(near.argmax(), near.shape))
    best: tuple[float, Mask, float] | None = None
    for level in np.arange(dark.min() + 4, np.percentile(near, 80) - 3, 2.0):
        mask = _part(ndi.binary_opening(ndi.binary_fill_holes(_part(dark > level, seed)), iterations=2), seed)
        area = mask.sum() * MPP**2
        if not AREAS[0] <= area <= AREAS[1] or mask[[0, -1]].any() or mask[:, [0, -1]].any():
            continue
        edge = mask & ~ndi.binary_erosion(mask)
        roundness = min(1.0, 4 * np.pi * mask.sum() / (1.12 * edge.sum()) ** 2)
        clear = float(np.percentile(steepness[edge], 30))
        if clear >= CLEAR and roundness >= ROUND and (best is None or clear * roundness > best[0]):
            best = clear * roundness, mask, float(level)
    if best is None:
        return None
    known = best[1] | (dark <= best[2])
    return best[1], known


def _part(mask: Mask, seed: tuple[int, ...]) -> Mask:
    labels, _ = ndi.label(mask)
    return (labels == labels[seed]) & mask[seed]


def examples(fields: list[Field]) -> tuple[list[Example], NDArray[np.int64], int]:
    """Return the cells of `fields` whose masks are clear, their classes, and how many cells there are in all."""
    found, labels, n = [], [], 0
    for field in fields:
        for box, label in zip(field.boxes, field.labels, strict=True):
            rgb = around(field, box)
            n += 1
            if (made := seeded(rgb)) is not None:
                found.append(Example(rgb, *made))
                labels.append(label)
    return found, np.array(labels), n


def batches(data: list[Example], labels: NDArray[np.int64], rng: np.random.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Draw (input, nucleus, known) for ever; the class of a cell by the square root of its count."""
    weight = 1 / np.sqrt(np.bincount(labels)[labels])
    while True:
        drawn = [_turned(data[i], rng) for i in rng.choice(len(data), BATCH, p=weight / weight.sum())]
        rgb, nucleus, known = (np.stack(part) for part in zip(*drawn, strict=True))
        yield to_input(rgb), torch.from_numpy(nucleus).float(), torch.from_numpy(known)


def _turned(example: Example, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    """Cut, scale, turn and mirror; vary stain and light."""
    side = min(SIDE, round(CROP * float(np.exp(rng.uniform(-0.3, 0.13)))))
    x, y = rng.integers(0, SIDE - side + 1, 2)
    turns, mirror = int(rng.integers(4)), int(rng.choice([-1, 1]))

    def cut(pixels: NDArray[Any], how: Image.Resampling) -> NDArray[Any]:
        part = Image.fromarray(pixels[y : y + side, x : x + side]).resize((CROP, CROP), how)
        return np.ascontiguousarray(np.rot90(np.asarray(part), turns)[:, ::mirror])

    rgb = stained(cut(example.rgb, Image.Resampling.BILINEAR), rng)
    return rgb, *(cut(mask, Image.Resampling.NEAREST) for mask in (example.nucleus, example.known))


def train(data: list[Example], labels: NDArray[np.int64], seed: int) -> Stored:
    torch.manual_seed(seed)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    network = build_unet(CONFIG).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS, pct_start=0.1)
    for step, (x, nucleus, known) in zip(range(STEPS), batches(data, labels, rng), strict=False):
        loss = exclusive_cross_entropy(network(x), nucleus, known, tau=TAU, sampling=SAMPLING, generator=generator)
        # as much for the nucleus, which is the smaller part of the picture, as for what is none
        inside, outside = loss[nucleus > 0], loss[nucleus == 0]
        total = inside.mean() + outside.mean()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{STEPS}  loss {float(total):.3f}", flush=True)
    card = {
        "name": "cervcell-nuclei",
        "architecture": CONFIG,
        "mpp": MPP,
        "data": {"source": "CRIC Cervix, as of the detector; masks made from points", "cells": len(data)},
        "training": {"recipe": "training/train_outliner.py", "steps": STEPS, "batch": BATCH, "seed": seed},
        "licence": "MIT (weights); training images CC BY 4.0",
    }
    return Stored(network.eval(), card)


@torch.inference_mode()
def nucleus_of(model: Stored, rgb: NDArray[np.uint8]) -> Nuclei:
    middle = np.array([[SIDE / 2 - 30, SIDE / 2 - 30, SIDE / 2 + 30, SIDE / 2 + 30]], np.float32)
    return outlines(model.network(to_input(rgb[None]))[0].numpy(), middle, reach=2.0)


def filled(polygon: NDArray[np.float32]) -> Mask:
    from skimage.draw import polygon2mask

    return polygon2mask((SIDE, SIDE), polygon[:, ::-1] - 0.5) if len(polygon) else np.zeros((SIDE, SIDE), bool)


def overlap(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@torch.no_grad()
def settle(model: Stored, fields: list[Field]) -> float:
    """Move the logits so that what is above 0 agrees best with the masks of `fields`; return by how much.

    In training a nucleus weighs as much as all around it, which makes it too large.
    """
    data, _, _ = examples(fields)
    bias = model.network.nucleus.bias
    start, mean = bias.clone(), []
    for cut in CUTS:
        bias.copy_(start - cut)
        mean.append(np.mean([overlap(filled(nucleus_of(model, e.rgb).polygons[0]), e.nucleus) for e in data]))
    bias.copy_(start - CUTS[int(np.argmax(mean))])
    return float(CUTS[int(np.argmax(mean))])


def figures(model: Stored, fields: list[Field]) -> dict[str, Any]:
    """Return what the card tells of `fields`: see the top of this file."""
    overlaps, found_else, unclear = [], 0, 0
    areas: dict[str, list[float]] = {name: [] for name in BETHESDA.names}
    for field in fields:
        for box, label in zip(field.boxes, field.labels, strict=True):
            rgb = around(field, box)
            nucleus = nucleus_of(model, rgb)
            area = float(nucleus.areas[0]) * MPP**2
            made = seeded(rgb)
            if made is None:
                unclear += 1
                found_else += AREAS[0] <= area <= AREAS[1]
            else:
                overlaps.append(overlap(filled(nucleus.polygons[0]), made[0]))
            if area:
                areas[BETHESDA.names[label]].append(area)
    return {
        "clear": len(overlaps),
        "iou_mean": round(float(np.mean(overlaps)), 3),
        "iou_median": round(float(np.median(overlaps)), 3),
        "iou_above_0.7": round(float(np.mean(np.array(overlaps) > 0.7)), 3),
        "unclear": unclear,
        "found_of_unclear": round(found_else / max(1, unclear), 3),
        "area_um2_median": {name: round(float(np.median(a)), 1) for name, a in areas.items() if a},
    }


def picture(model: Stored, fields: list[Field], path: Path, columns: int = 12) -> None:
    """Draw cells of every class with their outlines."""
    rng = np.random.default_rng(0)
    sheet = Image.new("RGB", (columns * SIDE, len(BETHESDA) * SIDE))
    for label in range(len(BETHESDA)):
        cells = [(field, box) for field in fields for box in field.boxes[field.labels == label]]
        for column, i in enumerate(rng.permutation(len(cells))[:columns]):
            rgb = around(*cells[i]).copy()
            mask = filled(nucleus_of(model, rgb).polygons[0])
            rgb[ndi.binary_dilation(mask) & ~mask] = (0, 255, 0)
            sheet.paste(Image.fromarray(rgb), (column * SIDE, label * SIDE))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=SHIPPED_OUTLINER)
    parser.add_argument("--picture", type=Path, help="draw outlines of cells of the val fields there")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    data, labels, n = examples(fields_of(args.data, "train"))
    print(f"{len(data)} of {n} cells have a clear mask", flush=True)
    model = train(data, labels, args.seed)
    val = fields_of(args.data, "val")
    print(f"cut at a logit of {settle(model, val)}", flush=True)
    model.card["metrics"] = {"on": "test fields of training/splits.csv", **figures(model, fields_of(args.data, "test"))}
    save_model(model, args.out)
    if args.picture:
        picture(model, val, args.picture)
    print(f"saved {args.out}")
    print(json.dumps(model.card["metrics"], indent=2))


if __name__ == "__main__":
    main()
