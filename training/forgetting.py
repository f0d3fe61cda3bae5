"""What a round forgets of an earlier case, and whether replaying that case keeps it.

    python training/forgetting.py --data DIR --scale smoke|cpu|gpu

The test fields lie on two slides. On the first a reviewer accepts 30 normal cells and rejects half of the cells of the
commonest abnormal class, as one would who wants them left alone; the model learns that in one round. On the second he
accepts 30 normal cells, and there is one more round, with the first case at hand and without. Measured are the other
half of those abnormal cells of the first slide (how likely the model thinks it that they are none), and other normal
cells of the second (how likely that they are cells, and normal). Writes ``training/results/forgetting-SCALE.csv``,
``.md`` and ``.png``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from unittest import mock

import numpy as np
from experiments.table import Table, arguments, curves, fields_by_split

from napari_cervcell.casefile import Case, Verdict, note_place, open_case
from napari_cervcell.cells import FloatArray
from napari_cervcell.learning import train_round
from napari_cervcell.learning.features import FeatureMemory
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.promotion import Outcome, judge
from napari_cervcell.learning.quick import quick_round
from napari_cervcell.models import SHIPPED_MODEL, Model, load_model, save_model
from napari_cervcell.review.models import import_model
from napari_cervcell.simulation.data import Truth, lay_out
from napari_cervcell.slides import Slide, open_slide

STAGES = ("before", "taught on the first case", "after the second, nothing replayed", "after the second, replayed")
KINDS = ("quick", "full")
NORMAL = 0
ACCEPTED = 30


@dataclass(frozen=True)
class Scale:
    """Steps of each round."""

    steps: int
    seeds: int


SCALES = {"smoke": Scale(2, 1), "cpu": Scale(120, 3), "gpu": Scale(400, 5)}


@dataclass(frozen=True)
class Part:
    """A slide, its normal cells, and those of the class that the reviewer wants left alone, in an order drawn."""

    slide: Slide
    normal: FloatArray
    unwanted: FloatArray

    @property
    def accepted(self) -> int:
        """So many of the normal cells the reviewer speaks of; the others are asked about."""
        return min(ACCEPTED, len(self.normal) // 2)


class Course:
    """Two cases one after the other; of each kind at most `asked` cells are asked about."""

    def __init__(self, fields: list[Field], scale: Scale, asked: int | None = None) -> None:
        self.fields, self.scale, self.asked = fields, scale, asked
        labels = np.concatenate([f.labels for f in fields])
        self.unwanted = int(np.bincount(labels[labels != NORMAL], minlength=2).argmax())
        self.held = lru_cache(maxsize=1)(self._held)

    def run(self, kind: str, stage: str, seed: int) -> dict[str, float]:
        return self.held(kind, seed)[stage]

    def _held(self, kind: str, seed: int) -> dict[str, dict[str, float]]:
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.fields))
        with (
            tempfile.TemporaryDirectory() as name,
            mock.patch.dict(os.environ, XDG_DATA_HOME=name),  # the user's casebook stays as it is
        ):
            folder = Path(name)
            first, second = (self._part(folder / f"{i}.tiff", order[i::2], rng) for i in range(2))
            with first.slide, second.slide:
                return self._two_cases(folder, first, second, _round_of(kind, self.scale.steps, seed))

    def _part(self, path: Path, which: np.ndarray, rng: np.random.Generator) -> Part:
        truth: Truth = lay_out([self.fields[i] for i in which], path, rng)
        normal, unwanted = (rng.permutation(truth.boxes[truth.labels == label]) for label in (NORMAL, self.unwanted))
        return Part(open_slide(path), normal, unwanted)

    def _two_cases(
        self, folder: Path, first: Part, second: Part, teach: Callable[[Case, Slide], Outcome]
    ) -> dict[str, dict[str, float]]:
        half = len(first.unwanted) // 2

        def rejected(boxes: FloatArray) -> list[Verdict]:
            return [Verdict("reject", box, -1, detected_label=self.unwanted) for box in boxes]

        def measured(model: Model) -> dict[str, float]:
            alone = _agreement(model, first.slide, rejected(first.unwanted[half:][: self.asked]), folder)
            others = second.normal[second.accepted :][: self.asked]
            normal = _agreement(model, second.slide, _accepted(others), folder)
            return {"left_alone": alone, "normal": normal}

        with open_case(folder / "first.cervcell", first.slide) as earlier:
            earlier.record(_accepted(first.normal[: first.accepted]) + rejected(first.unwanted[:half]))
            taught = teach(earlier, first.slide).model
            save_model(taught, folder / "taught.safetensors")
            with open_case(folder / "second.cervcell", second.slide) as case:
                case.use_round(import_model(case, folder / "taught.safetensors"))
                case.record(_accepted(second.normal[: second.accepted]))
                alone = teach(case, second.slide).model
                note_place(earlier)
                replayed = teach(case, second.slide)
        assert replayed.metrics["earlier_cases"]["replayed"] == 1
        models = (load_model(SHIPPED_MODEL), taught, alone, replayed.model)
        return {stage: measured(model) for stage, model in zip(STAGES, models, strict=True)}


def _round_of(kind: str, steps: int, seed: int) -> Callable[[Case, Slide], Outcome]:
    memory = FeatureMemory()
    if kind == "quick":
        return lambda case, slide: quick_round(case, slide, memory, steps=steps, seed=seed)
    return lambda case, slide: train_round(case, slide, steps=steps, seed=seed)


def _accepted(boxes: FloatArray) -> list[Verdict]:
    return [Verdict("add", box, NORMAL) for box in boxes]


def _agreement(model: Model, slide: Slide, verdicts: list[Verdict], folder: Path) -> float:
    """How likely `model` thinks what the verdicts say, 0 to 1, on average."""
    path = folder / "asked.cervcell"
    with open_case(path, slide) as case:
        case.record(verdicts)
        said = case.annotations()
    path.unlink()
    return float(judge(model, slide, said).mean())


def main(argv: Sequence[str] | None = None) -> Table:
    args = arguments(__doc__, argv)
    scale, smoke = SCALES[args.scale], args.scale == "smoke"
    parts = fields_by_split(args.data, smoke)
    course = Course([f for p in parts.values() for f in p], scale, asked=4) if smoke else Course(parts["test"], scale)
    table = Table(args.results / f"forgetting-{args.scale}.csv", ("round", "model", "seed"), (scale,), args.seeds)
    table.fill(((kind, stage, seed) for kind in KINDS for seed in range(scale.seeds) for stage in STAGES), course.run)
    notes = (
        f"Rounds of {scale.steps} steps from the shipped model, on {len(course.fields)} fields that it has not learnt "
        "from. *Left alone*: of abnormal cells like those that were rejected on the first slide, how likely the model "
        "thinks it that they are none. *Normal*: of normal cells of the second slide, how likely that they are that."
    )
    table.markdown("What a round forgets of an earlier case", notes, smoke)
    values = table.values()
    panels = {
        figure: {
            kind: (
                ["before", "taught", "not replayed", "replayed"],
                [values[kind, stage][figure].mean() for stage in STAGES],
                [values[kind, stage][figure].std() for stage in STAGES],
            )
            for kind in KINDS
            if all((kind, stage) in values for stage in STAGES)
        }
        for figure in ("left_alone", "normal")
    }
    curves(table.path.with_suffix(".png"), panels, "the model")
    return table


if __name__ == "__main__":
    main()
