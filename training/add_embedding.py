"""Give a detector an embedding, and change nothing else of it.

    python training/add_embedding.py --data DIR [--model FILE] [--out FILE]

DIR is laid out as for ``training/train.py``. All weights stay as they are, so that the detections do too; the one new
layer learns from features that are computed once, at the cells of the train and val fields and at what the detector
takes for cells there and is none. The test fields are only touched for the figures on the card.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from train import SHIPPED, fields_of

from napari_cervcell.cells import centres_of
from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.evaluation import match_points, predict_embedded
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.objective import likeness_loss
from napari_cervcell.models import DEFAULT_CONFIG, Model, Network, build, load_model, save_model
from napari_cervcell.models.backbones import Backbone

CROP, BATCH = 320, 4
FALSE = 0.1  # probability from which a place without a cell is worth telling from cells
STEPS, CELLS, RATE, DECAY = 800, 512, 1e-3, 0.05
SCALE = 5.0  # of cosines; the recipe's 10 leaves likeness no better than features that learnt nothing of it
NEAREST, SURE = 10, 0.3  # of how many neighbours the figures speak, and of how sure detections


def features_of(network: Network, sampler: CropSampler, crops: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return the features for naming (n, width) at cells and at false detections, and their classes, int64 (n,).

    False detections are of the class after the last one.
    """
    seen: list[Tensor] = []
    hook = network.head.name.register_forward_hook(lambda _module, _input, output: seen.append(output))
    features, labels = [], []
    for _ in range(crops // BATCH):
        images, target = sampler.batch(BATCH)
        with torch.inference_mode():
            cell = torch.sigmoid(network(images).cell)
        named = seen.pop()
        factor = cell.shape[-1] // named.shape[-1]
        near_cell = F.max_pool2d(target.cell[:, None], 9, 1, 4)[:, 0] > 0
        surest = F.max_pool2d(cell[:, None], 5, 1, 2)[:, 0] == cell
        is_false = (cell >= FALSE) & target.known & ~near_cell
        image, row, col = torch.nonzero(surest & ((target.label >= 0) | is_false), as_tuple=True)
        label = target.label[image, row, col]
        features.append(named[image, :, row // factor, col // factor])
        labels.append(torch.where(label < 0, classes, label))
    hook.remove()
    return torch.cat(features), torch.cat(labels)


def learn(features: Tensor, labels: Tensor, width: int, generator: torch.Generator) -> nn.Linear:
    """Return the layer that makes embeddings (n, width) of `features`, alike for cells of one class."""
    classes = int(labels.max()) + 1
    layer = nn.Linear(features.shape[1], width)
    optimiser = torch.optim.AdamW(layer.parameters(), RATE, weight_decay=DECAY)
    drawn = 1 / torch.bincount(labels).float().sqrt()[labels]  # rare classes more often, as in the crops
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        which = torch.multinomial(drawn, CELLS, replacement=True, generator=generator)
        loss = likeness_loss(layer(features[which]), labels[which], classes, SCALE)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return layer


def extended(model: Model, layer: nn.Linear) -> Model:
    """Return `model` with `layer` for its embedding."""
    card = copy.deepcopy(model.card)
    card["architecture"]["embedding"] = layer.out_features
    network = build(card["architecture"]).eval()
    network.load_state_dict(
        {
            **model.network.state_dict(),
            "head.embedding.weight": layer.weight.detach()[:, :, None, None],
            "head.embedding.bias": layer.bias.detach(),
        }
    )
    return Model(network, card)


class FromBackbone(nn.Module):
    """In place of an embedding: what the backbone sees at stride 16."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        backbone.register_forward_hook(self._keep)

    def _keep(self, _backbone: nn.Module, _images: Any, features: list[Tensor]) -> None:
        self._features = features[2]

    def forward(self, _named: Tensor) -> Tensor:
        return self._features


def retrieval(model: Model, fields: list[Field]) -> dict[str, Any]:
    """Return how many of the cells that look most like a cell are of its class.

    The query is every cell found; its neighbours are looked for on the other fields, lest the same stain and the same
    clump count for likeness. ``balanced`` is the mean over classes, ``chance`` what cells drawn blindly would give.
    """
    looks, labels, owners = [], [], []
    for i, field in enumerate(fields):
        cells, found, _ = predict_embedded(model, field, SURE)
        matched = match_points(cells, centres_of(field.boxes))
        looks.append(found[matched >= 0])
        labels.append(field.labels[matched[matched >= 0]])
        owners.append(np.full(len(labels[-1]), i))
    look, label, owner = (np.concatenate(parts) for parts in (looks, labels, owners))
    alike = look @ look.T
    alike[owner[:, None] == owner] = -np.inf
    right = (label[np.argsort(-alike, axis=1)[:, :NEAREST]] == label[:, None]).mean(axis=1)
    share = np.bincount(label) / len(label)
    names = model.taxonomy.names
    by_class = {names[c]: float(right[label == c].mean()) for c in np.unique(label).tolist()}
    return {
        "nearest": NEAREST,
        "n_cells": len(label),
        "precision": float(right.mean()),
        "balanced": float(np.mean(list(by_class.values()))),
        "chance": float((share**2).sum()),
        "balanced_chance": 1 / len(by_class),
        "per_class": by_class,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--crops", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = load_model(args.model)
    crops = Crops(CROP, model.mpp, rim=32)
    sampler = CropSampler(fields_of(args.data, "train", "val"), crops, np.random.default_rng(args.seed))
    features, labels = features_of(model.network, sampler, args.crops, len(model.taxonomy))
    layer = learn(features, labels, DEFAULT_CONFIG["embedding"], torch.Generator().manual_seed(args.seed))
    made = extended(model, layer)

    test = fields_of(args.data, "test")
    plain = Model(copy.deepcopy(made.network), made.card)
    plain.network.head.embedding = FromBackbone(plain.network.backbone)
    for field in test[:3]:
        before, after = predict_embedded(model, field).cells, predict_embedded(made, field).cells
        if before.to_bytes() != after.to_bytes():
            raise SystemExit("The detections have changed.")
    backbone = retrieval(plain, test)
    made.card["training"]["embedding"] = {
        "recipe": "training/add_embedding.py",
        "places": len(labels),
        "false_detections": int((labels == len(model.taxonomy)).sum()),
    }
    figures = {**retrieval(made, test), "backbone": {k: backbone[k] for k in ("precision", "balanced")}}
    made.card["metrics"]["likeness"] = figures
    save_model(made, args.out)
    print(f"saved {args.out}")
    for name, value in figures.items():
        print(name, value)


if __name__ == "__main__":
    main()
