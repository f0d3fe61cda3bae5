"""Show what the detector calls by another name: a table of classes, and a picture of example cells for every pair.

    python training/confusions.py --data DIR [--model FILE]

Writes ``training/results/confusions.md``, and one strip of cells of the test fields for each pair of classes to
``training/results/confusions/``: those of which the model is surest first, so that a cytologist can say which are real
disagreements. The cells are those that ``cervcell evaluate`` finds at its threshold.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from train import fields_of

from napari_cervcell.learning.crops import resample
from napari_cervcell.learning.evaluation import judged, match_points, score_cells
from napari_cervcell.learning.fields import Field
from napari_cervcell.models import Model, load_model
from napari_cervcell.taxonomy import BETHESDA

RESULTS = Path(__file__).parent / "results"
SIDE_UM, SIDE = 30.0, 112  # of the picture of a cell, in µm and px
MOST = 10  # cells in a strip

Named = tuple[float, Field, tuple[float, float]]  # how sure the model is of the class, and where the cell is


def named_cells(model: Model, fields: list[Field]) -> dict[tuple[int, int], list[Named]]:
    """Return the found cells of `fields` by (true class, class given), the surest first."""
    results = [judged(model, field) for field in fields]
    threshold = score_cells(results, model.taxonomy.names)["threshold"]
    pairs: dict[tuple[int, int], list[Named]] = {}
    for field, (found, points, labels, _) in zip(fields, results, strict=True):
        cells = found[found.scores >= threshold]
        matched = match_points(cells, points)
        for i in np.flatnonzero(matched >= 0):
            x, y = points[matched[i]].tolist()
            pair = int(labels[matched[i]]), int(cells.labels[i])
            pairs.setdefault(pair, []).append((float(cells.class_scores[i]), field, (x, y)))
    return {pair: sorted(named, key=lambda n: -n[0]) for pair, named in pairs.items()}


def strip(named: list[Named]) -> Image.Image:
    """Return a row of the first cells, each in the middle of its picture."""
    sheet = Image.new("RGB", ((SIDE + 2) * min(MOST, len(named)) - 2, SIDE), "white")
    for i, (_, field, (x, y)) in enumerate(named[:MOST]):
        sheet.paste(close_up(field, x, y), (i * (SIDE + 2), 0))
    return sheet


def close_up(field: Field, x: float, y: float) -> Image.Image:
    """Return the picture of what is around (x, y), px of the field's image."""
    whole = SIDE_UM / field.mpp
    return Image.fromarray(resample(field.rgb, x - whole / 2, y - whole / 2, whole, SIDE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="by default the one that ships")
    args = parser.parse_args()
    model = load_model(args.model)
    pairs = named_cells(model, fields_of(args.data, "test"))
    names = BETHESDA.names
    folder = RESULTS / "confusions"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    lines = [
        "# What is called by another name",
        "",
        f"Cells of the test fields that {model.name} (`{model.id}`) finds; rows are the cytologists' class, columns the"
        " model's.",
        "",
        f"| | {' | '.join(names)} | right |",
        f"|---{'|---' * (len(names) + 1)}|",
    ]
    for true, name in enumerate(names):
        counts = [len(pairs.get((true, said), [])) for said in range(len(names))]
        right = f"{counts[true] / sum(counts):.0%}" if sum(counts) else ""
        lines.append(f"| **{name}** | {' | '.join(str(n or '') for n in counts)} | {right} |")
    lines += ["", f"Each picture is {SIDE_UM:g} µm wide; what the model is surest of comes first."]
    for (true, said), named in sorted(pairs.items(), key=lambda p: -len(p[1])):
        if true != said:
            file = f"{names[true]}-called-{names[said]}.jpg".replace(" ", "-")
            strip(named).save(folder / file, quality=85)
            lines += ["", f"**{names[true]}, called {names[said]}** ({len(named)})", "", f"![](confusions/{file})"]
    (RESULTS / "confusions.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
