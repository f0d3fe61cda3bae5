"""Train every detector by the same recipe and write one table of what each gives and costs.

    python training/compare_heads.py --data DIR --scale smoke|cpu|gpu [--only NAME] [--models FOLDER] [--held-out OUT]

Each learns from the train fields, by the first stage of the recipe, and is scored on val, by which to choose, and in
one figure on test; with OUT, what ``training/make_held_out.py`` makes, in one more on all fields held out. Writes
``training/results/heads-SCALE.csv`` and ``.md``, a line after each training.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401  # its operations are among torch's from now on
from experiments.table import Table, arguments, fields_by_split
from torch.utils.flop_counter import FlopCounterMode
from train import how_far, initialised, objective_of, settings_of

from napari_cervcell.learning.assignment import Assignment
from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.evaluation import evaluate
from napari_cervcell.learning.fields import BOX_UM, Field, read_fields
from napari_cervcell.learning.fitting import fit
from napari_cervcell.models import Model, Network, config_of, predict, save_model
from napari_cervcell.taxonomy import BETHESDA

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
    """How long to train, on what, and how often to take the time."""

    steps: int
    batch: int
    crop: int
    device: str
    repeats: int = 5


SCALES = {
    "smoke": Scale(steps=3, batch=2, crop=128, device="cpu", repeats=1),
    "cpu": Scale(steps=1600, batch=4, crop=320, device="cpu"),
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


class Bench:
    """The fields, and what becomes of a detector that learns from them."""

    def __init__(self, fields: dict[str, list[Field]], scale: Scale, kept_in: Path | None) -> None:
        self.fields, self.scale, self.kept_in = fields, scale, kept_in

    def run(self, head: str, backbone: str, rotations: int, seed: int) -> dict[str, float]:
        """Train one detector; return what it gives and what it costs."""
        print(f"{name_of(head, backbone, rotations)}, seed {seed}", flush=True)
        start = time.monotonic()
        model = self._trained(head, backbone, rotations, seed)
        minutes = (time.monotonic() - start) / 60
        if self.kept_in is not None:
            self.kept_in.mkdir(parents=True, exist_ok=True)
            save_model(model, self.kept_in / f"{model.name}.safetensors")
        found = evaluate(model, self.fields["val"])
        figures = {
            "ap": found["ap"],
            "ap_test": evaluate(model, self.fields["test"])["ap"],
            "best_f1": found["f1"],
            "mean_recall": found["balanced_accuracy"],
            "mAP": found["mean_ap"],
        }
        if "held out" in self.fields:
            figures["ap_held_out"] = evaluate(model, self.fields["held out"])["ap"]
        figures |= {f"ap {name}": of["ap"] for name, of in found["per_class"].items() if of["n"]}
        return figures | cost(model.network, self.scale.device, self.scale.repeats) | {"training_min": minutes}

    def _trained(self, head: str, backbone: str, rotations: int, seed: int) -> Model:
        torch.manual_seed(seed)
        scale = self.scale
        turns = {} if rotations == 1 else {"rotations": rotations}
        config = config_of(head, backbone, n_classes=len(BETHESDA), box_size=BOX_UM / MPP, **turns)
        network, start_weights = initialised(config)
        network = network.to(scale.device, memory_format=torch.channels_last)
        crops = Crops(scale.crop, MPP, rim=32, assignment=Assignment.of(config))
        sampler = CropSampler(self.fields["train"], crops, np.random.default_rng(seed))
        settings = settings_of(scale.steps, scale.batch, start_weights)
        objective = objective_of(self.fields["train"], seed, scale.device)
        averaged = fit(network, sampler, objective, settings, lambda step, _: how_far(step, scale.steps))
        training = {"recipe": "training/compare_heads.py", "steps": scale.steps, "backbone_weights": start_weights}
        name = name_of(head, backbone, rotations)
        card = {"name": name, "architecture": config, "taxonomy": BETHESDA.to_json(), "mpp": MPP, "training": training}
        return Model(averaged.cpu(), card)


def name_of(head: str, backbone: str, rotations: int) -> str:
    return f"{head}-{backbone}" + (f"-p{rotations}" if rotations > 1 else "")


def main(argv: Sequence[str] | None = None) -> Table:
    args = arguments(
        __doc__,
        argv,
        only="train those alone whose name has this in it, e.g. yolof or small-p4",
        models="folder in which the trained models are kept",
        held_out="folder with all fields that are held out",
    )
    scale = SCALES[args.scale]
    if scale.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("This machine has no CUDA device; use --scale cpu.")
    smoke = args.scale == "smoke"
    fields = fields_by_split(args.data, smoke)
    if args.held_out:
        fields["held out"] = read_fields(args.held_out, BETHESDA)
    bench = Bench(fields, scale, args.models and Path(args.models))
    table = Table(
        args.results / f"heads-{args.scale}.csv", ("head", "backbone", "rotations", "seed"), scale, args.seeds
    )
    for detector in (d for d in DETECTORS if not args.only or args.only in name_of(*d)):
        table.fill([(*detector, seed) for seed in args.seeds or (0,)], bench.run)
        table.markdown("Detectors compared", notes_of(scale), smoke)
    return table


def notes_of(scale: Scale) -> str:
    return (
        f"{scale.steps} steps of {scale.batch} crops of {scale.crop} px, the first stage of the recipe, on the train "
        "fields; scored on val, in ap test on test and in ap held out on all fields held out, each "
        "field looked at upright and upside down. ap and best "
        "f1 are of finding cells, mean recall of naming those found, mAP over the classes that val shows. Times and "
        f"GFLOP are those of a scan's tile of {TILE} px, both looks where it takes two: what is equivariant takes one."
    )


if __name__ == "__main__":
    main()
