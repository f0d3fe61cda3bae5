"""Train the detector that ships with the package.

    python training/train.py --data DIR [--out napari_cervcell/models/cervcell-lite0.safetensors]
    python training/train.py --data DIR --head atss --backbone resnet-18 [--weights resnet18.pth] --out FILE
    python training/train.py --data DIR --start MODEL --teachers MODEL MODEL --out FILE

DIR is laid out like the CRIC fields: ``images/``, ``images.csv``, ``points.csv``. Fields are split by
``training/splits.csv``. With ``--final`` it learns from train and val (the recipe being settled on val), otherwise
from train alone. The test fields are only touched at the end, for the figures on the card, by what ``cervcell
evaluate`` runs. Any head and backbone learns by the same recipe; EfficientNet-Lite starts from ImageNet, a ResNet from
the torchvision weights that `--weights` names, all others from nothing.

It learns in two stages. The second goes on from what the first gave, more gently, with that as its teacher too: what it
thinks of every field is learnt beside the labels, which miss cells. ``--start MODEL`` begins with the second, and
``--teachers`` has it learn from the mean of what several models think.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_cervcell.learning.assignment import Assignment
from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.evaluation import evaluate, opinion_of
from napari_cervcell.learning.fields import BOX_UM, Field, read_fields, split_names
from napari_cervcell.learning.fitting import FitSettings, Step, fit
from napari_cervcell.learning.fresh import load_imagenet
from napari_cervcell.learning.objective import Objective
from napari_cervcell.learning.opinion import Opinion
from napari_cervcell.models import (
    BACKBONES,
    DEFAULT_CONFIG,
    HEADS,
    Model,
    Network,
    build,
    config_of,
    load_model,
    save_model,
)
from napari_cervcell.models.backbones import EfficientNetLite
from napari_cervcell.models.resnets import ResNet
from napari_cervcell.taxonomy import BETHESDA

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "napari_cervcell" / "models" / "cervcell-lite0.safetensors"
GENTLY = 0.4  # share of the first stage's rates that the second learns at
MARGIN = 1.5  # of the second stage, for rare classes


def initialised(config: dict[str, Any], weights: Path | None = None) -> tuple[Network, str]:
    """Build the network of `config`, its backbone pretrained where it can be; return it, and what it starts from."""
    network = build(config)
    if config.get("rotations", 1) > 1:
        return network, "none"
    if isinstance(network.backbone, ResNet) and weights is not None:
        network.backbone.load(torch.load(weights, map_location="cpu", weights_only=True))
        return network, weights.name
    if isinstance(network.backbone, EfficientNetLite):
        load_imagenet(network.backbone)
        return network, f"EfficientNet-Lite{network.backbone.size}, ImageNet, Apache-2.0"
    return network, "none"


def objective_of(fields: list[Field], seed: int, device: str = "cpu") -> Objective:
    """Return the objective of the recipe, its guess of the classes' shares taken from `fields`."""
    count = np.bincount(np.concatenate([f.labels for f in fields]), minlength=len(BETHESDA)) + 1.0
    shares = torch.tensor(50 * count / count.sum(), dtype=torch.float32, device=device)
    return Objective(shares, torch.Generator(device).manual_seed(seed))


def settings_of(steps: int, batch: int, start: str) -> FitSettings:
    """Return the settings of the recipe; a backbone that starts from nothing learns whole, and as fast as the rest."""
    if start == "none":
        return FitSettings(steps=steps, batch=batch, weight_decay=0.05, backbone_rate=1e-3, frozen=0)
    return FitSettings(steps=steps, batch=batch, weight_decay=0.05, frozen=2)


def fields_of(data: Path, *splits: str) -> list[Field]:
    return read_fields(data, BETHESDA, [n for s in splits for n in split_names(HERE / "splits.csv", s)])


def card_of(
    name: str,
    config: dict[str, Any],
    settings: FitSettings,
    fields: list[Field],
    mpp: float,
    splits: list[str],
    start: str,
) -> dict[str, Any]:
    labels = np.concatenate([f.labels for f in fields])
    return {
        "name": name,
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
            "backbone_weights": start,
        },
        "licence": "MIT (weights); training images CC BY 4.0",
        "intended_use": "Research and annotation. Not a medical device; every finding needs a cytologist.",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="by default, and only for the default head and backbone, what ships")
    parser.add_argument("--head", choices=HEADS, default=DEFAULT_CONFIG["head"])
    parser.add_argument("--backbone", choices=BACKBONES, default=DEFAULT_CONFIG["backbone"])
    parser.add_argument("--rotations", type=int, choices=(1, 4, 8), default=1)
    parser.add_argument("--width", type=int, default=DEFAULT_CONFIG["width"], help="maps of the neck and the head")
    parser.add_argument("--weights", type=Path, help="torchvision weights of a ResNet")
    parser.add_argument("--start", type=Path, help="a model that has been through the first stage")
    parser.add_argument("--teachers", type=Path, nargs="+", help="of the second stage (default: the first stage's own)")
    parser.add_argument("--cross-entropy", action="store_true", help="find cells by this in place of Grad-Libra")
    parser.add_argument("--final", action="store_true", help="learn from train and val")
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--second-steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=320)
    parser.add_argument("--mpp", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.out is None:
        ships = config_of(DEFAULT_CONFIG["head"], DEFAULT_CONFIG["backbone"])
        if args.rotations != 1 or config_of(args.head, args.backbone, width=args.width) != ships:
            parser.error("say where to save this model: --out FILE")
        args.out = SHIPPED

    splits = ["train", "val"] if args.final else ["train"]
    fields = fields_of(args.data, *splits)
    changes = {"width": args.width, "n_classes": len(BETHESDA), "box_size": BOX_UM / args.mpp}
    if args.rotations != 1:
        changes["rotations"] = args.rotations
    config = config_of(args.head, args.backbone, **changes)
    crops = Crops(args.crop, args.mpp, rim=32, assignment=Assignment.of(config))
    network, start_weights = initialised(config, args.weights)
    settings = settings_of(args.steps, args.batch, start_weights)
    card = card_of(args.out.stem, config, settings, fields, args.mpp, splits, start_weights)
    val = [] if args.final else fields_of(args.data, "val")
    part = args.out.with_suffix(".part.safetensors")

    start = time.monotonic()
    tell = partial(told, card=card, val=val, part=part)
    taught = partial(stage, fields=fields, crops=crops, grad_libra=not args.cross_entropy, tell=tell)
    if args.start is None:
        averaged = taught(network, settings=settings, seed=args.seed)
    else:
        begun = load_model(args.start)
        averaged = begun.network
        del card["training"]["steps"]  # there was no first stage
        card["training"] |= {"start": begun.id, "start_training": begun.card["training"]}
    teachers = [load_model(path) for path in args.teachers or ()] or [Model(averaged, card)]
    for field in fields:
        field.opinion = mean_opinion(teachers, field)
    settings = replace(
        settings,
        steps=args.second_steps,
        rate=GENTLY * settings.rate,
        backbone_rate=GENTLY * settings.backbone_rate,
    )
    averaged = taught(copy.deepcopy(averaged), settings=settings, seed=args.seed + 1, margin=MARGIN)
    card["training"] |= {
        "second_steps": args.second_steps,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "progress": 1.0,
        "margin": MARGIN,
        "teachers": [teacher.name for teacher in teachers],
    }
    finish(Model(averaged, card), args.data, args.out)
    part.unlink(missing_ok=True)


def finish(model: Model, data: Path, out: Path) -> None:
    """Measure a model on the test fields in `data`, note the figures on its card, save it to `out`, and tell."""
    found = evaluate(model, fields_of(data, "test"))
    model.card["metrics"] = {"on": "test fields of training/splits.csv", **found}
    save_model(model, out)
    print(f"saved {out}")
    print(json.dumps(model.card["metrics"], indent=2))


def mean_opinion(teachers: list[Model], field: Field) -> Opinion:
    """Return what models of one mpp think of a field on average."""
    opinions = [opinion_of(teacher, field) for teacher in teachers]
    return replace(opinions[0], logits=np.mean([opinion.logits for opinion in opinions], axis=0))


def stage(
    network: Network,
    fields: list[Field],
    crops: Crops,
    settings: FitSettings,
    seed: int,
    tell: Callable[[Step, Network, FitSettings], None],
    margin: float = 1.0,
    grad_libra: bool = True,
) -> Network:
    """Train `network` and return the average of its weights."""
    torch.manual_seed(seed)
    sampler = CropSampler(fields, crops, np.random.default_rng(seed))
    network = network.train().requires_grad_(True).to(memory_format=torch.channels_last)
    objective = objective_of(fields, seed)
    objective.margin, objective.grad_libra = margin, grad_libra
    return fit(network, sampler, objective, settings, lambda step, mean: tell(step, mean, settings))


def how_far(step: Step, steps: int) -> None:
    if (step.step + 1) % 50 == 0:
        losses = " ".join(f"{float(v):.3f}" for v in step.losses)
        left = step.seconds / (step.step + 1) * (steps - step.step - 1)
        print(
            f"step {step.step + 1}/{steps}  loss {losses}  {step.seconds:.0f} s, {left / 60:.0f} min left", flush=True
        )


def told(
    step: Step, averaged: Network, settings: FitSettings, *, card: dict[str, Any], val: list[Field], part: Path
) -> None:
    """Say how far a stage is; now and then keep what there is, and measure it on `val`."""
    how_far(step, settings.steps)
    if step.balance is not None:
        balance = dict(zip(BETHESDA.names, (round(r, 3) for r in step.balance), strict=True))
        print("gradient balance", json.dumps(balance), flush=True)
    if (step.step + 1) % 400 == 0:
        save_model(Model(averaged, card), part)
        if val:
            figures = evaluate(Model(averaged, card), val)
            shown = {k: round(figures[k], 3) for k in ("ap", "f1", "threshold", "balanced_accuracy")}
            print("val", json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
