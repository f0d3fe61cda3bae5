"""Put all labelled fields that the shipped model never saw into one folder, for ``cervcell evaluate``.

    python training/make_held_out.py --data DIR --more NATIVE --out OUT

DIR is laid out like the CRIC fields; of it the test fields of ``training/splits.csv`` are taken. NATIVE holds further
fields of the same source: `images/*.webp` in full size and `cases/cric-NAME-gt.geojson`, a box of 64 px around every
labelled nucleus, cut off at the image's edge. A field of NATIVE that shows a part of a training field is left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from napari_cervcell.learning.fields import FIELD_MPP, split_names

HERE = Path(__file__).parent
BOX = 64.0  # px, side of a box in NATIVE
FIELD_WIDTH = 1280  # px of the fields in DIR, which are smaller copies
ANNOTATED = 1280  # px of a field in full size, from the left: nobody has labelled what lies beyond
NAMES = {"Negative for intraepithelial lesion": "NILM"}
OVERLAPPING = "c22f24fa5dc7c8d99c2d2ba5e293960c"  # shows a part of 7d9c47264d5ffa28fdb561d0be14bb90 of the train fields

Point = tuple[str, float, float]


def test_fields(data: Path) -> Iterator[tuple[Path, float, float, list[Point]]]:
    """Yield image, µm per px, width of the annotated part and points of every test field."""
    points: dict[str, list[Point]] = {name: [] for name in split_names(HERE / "splits.csv", "test")}
    with (data / "points.csv").open(newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            if row["image"] in points:
                points[row["image"]].append((row["class"], float(row["x"]), float(row["y"])))
    with (data / "images.csv").open(newline="", encoding="utf-8") as f:
        ends = {row["image"]: float(row["annotated_x_max"]) for row in csv.DictReader(f)}
    for name, found in points.items():
        yield data / "images" / name, FIELD_MPP, ends[name], found


def native_fields(data: Path) -> Iterator[tuple[Path, float, float, list[Point]]]:
    """Yield the same of every field of NATIVE; a point is the middle of its box before that was cut off."""
    for path in sorted(data.glob("cases/cric-*-gt.geojson")):
        name = path.name.removeprefix("cric-").removesuffix("-gt.geojson")
        if name == OVERLAPPING:
            continue
        image = data / "images" / f"{name}.webp"
        with Image.open(image) as opened:
            size = np.array(opened.size, float)
        points = []
        for feature in json.loads(path.read_text(encoding="utf-8"))["features"]:
            corners = np.array(feature["geometry"]["coordinates"][0], float)
            first, last = corners.min(0), corners.max(0)
            middle = np.where(first > 0, np.where(last < size, (first + last) / 2, first + BOX / 2), last - BOX / 2)
            label = feature["properties"]["label"]
            points.append((NAMES.get(label, label), *np.round(middle, 1).tolist()))
        yield image, FIELD_MPP * FIELD_WIDTH / size[0], ANNOTATED, points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--more", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    fields = [*test_fields(args.data), *native_fields(args.more)]
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    with (
        (args.out / "images.csv").open("w", newline="", encoding="utf-8") as images,
        (args.out / "points.csv").open("w", newline="", encoding="utf-8") as points,
    ):
        of_images, of_points = (csv.writer(f, lineterminator="\n") for f in (images, points))
        of_images.writerow(["image", "annotated_x_max", "mpp"])
        of_points.writerow(["image", "class", "x", "y"])
        for image, mpp, end, found in fields:
            shutil.copy(image, args.out / "images")
            of_images.writerow([image.name, end, f"{mpp:.5f}"])
            of_points.writerows([image.name, *point] for point in found)
    print(f"{len(fields)} fields, {sum(len(found) for *_, found in fields)} cells in {args.out}")


if __name__ == "__main__":
    main()
