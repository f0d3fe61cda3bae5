"""The files that cells are exchanged in: GeoJSON as QuPath writes and reads it, COCO, CSV.

Each format has a writer and a reader of :class:`Row`. Readers raise ValueError, KeyError or TypeError on what they
cannot make sense of; :mod:`.exchange` turns these into messages. Nothing here can identify a patient: no slide or file
names, no reviewers, no times.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from ..taxonomy import Taxonomy

__all__ = ["FORMATS", "Format", "Row", "format_of"]

STATES = ("new", "accepted", "corrected", "rejected", "added")
"""What :class:`State` is called in files; "new" for a detection that nobody spoke of."""

_IGNORED = "Ignore*"  # the class that QuPath leaves out of every count
_REJECTED = "rejected"
_COLUMNS = ("x", "y", "x1", "y1", "x2", "y2", "class", "state", "score", "class_score", "detected_class")


@dataclass(frozen=True, slots=True)
class Row:
    """One cell in a file.

    `box` is (x1, y1, x2, y2) in level-0 pixels, of no size where the file has but a point; `label` and
    `detected_label` are -1, the scores NaN, where there is none.
    """

    box: tuple[float, float, float, float]
    label: int
    state: str
    score: float
    class_score: float
    detected_label: int


def _color(hexadecimal: str) -> list[int]:
    return [int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)]


def _index(taxonomy: Taxonomy, name: object) -> int:
    return -1 if name is None or name == "" else taxonomy.index(str(name))


def _name(taxonomy: Taxonomy, label: int) -> str:
    return "" if label < 0 else taxonomy[label].name


def _number(value: object) -> float:
    return math.nan if value is None or value == "" else float(str(value))


def _known(**values: float | str) -> dict[str, Any]:
    """Drop what is empty or no number."""
    return {k: v for k, v in values.items() if v != "" and v == v}


def _row(
    taxonomy: Taxonomy, box: tuple[float, float, float, float], name: object, extra: Mapping[str, Any], added: bool
) -> Row:
    """Make a row of what the formats share; `added`: whether a cell of no stated state was marked by hand."""
    state = extra.get("state") or ("added" if added else "new")
    if state not in STATES:
        raise ValueError(f"there is no state {state!r}: it is one of {', '.join(STATES)}")
    label = _index(taxonomy, name)
    if label < 0 and state != "rejected":
        raise ValueError("a cell has no class")
    detected = _index(taxonomy, extra.get("detected_class"))
    if state == "new" and detected not in (-1, label):
        state = "corrected"  # it went out as a detection, and somebody has given it another class since
    if not (all(map(math.isfinite, box)) and box[0] <= box[2] and box[1] <= box[3]):
        raise ValueError(f"{box} is not a box")
    score, class_score = (_number(extra.get(key)) for key in ("score", "class_score"))
    if math.isinf(score) or math.isinf(class_score):
        raise ValueError("a score is infinite")
    return Row(box, label, state, score, class_score, detected)


def _classed(name: object, rejected: str, extra: dict[str, Any]) -> object:
    """Return the class of a cell in the class or category `name`, and set right in `extra` what contradicts that.

    The name is what other programs show and let people change, and so has the last word: a cell named `rejected` is
    rejected, whatever its class was, and one that went out as rejected and comes back with a class is a cell after all.
    """
    detected = extra.get("detected_class")
    if name == rejected:
        extra["state"] = "rejected"
        return extra.get("class") or detected
    if extra.get("state") == "rejected":
        extra["state"] = "corrected" if detected else "added"
    return name


# GeoJSON. What QuPath has no word for goes to measurements (numbers) and metadata (text): it keeps both.


def write_geojson(rows: Iterable[Row], file: TextIO, taxonomy: Taxonomy, size: tuple[int, int]) -> None:
    file.write('{"type": "FeatureCollection", "features": [')
    separator = "\n"
    for row in rows:
        x1, y1, x2, y2 = row.box
        rejected = row.state == "rejected"
        name = _name(taxonomy, row.label)
        color = [128, 128, 128] if rejected else _color(taxonomy[row.label].color)
        metadata = _known(
            state=row.state, detected_class=_name(taxonomy, row.detected_label), **({"class": name} if rejected else {})
        )
        properties = {
            "objectType": "detection" if row.state == "new" else "annotation",
            "classification": {"name": _IGNORED if rejected else name, "color": color},
            "measurements": _known(score=row.score, class_score=row.class_score),
            "metadata": metadata,
        }
        ring = [[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        feature = {"type": "Feature", "geometry": geometry, "properties": properties}
        file.write(separator + json.dumps(feature, allow_nan=False))
        separator = ",\n"
    file.write("\n]}\n")


def read_geojson(file: TextIO, taxonomy: Taxonomy) -> Iterator[Row]:
    data = json.load(file)
    for feature in data["features"] if isinstance(data, dict) else data:
        if feature.get("type") != "Feature":
            raise ValueError("it holds something that is no feature of GeoJSON")
        properties = feature.get("properties") or {}
        classification = properties.get("classification")
        if not classification:
            continue  # a region that somebody drew, not a cell
        measurements = properties.get("measurements") or {}
        if isinstance(measurements, list):  # QuPath before 0.4
            measurements = {m["name"]: m["value"] for m in measurements}
        extra = {**measurements, **(properties.get("metadata") or {})}
        name = _classed(classification["name"], _IGNORED, extra)
        added = properties.get("objectType", "annotation") == "annotation"
        geometry = feature["geometry"]
        coordinates = geometry["coordinates"]
        for outline in coordinates if geometry["type"] == "MultiPoint" else [coordinates]:  # many points, many cells
            points = list(_points(outline))
            if not points:
                raise ValueError("an outline has no points")
            xs, ys = [p[0] for p in points], [p[1] for p in points]
            yield _row(taxonomy, (min(xs), min(ys), max(xs), max(ys)), name, extra, added)


def _points(coordinates: list[Any]) -> Iterator[tuple[float, float]]:
    if coordinates and isinstance(coordinates[0], (int, float)):
        yield float(coordinates[0]), float(coordinates[1])
    else:
        for part in coordinates:
            yield from _points(part)


# COCO. Rejected cells have a category of their own, so that nobody trains on them as cells by mistake.


def write_coco(rows: Iterable[Row], file: TextIO, taxonomy: Taxonomy, size: tuple[int, int]) -> None:
    categories = [{"id": 0, "name": _REJECTED}]
    categories += [{"id": i, "name": c.name, "supercategory": c.group} for i, c in enumerate(taxonomy.classes, 1)]
    image = {"id": 1, "file_name": "slide", "width": size[0], "height": size[1]}
    file.write(f'{{"images": [{json.dumps(image)}],\n"categories": {json.dumps(categories)},\n"annotations": [')
    separator = "\n"
    for number, row in enumerate(rows, 1):
        x1, y1, x2, y2 = row.box
        w, h = round(x2 - x1, 2), round(y2 - y1, 2)
        rejected = row.state == "rejected"
        annotation = {
            "id": number,
            "image_id": 1,
            "category_id": 0 if rejected else row.label + 1,
            "bbox": [x1, y1, w, h],
            "area": round(w * h, 2),
            "iscrowd": 0,
            "state": row.state,
            **_known(score=row.score, class_score=row.class_score, detected_class=_name(taxonomy, row.detected_label)),
            **({"class": _name(taxonomy, row.label)} if rejected else {}),
        }
        file.write(separator + json.dumps(annotation, allow_nan=False))
        separator = ",\n"
    file.write("\n]}\n")


def read_coco(file: TextIO, taxonomy: Taxonomy) -> Iterator[Row]:
    data = json.load(file)
    if len(data["images"]) > 1:
        raise ValueError(f"it is about {len(data['images'])} images, and a case is about one slide")
    categories = {c["id"]: c["name"] for c in data["categories"]}
    for annotation in data["annotations"]:
        extra = dict(annotation)
        name = _classed(categories[annotation["category_id"]], _REJECTED, extra)
        x, y, w, h = map(float, annotation["bbox"])
        yield _row(taxonomy, (x, y, x + w, y + h), name, extra, added="score" not in annotation)


# CSV. Only x, y and class are needed.


def write_csv(rows: Iterable[Row], file: TextIO, taxonomy: Taxonomy, size: tuple[int, int]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        x1, y1, x2, y2 = row.box
        scores = ["" if math.isnan(v) else v for v in (row.score, row.class_score)]
        names = _name(taxonomy, row.label), _name(taxonomy, row.detected_label)
        centre = round((x1 + x2) / 2, 2), round((y1 + y2) / 2, 2)
        writer.writerow([*centre, *row.box, names[0], row.state, *scores, names[1]])


def read_csv(file: TextIO, taxonomy: Taxonomy) -> Iterator[Row]:
    reader = csv.DictReader(file)
    if not {"x", "y", "class"} <= set(reader.fieldnames or ()):
        raise ValueError("its first line must name at least the columns x, y and class")
    for line in reader:
        try:
            if None in (line["x"], line["y"], line["class"]):
                raise ValueError("it is too short")
            x, y = float(line["x"]), float(line["y"])
            corners = [line.get(name) for name in ("x1", "y1", "x2", "y2")]
            x1, y1, x2, y2 = map(_number, corners) if all(corners) else (x, y, x, y)
            yield _row(taxonomy, (x1, y1, x2, y2), line["class"], line, added=not line.get("score"))
        except (ValueError, KeyError) as error:
            raise ValueError(f"line {reader.line_num}: {error.args[0]}") from None


@dataclass(frozen=True, slots=True)
class Format:
    """A writer (rows, file, taxonomy, (width, height) of the slide) and a reader (file, taxonomy)."""

    write: Callable[[Iterable[Row], TextIO, Taxonomy, tuple[int, int]], None]
    read: Callable[[TextIO, Taxonomy], Iterator[Row]]


FORMATS: Mapping[str, Format] = {
    "geojson": Format(write_geojson, read_geojson),
    "coco": Format(write_coco, read_coco),
    "csv": Format(write_csv, read_csv),
}


def format_of(name: str, head: str) -> str:
    """Tell the format of a file from its name and its first characters."""
    if name.lower().endswith((".geojson", ".csv")):
        return name.lower().rpartition(".")[2]
    if not head.lstrip().startswith(("{", "[")):
        return "csv"
    return "coco" if any(f'"{key}"' in head for key in ("images", "categories", "annotations")) else "geojson"
