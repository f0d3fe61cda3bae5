"""The table of an experiment: kept on disk cell by cell, so that a run that was cut off goes on where it stopped."""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_cervcell.learning.fields import Field, read_fields
from napari_cervcell.taxonomy import BETHESDA

__all__ = ["RESULTS", "Table", "arguments", "curves", "dots", "fields_by_split"]

RESULTS = Path(__file__).parents[1] / "results"
_CACHE = Path(__file__).parents[1] / ".cache"


def arguments(doc: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse what every experiment takes."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images/, images.csv and points.csv")
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
