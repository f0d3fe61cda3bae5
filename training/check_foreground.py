"""Measure what the foreground keeps and what it skips, on labelled fields laid on empty glass.

    python training/check_foreground.py --data DIR

DIR is laid out as the CRIC data: `images/`, `images.csv`, `points.csv`. The fields are laid apart from each other, as
they are, on glass of their own colours and on glass of one colour; then strokes of a pen, bubbles and an edge of the
coverslip are drawn over that. Prints the share of labelled nuclei that are kept, of the slide's area that is skipped,
and of the drawn marks that are skipped. Nuclei that a drawing hides or touches (nearer than 30 µm) are not counted.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from make_sample_slide import Field, glass_between, write_slide
from PIL import Image, ImageDraw

from napari_cervcell.slides import foreground, open_slide

COLUMNS, ROWS, PITCH = 7, 6, (850, 700)
SHRUNK = 2  # by this the fields are made smaller, as no level that fine is looked at
MPP = 0.25 * SHRUNK
TOUCHING = 30  # µm
ONE_GLASS = (244, 247, 248)
INKS = {"blue": (40, 60, 170), "green": (30, 120, 70), "black": (35, 35, 40), "red": (190, 30, 45)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images/, images.csv and points.csv")
    fields = read_fields(parser.parse_args().data)
    batches = [fields[i : i + COLUMNS * ROWS] for i in range(0, len(fields), COLUMNS * ROWS)]
    for own_glass in (True, False):
        for drawn in (False, True):
            kept = nuclei = 0
            shares, skipped = [], []
            for batch in batches:
                canvas, points, corners = lay_out(batch, own_glass)
                hidden = draw_marks(canvas) if drawn else np.zeros(canvas.shape[:2], np.bool_)
                with tempfile.TemporaryDirectory() as folder:
                    write_slide(Path(folder) / "fields.tiff", canvas, 90)
                    with open_slide(Path(folder) / "fields.tiff", mpp=MPP) as slide:
                        found = foreground(slide)
                reach = int(TOUCHING / MPP)
                seen = [
                    (x, y)
                    for x, y in points
                    if not hidden[
                        max(0, int(y) - reach) : int(y) + reach, max(0, int(x) - reach) : int(x) + reach
                    ].any()
                ]
                kept += sum(found.covers(x, y, x + 1, y + 1) for x, y in seen)
                nuclei += len(seen)
                shares.append(1 - found.share)
                if drawn:
                    step = int(found.downsample)
                    over_field = np.zeros(hidden.shape, np.bool_)
                    for (x, y), field in zip(corners, batch, strict=True):
                        over_field[y : y + field.pixels.shape[0], x : x + field.pixels.shape[1]] = True
                    judged = (hidden & ~over_field)[step // 2 :: step, step // 2 :: step]
                    mask = found.mask[: judged.shape[0], : judged.shape[1]]
                    skipped.append((judged[: mask.shape[0], : mask.shape[1]] & ~mask).sum() / judged.sum())
            glass = "its own glass" if own_glass else "one glass"
            text = f"{glass}{', with marks' if drawn else ''}: {kept} of {nuclei} nuclei kept ({kept / nuclei:.2%}), "
            text += f"{np.mean(shares):.1%} of the area skipped"
            print(text + (f", {np.mean(skipped):.1%} of the marks skipped" if drawn else ""), flush=True)


def read_fields(data: Path) -> list[Field]:
    points: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    with (data / "points.csv").open() as file:
        for row in csv.DictReader(file):
            points[row["image"]].append((float(row["x"]) / SHRUNK, float(row["y"]) / SHRUNK, row["class"]))
    return [
        Field(name, np.asarray(Image.open(data / "images" / name).convert("RGB").reduce(SHRUNK), np.float32), nuclei)
        for name, nuclei in sorted(points.items())
    ]


def lay_out(fields: list[Field], own_glass: bool) -> tuple[np.ndarray, list[tuple[float, float]], list]:
    """Return the slide, uint8 (h, w, 3), its nuclei and where the fields' upper left corners lie."""
    width, height = COLUMNS * PITCH[0], ROWS * PITCH[1]
    corners = [(i % COLUMNS * PITCH[0] + 100, i // COLUMNS * PITCH[1] + 100) for i in range(len(fields))]
    if own_glass:
        canvas = glass_between(width, height, fields, corners).clip(0, 255).astype(np.uint8)
    else:
        canvas = np.full((height, width, 3), ONE_GLASS, np.uint8)
    points = []
    for (x, y), field in zip(corners, fields, strict=True):
        canvas[y : y + field.pixels.shape[0], x : x + field.pixels.shape[1]] = field.pixels
        points += [(x + px, y + py) for px, py, _ in field.points]
    return canvas, points, corners


def draw_marks(canvas: np.ndarray) -> np.ndarray:
    """Draw over `canvas`, uint8 (h, w, 3), as light would have it; return what is hidden, bool (h, w)."""
    height, width = canvas.shape[:2]
    rng = np.random.default_rng(3)
    hidden = np.zeros((height, width), np.bool_)

    def add(shape: Image.Image, colour: tuple[int, int, int], strength: float) -> None:
        opacity = np.asarray(shape.resize((width, height), Image.Resampling.BICUBIC), np.float32)[..., None] / 255
        grain = 1 + 0.05 * rng.standard_normal((height // 64 + 1, width // 64 + 1)).astype(np.float32)
        opacity *= strength * np.asarray(Image.fromarray(grain).resize((width, height)))[..., None]
        light = np.array(colour, np.float32) / 255
        canvas[:] = (canvas * np.exp(np.log(light) * opacity)).clip(0, 255)
        np.logical_or(hidden, opacity[..., 0] > 0.25, out=hidden)

    def blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
        image = Image.new("L", (width // 8, height // 8))
        return image, ImageDraw.Draw(image)

    for i, colour in enumerate(INKS.values()):
        image, draw = blank()
        x = (1.2 + 1.6 * i) * PITCH[0] / 8
        points = [(x + 30 * np.sin(y / 75 + i), y) for y in range(0, height // 8, 20)]
        draw.line(points, fill=255, width=int(240 / MPP / 8), joint="curve")
        add(image, colour, 1.0)
    image, draw = blank()
    for x, y, radius in ((300, 250, 340), (1150, 900, 400), (4500, 2150, 700), (2500, 3800, 500)):
        box = [(v) / 8 for v in (x - radius / MPP, y - radius / MPP, x + radius / MPP, y + radius / MPP)]
        draw.ellipse(box, outline=255, width=int(32 / MPP / 8))
    add(image, (70, 72, 75), 0.8)
    image, draw = blank()
    draw.line([(0, height / 8 * 0.05), (width / 8, height / 8 * 0.03)], fill=255, width=int(24 / MPP / 8))
    add(image, (120, 124, 126), 0.8)
    return hidden


if __name__ == "__main__":
    main()
