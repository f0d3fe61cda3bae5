"""Cells out of a case and into it, as files of other programs. The formats themselves are in :mod:`.formats`."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cells import Cells
from ..files import refuse_database, spare_sources, written_whole
from .events import Kind, Verdict
from .formats import FORMATS, STATES, Row, format_of
from .matching import match, present_cells
from .store import CaseError

if TYPE_CHECKING:
    from .case import Case

__all__ = ["export_case", "import_cells"]

CELL_UM = 15.0  # the side of a cell of which a file gives only the centre
CELL_PX = 60.0  # the same where the slide has no scale

_KINDS: dict[str, Kind] = {"accepted": "accept", "corrected": "class", "rejected": "reject", "added": "add"}


def export_case(case: Case, path: str | Path, format: str) -> int:
    """Write all present cells, annotations and detections alike, each with its state.

    Parameters
    ----------
    case : Case
    path : str or Path
        Replaced where it exists, once the new file is whole.
    format : {"geojson", "coco", "csv"}

    Returns
    -------
    int
        How many cells the file has.

    Raises
    ------
    CaseError
    """
    if format not in FORMATS:
        raise CaseError(f"Cannot export to {path}: there is no format {format!r}, only {', '.join(FORMATS)}.")
    path = Path(path)
    spare_sources(path)
    rows = _rows_of(case)
    try:
        with written_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            FORMATS[format].write(rows, file, case.taxonomy, (case.width, case.height))
    except OSError as error:
        raise CaseError(f"Cannot export to {path}: {error.strerror or error}. Choose another place.") from None
    return len(rows)


def import_cells(case: Case, path: str | Path) -> int:
    """Bring in cells from a GeoJSON (QuPath), COCO or CSV file.

    Cells with a verdict become annotations, as verdicts of this case's reviewer and one step of undo; where one is
    an annotated cell already, the file's verdict is put on that cell if it says something else. The others become
    detections, unless they are present already; they stay until a model scans their place.

    Returns
    -------
    int
        How many cells were new or changed.

    Raises
    ------
    CaseError
        Where the file cannot be read or does not fit the slide or its classes; then nothing is brought in.
    """
    path = Path(path)
    rows = _read(case, path)
    spoken_of = [row for row in rows if row.state != "new"]
    return _import_verdicts(case, spoken_of) + _import_detections(case, [row for row in rows if row.state == "new"])


def _rows_of(case: Case) -> list[Row]:
    annotations = case.annotations()
    present = present_cells(case.detections().cells, annotations)
    cells = present.cells
    detected = cells.labels.copy()
    detected[: len(annotations)] = annotations.detected_labels
    columns = (
        # hundredths of a pixel: float32 holds no more on a large slide
        np.round(cells.boxes.astype(float), 2).tolist(),
        cells.labels.tolist(),
        present.states.tolist(),
        np.round(cells.scores.astype(float), 4).tolist(),
        np.round(cells.class_scores.astype(float), 4).tolist(),
        detected.tolist(),
    )
    return [Row(tuple(box), label, STATES[s], *rest) for box, label, s, *rest in zip(*columns, strict=True)]


def _read(case: Case, path: Path) -> list[Row]:
    """Return the rows of a file, those with but a centre widened to a box. Raises CaseError."""
    refuse_database(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            chosen = FORMATS[format_of(path.name, file.read(4096))]
            file.seek(0)
            rows = [_widened(row, case.mpp) for row in chosen.read(file, case.taxonomy)]
    except OSError as error:
        raise CaseError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from None
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
        csv.Error,
    ) as error:
        raise CaseError(f"Cannot import {path}: {_reason(error)}. Nothing was brought in.") from None
    for x1, y1, x2, y2 in (row.box for row in rows):
        if not (0 <= (x1 + x2) / 2 <= case.width and 0 <= (y1 + y2) / 2 <= case.height):
            raise CaseError(
                f"Cannot import {path}: a cell at {x1:.0f}, {y1:.0f} is outside the slide {case.slide_name} "
                f"({case.width} × {case.height} px). Is the file of another slide? Nothing was brought in."
            )
    return rows


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError) and " " not in str(error.args[0]):  # of a dict, and not of Taxonomy.index
        return f"it lacks {error.args[0]!r}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text file"
    if isinstance(error, (KeyError, ValueError, csv.Error)):
        return str(error.args[0])
    return "it is not in the form of its kind"


def _widened(row: Row, mpp: float | None) -> Row:
    x1, y1, x2, y2 = row.box
    if x1 < x2 or y1 < y2:
        return row
    half = (CELL_UM / mpp if mpp else CELL_PX) / 2
    box = (x1 - half, y1 - half, x1 + half, y1 + half)
    return Row(box, row.label, row.state, row.score, row.class_score, row.detected_label)


def _cells(rows: list[Row]) -> Cells:
    scores = np.array([(row.score, row.class_score) for row in rows], np.float32).reshape(-1, 2)
    boxes = np.array([row.box for row in rows], np.float32).reshape(-1, 4)
    # a file without scores is taken at its word
    return Cells(boxes, np.array([row.label for row in rows]), *np.nan_to_num(scores, nan=1.0).T)


def _import_verdicts(case: Case, rows: list[Row]) -> int:
    known, detections = case.annotations(), case.detections()
    boxes = _cells(rows).boxes
    partners = match(boxes, known.boxes).partners
    annotation_of = {int(row): a for a, row in enumerate(partners) if row >= 0}
    # the model that has found it is put to the test by such a verdict as by any other
    models = [detections.model_ids[run] for run in np.repeat(detections.runs, detections.counts).tolist()]
    found_by = [models[i] if i >= 0 else "" for i in match(detections.cells.boxes, boxes).partners.tolist()]
    verdicts = []
    for i, row in enumerate(rows):
        kind, cell = _KINDS[row.state], None
        if i in annotation_of:
            a = annotation_of[i]
            if known.labels[a] == row.label and (STATES[known.states[a]] == "rejected") == (kind == "reject"):
                continue
            cell = int(known.ids[a])
        score = math.nan if kind == "add" else row.score
        verdicts.append(Verdict(kind, row.box, row.label, cell, row.detected_label, score, found_by[i]))
    return len(case.record(verdicts))


def _import_detections(case: Case, rows: list[Row]) -> int:
    cells = _cells(rows)
    cells = cells[~match(cells.boxes, present_cells(case.detections().cells, case.annotations()).cells.boxes).covered]
    if len(cells):
        case.import_detections(cells)
    return len(cells)
