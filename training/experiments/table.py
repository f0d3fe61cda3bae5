"""The table of an experiment: kept on disk cell by cell, so that a run that was cut off goes on where it stopped."""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_cervcell.cells import median_side
from napari_cervcell.learning.fields import BOX_UM, FIELD_MPP, Field, read_fields
from napari_cervcell.simulation.data import taxonomy_of
from napari_cervcell.taxonomy import BETHESDA

__all__ = ["RESULTS", "Table", "arguments", "boxed_fields_by_split", "curves", "dots", "fields_by_split", "parted"]

RESULTS = Path(__file__).parents[1] / "results"
_CACHE = Path(__file__).parents[1] / ".cache"


def arguments(
    doc: str, argv: Sequence[str] | None, data: str = "folder with images/, images.csv and points.csv", **more: str
) -> argparse.Namespace:
    """Parse what every experiment takes, `data` being told of its folder, and options of its own with their help."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=data)
    for name, told in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="NAME", help=told)
    parser.add_argument("--scale", choices=("smoke", "cpu", "gpu"), required=True)
    parser.add_argument("--cache", type=Path, default=_CACHE, help="folder for the frozen features")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="only these; runs with --results of their own can share the work"
    )
    return parser.parse_args(argv)


def fields_by_split(data: Path, smoke: bool) -> dict[str, list[Field]]:
    """Return the fields of train, val and test; of any folder's first few for a smoke run."""
    if smoke:
        few = read_fields(data, BETHESDA)[:4]
        return {"train": few[:2], "val": few[2:3], "test": few[3:]}
    from train import fields_of

    return {split: fields_of(data, split) for split in ("train", "val", "test")}


def parted(names: Iterable[str], smoke: bool) -> dict[str, list[str]]:
    """Return which images of a set without a table of splits are train (half), val (a sixth) and test (a third).

    It goes by a hash of the name, so that an image stays where it is whatever else lies in the folder. A smoke run
    takes the first four.
    """
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    order = [*parts, "train"] if smoke else ["train", "train", "train", "val", "test", "test"]
    for i, name in enumerate(sorted(names)[: 4 if smoke else None]):
        parts[order[i if smoke else hashlib.sha256(name.encode()).digest()[0] % 6]].append(name)
    return parts


def boxed_fields_by_split(data: Path, smoke: bool) -> dict[str, list[Field]]:
    """Return the fields of a COCO folder, brought to the scale of the CRIC fields.

    The median cell of train becomes as large as the boxes there, so that it is as large for the network, and the radius
    of a hit is the same part of it. All that is labelled is one kind of cell.
    """
    fields = {f.name: f for f in read_fields(data, taxonomy_of(data))}
    parts = parted(fields, smoke)
    boxes = np.concatenate([fields[n].boxes for n in parts["train"]])
    scale = BOX_UM / FIELD_MPP / median_side(boxes)
    return {split: [_scaled(fields[n], scale) for n in names] for split, names in parts.items()}


def _scaled(field: Field, scale: float) -> Field:
    height, width = (round(n * scale) for n in field.rgb.shape[:2])
    return replace(
        field,
        rgb=np.asarray(Image.fromarray(field.rgb).resize((width, height), Image.Resampling.BILINEAR)),
        mpp=FIELD_MPP,
        boxes=field.boxes * np.float32(scale),
        labels=np.zeros_like(field.labels),
        checked=np.array([[0, 0, width, height]], np.float32),
    )


class Table:
    """Finished cells of an experiment, by the values in `keys`, the last of which is the seed.

    Rows are written as they come; with `seeds` only theirs are run. Those of other `settings`, i.e. of an earlier form
    of the experiment, are dropped.
    """

    def __init__(self, path: Path, keys: Sequence[str], settings: object, seeds: Sequence[int] | None = None) -> None:
        self.path, self.keys, self.seeds = path, [*keys], seeds
        self.settings = hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
        self.rows: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = [r for r in csv.DictReader(file) if r["settings"] == self.settings]

    def fill(self, cells: Iterable[tuple[Any, ...]], run: Callable[..., Mapping[str, float]]) -> None:
        """Call ``run(*cell)`` for every cell of the table that is not there yet, and keep what it returns."""
        there = {tuple(r[k] for k in self.keys) for r in self.rows}
        for cell in cells:
            if tuple(map(str, cell)) in there or (self.seeds is not None and cell[-1] not in self.seeds):
                continue
            figures = {k: f"{v:.4f}" for k, v in run(*cell).items()}
            self.rows.append(dict(zip(self.keys, map(str, cell), strict=True)) | figures | {"settings": self.settings})
            self._write()
            print(*cell, figures, flush=True)

    def _write(self) -> None:
        names = list(dict.fromkeys(k for r in self.rows for k in r))
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    @property
    def figures(self) -> list[str]:
        names = dict.fromkeys(k for r in self.rows for k in r)
        return [n for n in names if n not in (*self.keys, "settings")]

    def values(self) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
        """Return for every cell, the seed left out, the values of each figure over seeds, in order of appearance."""
        found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            for figure in self.figures:
                if row.get(figure):
                    found[tuple(row[k] for k in self.keys[:-1])][figure].append(float(row[figure]))
        return {cell: {f: np.array(v) for f, v in of.items()} for cell, of in found.items()}

    def markdown(self, title: str, notes: str, smoke: bool) -> None:
        """Write the means beside the CSV, and where there is more than one seed their spreads."""
        values = self.values()
        head = [*self.keys[:-1], *self.figures, "seeds"]
        lines = [f"# {title}", ""]
        if smoke:
            lines += ["**A smoke run: it shows that everything runs. Its figures are no results.**", ""]
        lines += [notes, "", "| " + " | ".join(h.replace("_", " ") for h in head) + " |", "|" + "---|" * len(head)]
        for cell, of in values.items():
            shown = [_with_spread(of[f]) if f in of else "-" for f in self.figures]
            lines.append("| " + " | ".join([*cell, *shown, str(max(map(len, of.values())))]) + " |")
        self.path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _with_spread(values: np.ndarray) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def curves(
    path: Path,
    panels: Mapping[str, Mapping[str, tuple[Sequence[Any], Sequence[float], Sequence[float]]]],
    x_label: str,
) -> None:
    """Draw panels of curves with error bars: panel -> curve -> (x, mean, spread); x may be words."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.8), squeeze=False)
    for axis, (name, lines) in zip(axes[0], panels.items(), strict=True):
        for label, (x, mean, spread) in lines.items():
            axis.errorbar(range(len(x)), mean, spread, marker="o", ms=3, capsize=2, lw=1.2, label=label)
            axis.set_xticks(range(len(x)), x)
        axis.set_title(name)
        axis.set_xlabel(x_label)
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def dots(table: Table, figures: Sequence[str]) -> None:
    """Draw the mean and the spread over seeds of some figures, a line for each rule, beside the CSV."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = table.values()
    size = (3.2 * len(figures) + 2, 0.32 * len(values) + 1)
    figure, axes = pyplot.subplots(1, len(figures), figsize=size, squeeze=False, sharey=True)
    for axis, name in zip(axes[0], figures, strict=True):
        of = [v[name] for v in values.values()]
        axis.errorbar([v.mean() for v in of], range(len(of)), xerr=[v.std() for v in of], fmt="o", ms=4, capsize=2)
        axis.set_title(name.replace("_", " "))
        axis.grid(alpha=0.3)
    axes[0][0].set_yticks(range(len(values)), [", ".join(cell) for cell in values])
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(table.path.with_suffix(".png"), dpi=110)
    pyplot.close(figure)
