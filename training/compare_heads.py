"""Train every detector by the same recipe and write one table of what each gives and costs.

    python training/compare_heads.py --data DIR --scale smoke|cpu|gpu [--only fcos/small ...]

Each learns from the train fields and is scored on val; test stays untouched, for the one that ships. The table goes to
``training/results/heads-SCALE.csv`` and ``.md``, a line after each training. ``smoke`` only shows that everything runs:
a few steps on a few fields, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from train import fields_of, initialised, objective_of, settings_of

from napari_cervcell.learning.assignment import Assignment
from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.evaluation import evaluate
from napari_cervcell.learning.fields import BOX_UM, Field
from napari_cervcell.learning.fitting import fit
from napari_cervcell.models import Model, Network, config_of, predict, save_model
from napari_cervcell.taxonomy import BETHESDA

RESULTS = Path(__file__).parent / "results"
MPP = 0.4
TILE = 640  # px of the network's input: what one tile of a slide is with its halo

# head, backbone, rotations
DETECTORS = (
    ("fcos", "efficientnet-lite0", 1),
    ("fcos", "efficientnet-lite2", 1),
    ("atss", "efficientnet-lite0", 1),
    ("reppoints", "efficientnet-lite0", 1),
    ("yolof", "efficientnet-lite0", 1),
    ("yollo", "efficientnet-lite0", 1),
    ("fcos", "small", 1),
    ("fcos", "small", 4),
    ("fcos", "small", 8),
    ("fcos", "resnet-18", 1),
    ("fcos", "resnet-50", 1),
)


@dataclass(frozen=True)
class Scale:
    """How long and on how much to train; `fields` and `repeats` bound the fields of each split and the timings."""

    steps: int
    batch: int
    crop: int
    device: str
    fields: int | None = None
    repeats: int = 5


SCALES = {
    "smoke": Scale(steps=3, batch=2, crop=128, device="cpu", fields=1, repeats=1),
    "cpu": Scale(steps=3400, batch=4, crop=320, device="cpu"),
    "gpu": Scale(steps=6000, batch=16, crop=320, device="cuda"),
}


def deformable(x: list[int], weight: list[int], *_: Any, out_shape: list[int], **__: Any) -> int:
    """Operations of torchvision's deformable convolution: those of a plain one; the bilinear look-ups are left out."""
    return 2 * int(np.prod(out_shape)) * int(np.prod(weight[1:]))


def cost(network: Network, device: str, repeats: int) -> dict[str, float]:
    """Return parameters (millions), GFLOP and ms a tile, as a scan runs it: with a second look where one is needed."""
    tile = torch.zeros(1, 3, TILE, TILE).contiguous(memory_format=torch.channels_last)
    network = network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
        predict(network, tile)
    figures = {
        "parameters_M": sum(p.numel() for p in network.parameters()) / 1e6,
        "gflop_a_tile": counter.get_total_flops() / 1e9,
        "cpu_ms_a_tile": _ms(network, tile, repeats),
    }
    if device == "cuda":
        figures["gpu_ms_a_tile"] = _ms(network.to(device), tile.to(device), repeats)
        network.cpu()
    return figures


COUNTED = {torch.ops.torchvision.deform_conv2d: deformable}


def _ms(network: Network, tile: torch.Tensor, repeats: int) -> float:
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            float(predict(network, tile).cell.sum())  # which also waits for a GPU
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def trained(
    head: str, backbone: str, rotations: int, scale: Scale, fields: list[Field], seed: int
) -> tuple[Model, float]:
    """Train one detector; return it, on the CPU, and the minutes it took."""
    torch.manual_seed(seed)
    turns = {} if rotations == 1 else {"rotations": rotations}
    config = config_of(head, backbone, n_classes=len(BETHESDA), box_size=BOX_UM / MPP, **turns)
    network, start_weights = initialised(config)
    network = network.to(scale.device, memory_format=torch.channels_last)
    crops = Crops(scale.crop, MPP, rim=32, assignment=Assignment.of(config))
    sampler = CropSampler(fields, crops, np.random.default_rng(seed))
    settings = settings_of(scale.steps, scale.batch, start_weights)
    start = time.monotonic()
    averaged = fit(network, sampler, objective_of(fields, seed, scale.device), settings)
    minutes = (time.monotonic() - start) / 60
    name = "-".join([head, backbone, *([f"p{rotations}"] if rotations > 1 else [])])
    training = {"recipe": "training/compare_heads.py", "steps": scale.steps, "backbone_weights": start_weights}
    card = {"name": name, "architecture": config, "taxonomy": BETHESDA.to_json(), "mpp": MPP, "training": training}
    return Model(averaged.cpu(), card), minutes


def write(rows: list[dict[str, Any]], scale: str) -> Path:
    """Write the table as CSV and Markdown; return where the latter is."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"heads-{scale}.md"
    with path.with_suffix(".csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    said = SCALES[scale]
    lines = [
        f"# Detectors compared: {said.steps} steps of {said.batch} crops of {said.crop} px, scored on val",
        "",
        *(["**A smoke run: it shows that everything runs. Its figures are no results.**", ""] * (scale == "smoke")),
        "| " + " | ".join(k.replace("_", " ") for k in rows[0]) + " |",
        "|" + "---|" * len(rows[0]),
        *("| " + " | ".join(_shown(v) for v in row.values()) + " |" for row in rows),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scale", choices=SCALES, required=True)
    parser.add_argument("--only", nargs="+", help="e.g. fcos/small fcos/small/4")
    parser.add_argument("--models", type=Path, help="keep the trained models in this folder")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    scale = SCALES[args.scale]
    if scale.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device; use --scale cpu")
    fields, val = (fields_of(args.data, split)[: scale.fields] for split in ("train", "val"))

    rows: list[dict[str, Any]] = []
    for head, backbone, rotations in DETECTORS:
        if args.only and not {f"{head}/{backbone}", f"{head}/{backbone}/{rotations}"} & set(args.only):
            continue
        model, minutes = trained(head, backbone, rotations, scale, fields, args.seed)
        figures = evaluate(model, val)
        row = {"head": head, "backbone": backbone, "rotations": rotations, "ap": figures["ap"]}
        row |= {f"ap {name}": per["ap"] for name, per in figures["per_class"].items()}
        row |= cost(model.network, scale.device, scale.repeats) | {"training_min": minutes}
        rows.append(row)
        print(f"{head} on {backbone}, {rotations} rotations: AP {row['ap']:.3f}, see {write(rows, args.scale)}")
        if args.models:
            args.models.mkdir(parents=True, exist_ok=True)
            save_model(model, args.models / f"{model.name}.safetensors")
    if args.scale == "smoke":
        print("This was a smoke run: its figures are no results.")


if __name__ == "__main__":
    main()
