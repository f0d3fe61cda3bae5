"""Build the small set of earlier fields that every incremental round replays, so that nothing is forgotten.

    python training/make_replay.py --data DIR

Takes training fields only, those with the most cells of rare classes first, at the network's mpp, and writes
``napari_cervcell/learning/replay/`` in the layout that ``read_fields`` reads.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from napari_cervcell.learning.fields import FIELD_MPP

HERE = Path(__file__).parent
OUT = HERE.parent / "napari_cervcell" / "learning" / "replay"
MPP = 0.4
COUNT = 36

README = """# Earlier fields, replayed in every round

{n} fields that the shipped model was trained on, at {mpp} µm per px, with their {cells} labelled nuclei.

From CRIC Cervix (conventional Pap smears, 40x): M. T. Rezende et al., "Cric searchable image database as a public
platform for conventional pap smear cytology data", Scientific Data 8:151 (2021), doi 10.1038/s41597-021-00933-8;
images at figshare, doi 10.6084/m9.figshare.c.4960286.v2. Licence CC BY 4.0. Changes: made smaller, re-encoded.
Made by `python training/make_replay.py --data DIR`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    with (HERE / "splits.csv").open(newline="") as f:
        train = {row["image"] for row in csv.DictReader(f) if row["split"] == "train"}
    images = {
        row["image"]: row for row in csv.DictReader((data / "images.csv").open(newline="")) if row["image"] in train
    }
    points = [row for row in csv.DictReader((data / "points.csv").open(newline="")) if row["image"] in train]
    total = Counter(row["class"] for row in points)
    worth: Counter[str] = Counter()
    for row in points:
        worth[row["image"]] += 1 / total[row["class"]]  # type: ignore[assignment]
    chosen = [name for name, _ in sorted(worth.items(), key=lambda item: (-item[1], item[0]))[:COUNT]]

    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "images").mkdir(parents=True)
    scale = FIELD_MPP / MPP
    with (OUT / "images.csv").open("w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["image", "annotated_x_max", "mpp"])
        for name in chosen:
            with Image.open(data / "images" / name) as image:
                size = round(image.width * scale), round(image.height * scale)
                image.convert("RGB").resize(size, Image.Resampling.BILINEAR).save(OUT / "images" / name, quality=88)
            writer.writerow([name, round(float(images[name]["annotated_x_max"]) * scale, 1), MPP])
    kept = [row for row in points if row["image"] in set(chosen)]
    with (OUT / "points.csv").open("w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["image", "class", "x", "y"])
        for row in kept:
            x, y = np.round(np.array([float(row["x"]), float(row["y"])]) * scale, 1)
            writer.writerow([row["image"], row["class"], x, y])
    (OUT / "README.md").write_text(README.format(n=len(chosen), mpp=MPP, cells=len(kept)), encoding="utf-8")
    print(f"{len(chosen)} fields, {len(kept)} cells {dict(Counter(row['class'] for row in kept))} in {OUT}")


if __name__ == "__main__":
    main()
