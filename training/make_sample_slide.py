"""Build the sample slide that ships with the package from fields that no model was trained on.

    python training/make_sample_slide.py --data DIR

DIR is laid out as the CRIC data: `images/`, `images.csv`, `points.csv`. The fields marked "test" in
``training/splits.csv`` are laid out as a smear: apart from each other, on glass of their own colour, with ragged soft
edges; no pixel of a field's inside is changed. Writes ``cric_sample.tiff`` (tiled JPEG pyramid in Aperio's layout, so
that readers find the scale and the objective) and ``cric_sample_points.csv`` (x, y, class in level-0 pixels) into
``napari_cervcell/slides/samples``. Always the same result from the same data.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
OUT = HERE.parent / "napari_cervcell" / "slides" / "samples"
MAX_BYTES = 12_000_000
QUALITIES = range(92, 74, -1)
TILE = 256
MPP = 0.25
COLUMNS, ROWS = 7, 5
PITCH = (1440, 1150)  # from field to field, in pixels
MARGIN = 480  # of empty glass around all
RAGGED, SOFT = 90, 40  # how far the edge of a field wanders inwards, and over how many pixels it fades
KEEP = 48  # around a labelled nucleus nothing fades
RARE = ("SCC", "ASC-H", "HSIL", "LSIL")
SEED = 7
DESCRIPTION = (
    "Aperio layout. Not a scan: CRIC Cervix fields (CC BY 4.0) composed by napari-cervcell\r\n"
    "{width}x{height} (256x256) JPEG/RGB Q={quality}|AppMag = 40|MPP = {mpp}"
)

Rng = np.random.Generator
FloatImage = NDArray[np.float32]


@dataclass
class Field:
    """One photographed field: pixels float32 (h, w, 3), labelled nuclei (x, y, class) in its own pixels."""

    name: str
    pixels: FloatImage
    points: list[tuple[float, float, str]]

    @property
    def glass(self) -> FloatImage:
        """The colour of its empty background: what the brightest tenth of it has in common, float32 (3,)."""
        brightness = self.pixels.min(axis=2)
        return np.median(self.pixels[brightness >= np.percentile(brightness, 90)], axis=0).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images/, images.csv and points.csv")
    fields = read_fields(parser.parse_args().data)
    canvas, points = compose(fields, np.random.default_rng(SEED))
    for quality in QUALITIES:
        size = write_slide(OUT / "cric_sample.tiff", canvas, quality)
        print(f"quality {quality}: {size / 1e6:.2f} MB")
        if size <= MAX_BYTES:
            break
    else:
        raise SystemExit(f"the slide does not fit into {MAX_BYTES / 1e6:g} MB: use fewer fields")
    with (OUT / "cric_sample_points.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("x", "y", "class"))
        writer.writerows((f"{x:.1f}", f"{y:.1f}", name) for x, y, name in points)
    counts = ", ".join(f"{name} {n}" for name, n in Counter(p[2] for p in points).most_common())
    print(f"{canvas.shape[1]} x {canvas.shape[0]} px, {len(fields)} fields, {len(points)} nuclei: {counts}")


def read_fields(data: Path) -> list[Field]:
    """Return the held-out fields, those with most nuclei of rare classes first and as many as there is room for."""
    with (HERE / "splits.csv").open() as file:
        wanted = {row["image"] for row in csv.DictReader(file) if row["split"] == "test"}
    points: dict[str, list[tuple[float, float, str]]] = {name: [] for name in wanted}
    with (data / "points.csv").open() as file:
        for row in csv.DictReader(file):
            if row["image"] in wanted:
                points[row["image"]].append((float(row["x"]), float(row["y"]), row["class"]))
    fields = []
    with (data / "images.csv").open() as file:
        for row in csv.DictReader(file):
            if row["image"] in wanted:
                pixels = np.asarray(Image.open(data / "images" / row["image"]).convert("RGB"), np.float32)
                # right of this column nobody labelled anything: cells there would count as wrong detections
                labelled = int(float(row["annotated_x_max"]))
                fields.append(Field(row["image"], pixels[:, :labelled], points[row["image"]]))
    fields.sort(key=lambda f: tuple(-sum(p[2] == name for p in f.points) for name in RARE))
    return fields[: len(places())]


def places() -> list[tuple[int, int]]:
    """Return (column, row) of the places of the layout: a grid without its corners, as a smear is rounded."""
    corners = {(c, r) for c in (0, COLUMNS - 1) for r in (0, ROWS - 1)}
    return [(c, r) for r in range(ROWS) for c in range(COLUMNS) if (c, r) not in corners]


def compose(fields: list[Field], rng: Rng) -> tuple[NDArray[np.uint8], list[tuple[float, float, str]]]:
    """Lay the fields out; return the slide, uint8 (h, w, 3), and its nuclei."""
    width, height = (
        -(-(count * pitch + 2 * MARGIN) // TILE) * TILE for count, pitch in zip((COLUMNS, ROWS), PITCH, strict=True)
    )
    order = rng.permutation(len(places()))[: len(fields)]
    corners = []
    for (column, row), field in zip((places()[i] for i in order), fields, strict=True):
        spare = np.array(PITCH) - field.pixels.shape[1::-1]
        shift = rng.uniform(0, spare)
        sway = 140 * np.sin(column * 1.7 + 0.5)  # columns stand at different heights, so that no rows are seen
        corners.append((int(MARGIN + column * PITCH[0] + shift[0]), int(MARGIN + row * PITCH[1] + shift[1] + sway)))
    canvas = glass_between(width, height, fields, corners)
    points = []
    for field, (left, top) in zip(fields, corners, strict=True):
        h, w = field.pixels.shape[:2]
        opacity = soft_edges(field, rng)
        under = canvas[top : top + h, left : left + w]
        under += opacity[..., None] * (field.pixels - under)
        points += [
            (left + x, top + y, name)
            for x, y, name in field.points
            if opacity[min(h - 1, round(y)), min(w - 1, round(x))] > 0.9
        ]
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), points


def glass_between(width: int, height: int, fields: list[Field], corners: list[tuple[int, int]]) -> FloatImage:
    """Return empty glass, float32 (height, width, 3), that has each field's own colour where the field lies."""
    step = 32
    y, x = np.mgrid[0:height:step, 0:width:step].astype(np.float32) + step / 2
    total = np.zeros((*x.shape, 3), np.float32)
    weights = np.zeros((*x.shape, 1), np.float32)
    for field, (left, top) in zip(fields, corners, strict=True):
        h, w = field.pixels.shape[:2]
        away_x = np.maximum(np.abs(x - left - w / 2) - w / 2, 0)
        away_y = np.maximum(np.abs(y - top - h / 2) - h / 2, 0)
        weight = 1 / ((np.hypot(away_x, away_y) + 60) ** 2)[..., None]
        total += weight * field.glass
        weights += weight
    return enlarge(total / weights, height, width)


def soft_edges(field: Field, rng: Rng) -> FloatImage:
    """Return how much of each pixel of the field shows, float32 (h, w) in [0, 1]: ragged, but around its nuclei."""
    h, w = field.pixels.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    inward = np.minimum(np.minimum(x, w - 1 - x), np.minimum(y, h - 1 - y))
    radius = 160.0  # of the corners
    corner_x, corner_y = np.maximum(radius - np.minimum(x, w - x), 0), np.maximum(radius - np.minimum(y, h - y), 0)
    inward = np.where((corner_x > 0) & (corner_y > 0), radius - np.hypot(corner_x, corner_y), inward)
    coarse, fine = (enlarge(rng.random((h // s + 2, w // s + 2, 1), np.float32), h, w)[..., 0] for s in (190, 60))
    opacity = fade((inward - RAGGED * (0.65 * coarse + 0.35 * fine)) / SOFT)
    for px, py, _ in field.points:
        opacity = np.maximum(opacity, fade((KEEP + SOFT - np.hypot(x - px, y - py)) / SOFT))
    return opacity * fade(np.minimum(np.minimum(x, w - 1 - x), np.minimum(y, h - 1 - y)) / 10)


def fade(t: FloatImage) -> FloatImage:
    """Return 0 below 0, 1 above 1, and a smooth step between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def enlarge(small: FloatImage, height: int, width: int) -> FloatImage:
    """Return float32 (h, w, n) smoothly resized."""
    bands = [
        Image.fromarray(np.ascontiguousarray(small[..., i])).resize((width, height), Image.Resampling.BICUBIC)
        for i in range(small.shape[2])
    ]
    return np.stack([np.asarray(b) for b in bands], axis=2)


def write_slide(path: Path, canvas: NDArray[np.uint8], quality: int) -> int:
    """Write the pyramid and return the size of the file in bytes."""
    height, width = canvas.shape[:2]
    description = DESCRIPTION.format(width=width, height=height, quality=quality, mpp=MPP)
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(halvings(canvas)):
            per_cm = 10_000 / (MPP * 2**index)
            tiff.write(
                level,
                # "rgb" is what goes in; tifffile stores YCbCr. With "ycbcr" the colours would be false.
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": quality},
                tile=(TILE, TILE),
                subfiletype=int(index > 0),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                description=description,
                metadata=None,
                software=False,
            )
    return path.stat().st_size


def halvings(canvas: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the levels: each the area mean of the one before, halved, until no side is above 1024 pixels."""
    levels = [canvas]
    while max(levels[-1].shape) > 1024:
        levels.append(np.asarray(Image.fromarray(levels[-1]).reduce(2)))
    return levels


if __name__ == "__main__":
    main()
