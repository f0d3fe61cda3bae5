"""Fields: images with what is known of the cells in them, the one kind of thing that the trainer learns from."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import CervcellError
from ..taxonomy import Taxonomy

if TYPE_CHECKING:
    from .opinion import Opinion

__all__ = ["BOX_UM", "FIELD_MPP", "DataError", "Field", "class_names", "read_fields", "split_names"]

BOX_UM = 15.0
"""Side of the box drawn around a cell of which only the centre is known, µm."""

FIELD_MPP = 0.25
"""µm per px of a field image that does not say."""

# what comes of a table or a JSON file that is not as it should be; TypeError also where a line is cut short
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError, csv.Error)


class DataError(CervcellError):
    """A folder of labelled fields is missing a part or holds something unreadable."""


def _no_boxes() -> NDArray[np.float32]:
    return np.zeros((0, 4), np.float32)


@dataclass(slots=True)
class Field:
    """An image, and what is known of it.

    Attributes
    ----------
    name : str
    rgb : uint8 (h, w, 3)
    mpp : float
        µm per px of `rgb`.
    boxes : float32 (n, 4), labels : int16 (n,)
        Known cells (P), px of `rgb`, and their class indices.
    rejected : float32 (k, 4)
        Places known to hold no cell although a model thought so (N, hard negatives).
    checked : float32 (m, 4)
        Rectangles in which every cell is labelled; all else in the image is unknown (U).
    left_out : float32 (j, 4)
        Places that say nothing to the trainer, e.g. corrections held back to judge the model.
    opinion : Opinion, optional
        What a teacher thinks of it.
    withheld : float32 (i, 4)
        Those of the places left out that are cells in the image, as far as anybody knows; they count as not labelled.
    """

    name: str
    rgb: NDArray[np.uint8]
    mpp: float
    boxes: NDArray[np.float32]
    labels: NDArray[np.int16]
    rejected: NDArray[np.float32] = field(default_factory=_no_boxes)
    checked: NDArray[np.float32] = field(default_factory=_no_boxes)
    left_out: NDArray[np.float32] = field(default_factory=_no_boxes)
    opinion: Opinion | None = None
    withheld: NDArray[np.float32] = field(default_factory=_no_boxes)


def read_fields(folder: str | Path, taxonomy: Taxonomy, names: Sequence[str] | None = None) -> list[Field]:
    """Read the labelled fields in `folder`; `names` limits them to these image files.

    The folder holds ``images/`` and either ``images.csv`` with ``points.csv`` (columns image, class, x, y; a field is
    annotated up to its column ``annotated_x_max``, and a column ``mpp`` says its µm per px where that is not 0.25) or
    one COCO ``.json``. Raises DataError.
    """
    folder = Path(folder)
    if not os.path.isdir(folder / "images"):
        raise DataError(f"{folder} has no folder images/. Give a folder with images/ and points.csv or a COCO file.")
    if os.path.isfile(folder / "points.csv") and os.path.isfile(folder / "images.csv"):
        entries = _read_points(folder, taxonomy)
    else:
        found = sorted(folder.glob("*.json"))
        if not found:
            raise DataError(f"{folder} has neither images.csv with points.csv nor a COCO .json file.")
        entries = _read_coco(found[0], taxonomy)
    wanted = set(names) if names is not None else None
    fields = []
    for name, (boxes, labels, x_max, mpp) in entries.items():
        if wanted is not None and name not in wanted:
            continue
        path = folder / "images" / name
        try:
            with Image.open(path) as image:
                if image.mode == "F" or image.mode.startswith("I"):  # which Pillow would cut off at 255
                    raise DataError(f"{path} has more than 8 bits a pixel. Convert it to RGB of 8 bits first.")
                rgb = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise DataError(f"Cannot read the image {path}: {error}.") from None
        height, width = rgb.shape[:2]
        _check_inside(boxes, width, height, path)
        checked = np.array([[0, 0, width if x_max is None else x_max, height]], np.float32)
        fields.append(
            Field(
                name,
                rgb,
                mpp,
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array(labels, np.int16),
                checked=checked,
            )
        )
    if not fields:
        raise DataError(f"{folder} lists no image to read.")
    return fields


_Entry = tuple[list[list[float]], list[int], float | None, float]


def _check_inside(boxes: list[list[float]], width: int, height: int, path: Path) -> None:
    """Raise DataError for a cell that lies nowhere in its image."""
    for x1, y1, x2, y2 in boxes:
        if not (x2 >= 0 and y2 >= 0 and x1 <= width and y1 <= height):  # no number is nowhere, too
            raise DataError(
                f"A cell of {path} is labelled at ({(x1 + x2) / 2:.0f}, {(y1 + y2) / 2:.0f}), outside of the image "
                f"({width} x {height} px). Correct it or take it out."
            )


def _label(taxonomy: Taxonomy, name: str, where: Path) -> int:
    try:
        return taxonomy.index(name)
    except KeyError as error:
        raise DataError(f"{where}: {error.args[0]}.") from None


def _read_points(folder: Path, taxonomy: Taxonomy) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    try:
        with (folder / "images.csv").open(newline="", encoding="utf-8-sig") as f:
            for row in csv.DictReader(f):
                x_max = row.get("annotated_x_max")
                mpp = float(row.get("mpp") or FIELD_MPP)
                if not 0 < mpp < math.inf:
                    raise ValueError(f"{row['image']} has {mpp} µm per px")
                entries[row["image"]] = ([], [], float(x_max) if x_max else None, mpp)
        with (folder / "points.csv").open(newline="", encoding="utf-8-sig") as f:
            for row in csv.DictReader(f):
                x, y = float(row["x"]), float(row["y"])
                boxes, labels, _, mpp = entries[row["image"]]
                half = BOX_UM / mpp / 2
                boxes.append([x - half, y - half, x + half, y + half])
                labels.append(_label(taxonomy, row["class"], folder / "points.csv"))
    except _UNREADABLE as error:
        raise DataError(f"{folder}: images.csv or points.csv is not as expected ({error!r}).") from None
    return entries


def _read_coco(path: Path, taxonomy: Taxonomy) -> dict[str, _Entry]:
    try:
        coco: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        classes = {c["id"]: c["name"] for c in coco["categories"]}
        files = {i["id"]: Path(i["file_name"]).name for i in coco["images"]}
        if len(set(files.values())) < len(files):
            raise ValueError("two images have the same name")
        entries: dict[str, _Entry] = {name: ([], [], None, FIELD_MPP) for name in files.values()}
        for annotation in coco["annotations"]:
            if annotation.get("iscrowd"):
                continue  # a box around many
            x, y, w, h = map(float, annotation["bbox"])
            if not (math.isfinite(x + y + w + h) and w >= 0 and h >= 0):
                raise DataError(
                    f"{path} gives a cell in {files[annotation['image_id']]} the box {annotation['bbox']}, which is no "
                    "x, y, width, height. Correct it or take it out."
                )
            boxes, labels, _, _ = entries[files[annotation["image_id"]]]
            boxes.append([x, y, x + w, y + h])
            labels.append(_label(taxonomy, classes[annotation["category_id"]], path))
    except _UNREADABLE as error:
        raise DataError(f"{path} is not a COCO file ({error!r}).") from None
    return entries


def split_names(table: str | Path, split: str) -> list[str]:
    """Return the images whose column ``split`` in the CSV file `table` is `split`. Raises DataError."""
    try:
        with Path(table).open(newline="", encoding="utf-8-sig") as f:
            names = [row["image"] for row in csv.DictReader(f) if row["split"] == split]
    except _UNREADABLE as error:
        raise DataError(f"Cannot read the columns image and split of {table} ({error!r}).") from None
    if not names:
        raise DataError(f"{table} has no image of the split {split!r}.")
    return names


def class_names(folder: str | Path) -> list[str]:
    """Return the classes that the labelled fields in `folder` name; see :func:`read_fields`. Raises DataError."""
    folder = Path(folder)
    points = folder / "points.csv"
    path = points if os.path.isfile(points) else next(iter(sorted(folder.glob("*.json"))), points)
    try:
        if path == points:
            with path.open(newline="", encoding="utf-8-sig") as f:
                return sorted({row["class"] for row in csv.DictReader(f)})
        coco: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        used = {a["category_id"] for a in coco["annotations"]}
        return [str(c["name"]) for c in coco["categories"] if c["id"] in used]
    except FileNotFoundError:
        raise DataError(f"{folder} has neither images.csv with points.csv nor a COCO .json file.") from None
    except _UNREADABLE as error:
        raise DataError(f"Cannot read the classes in {path} ({error!r}).") from None
