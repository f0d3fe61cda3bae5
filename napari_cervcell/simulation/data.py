"""Labelled fields as what a sitting needs: a slide that holds them, the truth on it, and fields kept aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..cells import FloatArray
from ..learning import DataError, Field, read_fields
from ..learning.fields import class_names
from ..models import NOTHING
from ..taxonomy import BETHESDA, CellClass, Taxonomy

__all__ = ["Fields", "Truth", "lay_out", "read", "taxonomy_of"]

_HELD_OUT = 0.4
_SPLIT_SEED = 1
_GAP = 64  # px between fields, of what the detector takes for nothing
_TILE = 256
_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Fields:
    """Labelled fields of one scale, parted by field: those to review, and those that only measure."""

    taxonomy: Taxonomy
    pool: list[Field]
    held_out: list[Field]

    @property
    def mpp(self) -> float:
        return self.pool[0].mpp


@dataclass(frozen=True, slots=True)
class Truth:
    """What is on a slide.

    Attributes
    ----------
    boxes : float32 (n, 4), labels : int16 (n,)
        All cells, level-0 px.
    areas : float32 (m, 4)
        Where the fields lie, level-0 px.
    """

    boxes: FloatArray
    labels: NDArray[np.int16]
    areas: FloatArray

    def __len__(self) -> int:
        return len(self.labels)


def taxonomy_of(data: Path) -> Taxonomy:
    """Return the taxonomy of the classes that `data` names, The Bethesda System where it has them all.

    Raises DataError.
    """
    names = class_names(data)
    if {n.casefold() for n in names} <= {n.casefold() for n in BETHESDA.names}:
        return BETHESDA
    if len(names) > 9:  # one key each
        raise DataError(f"{data} names {len(names)} classes; at most 9 can be reviewed.")
    return Taxonomy(
        data.name,
        tuple(
            CellClass(name, name[:2], BETHESDA[i % len(BETHESDA)].color, str(i + 1), "negative", i)
            for i, name in enumerate(names)
        ),
    )


def read(data: Path, taxonomy: Taxonomy, names: Sequence[str] | None = None) -> Fields:
    """Read the fields in `data`, or those of the images `names`, and part them, always in the same way.

    Raises DataError, also where they are too few to be parted or not of one scale.
    """
    fields = sorted(read_fields(data, taxonomy, names), key=lambda f: f.name)
    labelled = [f for f in fields if len(f.labels)]
    if len(labelled) < 2:
        raise DataError(f"{data} has {len(labelled)} fields with cells. At least 2 are needed: to review, to measure.")
    if len({f.mpp for f in fields}) > 1:
        raise DataError(f"The fields in {data} differ in their µm per px. Give fields of one scale.")
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labelled))
    n = max(1, round(_HELD_OUT * len(labelled)))
    return Fields(taxonomy, [labelled[i] for i in order[n:]], [labelled[i] for i in order[:n]])


def lay_out(fields: Sequence[Field], path: Path, rng: np.random.Generator) -> Truth:
    """Write a slide on which `fields` lie apart, each cut to its annotated part, in an order that `rng` draws."""
    parts = [_annotated(fields[i]) for i in rng.permutation(len(fields))]
    columns = int(np.ceil(np.sqrt(len(parts))))
    step_x, step_y = (max(p.rgb.shape[axis] for p in parts) + _GAP for axis in (1, 0))
    rows = -(-len(parts) // columns)
    canvas = np.full((rows * step_y + _GAP, columns * step_x + _GAP, 3), NOTHING, np.uint8)
    boxes, areas = [], []
    for i, part in enumerate(parts):
        x, y = i % columns * step_x + _GAP, i // columns * step_y + _GAP
        height, width = part.rgb.shape[:2]
        canvas[y : y + height, x : x + width] = part.rgb
        boxes.append(part.boxes + np.array([x, y, x, y], np.float32))
        areas.append([x, y, x + width, y + height])
    per_cm = 10_000 / parts[0].mpp
    tifffile.imwrite(
        path, canvas, photometric="rgb", tile=(_TILE, _TILE), compression="jpeg",
        compressionargs={"level": _QUALITY}, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    return Truth(np.concatenate(boxes), np.concatenate([p.labels for p in parts]), np.array(areas, np.float32))


def _annotated(field: Field) -> Field:
    """Cut a field to the part in which all cells are labelled: elsewhere nobody could play the reviewer."""
    x1, y1, x2, y2 = np.round(field.checked[0]).astype(int).tolist()
    x, y = (field.boxes[:, :2] + field.boxes[:, 2:]).T / 2
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    boxes = field.boxes[inside] - np.array([x1, y1, x1, y1], np.float32)
    return Field(field.name, field.rgb[y1:y2, x1:x2], field.mpp, boxes, field.labels[inside])
