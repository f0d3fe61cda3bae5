"""How good a model is on labelled fields: finding cells, and naming those found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..cells import Cells, centres_of
from ..models import NOTHING, Decoded, Model, decode_embedded, predict, to_input
from ..models.heads import Dense
from .fields import Field
from .opinion import Opinion

__all__ = [
    "HIT_RADIUS",
    "Judged",
    "Look",
    "evaluate",
    "judged",
    "match_points",
    "opinion_of",
    "predict_embedded",
    "predict_field",
    "score_cells",
]

HIT_RADIUS = 24.0
"""A detection is a hit if the nearest unused point lies within so many px of the image as stored."""

Look = Callable[[NDArray[np.uint8]], Dense]
"""What computes: images uint8 (n, h, w, 3) in, what the model says of them out."""

_LOWEST = 0.02
_FAINTEST = 0.05  # from which a detection counts in recall, as in the detection toolbox that the papers used
_RIM = 32
"""Px of nothing that the network sees around a field, so that it knows where the field ends."""


def predict_field(model: Model, field: Field, threshold: float = _LOWEST, look: Look | None = None) -> Cells:
    """Return what `model` finds in the whole of `field`, boxes in px of the field's image; `look` as in `evaluate`."""
    return predict_embedded(model, field, threshold, look).cells


def predict_embedded(model: Model, field: Field, threshold: float = _LOWEST, look: Look | None = None) -> Decoded:
    """As :func:`predict_field`, with what else the model says of each cell; classes merged into others count as those,
    as on a slide."""
    dense, scale = _dense(model, field, look)
    height, width = field.rgb.shape[:2]
    cells, looks, of_each = decode_embedded(dense, threshold)[0]
    shares = np.zeros_like(of_each)
    np.add.at(shares.T, model.taxonomy.merged(np.arange(of_each.shape[1], dtype=np.int16)), of_each.T)
    labels = model.taxonomy.merged(cells.labels)
    found = Cells((cells.boxes - _RIM) * np.tile(scale, 2), labels, cells.scores, cells.class_scores)
    x, y = found.centres.T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return Decoded(found[inside], looks[inside], shares[inside])


def _dense(model: Model, field: Field, look: Look | None) -> tuple[Dense, NDArray[np.float32]]:
    """Return what `model` says of every location of `field`, and the field's px per px of the network's input (x, y).

    The field begins `_RIM` px of the network's input from the left and from the top.
    """
    height, width = field.rgb.shape[:2]
    shrink = model.mpp / field.mpp
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    small = np.asarray(Image.fromarray(field.rgb).resize(size, Image.Resampling.BILINEAR))
    padded = np.full((size[1] // 32 * 32 + 3 * _RIM, size[0] // 32 * 32 + 3 * _RIM, 3), NOTHING, np.uint8)
    padded[_RIM : _RIM + size[1], _RIM : _RIM + size[0]] = small
    with torch.inference_mode():
        dense = look(padded[None]) if look else predict(model.network, to_input(padded[None]))
    return dense, np.array([width / size[0], height / size[1]], np.float32)


def opinion_of(model: Model, field: Field) -> Opinion:
    """Return what `model` thinks of `field`, to teach another one; it looks at it as when it is measured."""
    dense, scale = _dense(model, field, None)
    return Opinion(dense.cell[0].float().numpy(), scale, _RIM)


def match_points(cells: Cells, points: NDArray[np.float32], radius: float = HIT_RADIUS) -> NDArray[np.int64]:
    """Match detections to points, highest score first, each point used once.

    Returns int64 (n,): for every cell the index of the nearest unused point within `radius` px, or -1.
    """
    matched = np.full(len(cells), -1, np.int64)
    free = np.asarray(np.isfinite(points).all(axis=1))
    centres = cells.centres
    for i in np.argsort(-cells.scores, kind="stable"):
        if not free.any():
            break
        distance = np.hypot(points[:, 0] - centres[i, 0], points[:, 1] - centres[i, 1])
        distance[~free] = np.inf
        j = int(np.argmin(distance))
        if distance[j] <= radius:
            matched[i], free[j] = j, False
    return matched


@dataclass(slots=True)
class _Curve:
    """Precision and recall as the threshold falls over detections sorted by score."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def ap(self) -> float:
        """Area under the precision envelope (every point, as VOC 2010 and later)."""
        if not len(self.recall):
            return 0.0
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(np.sum(np.diff(self.recall, prepend=0.0) * envelope))

    def recall_from(self, score: float) -> float:
        """Recall of the detections that reach `score`."""
        taken = int((self.scores >= score).sum())
        return float(self.recall[taken - 1]) if taken else 0.0


def _curve(scores: NDArray[np.floating[Any]], hit: NDArray[np.bool_], n: int) -> _Curve:
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(hit[order])
    precision = true / np.arange(1, len(order) + 1)
    recall = true / n if n else np.zeros(len(order))
    return _Curve(precision, recall, scores[order].astype(np.float64))


class Judged(NamedTuple):
    """Detections in the annotated part of a field, and its cells.

    Attributes
    ----------
    cells : Cells
        n of them, px of the field's image.
    points : float32 (m, 2)
    labels : int16 (m,)
    shares : float32 (n, C), optional
        How likely each detection is of each class; without them it is only told of the likeliest.
    """

    cells: Cells
    points: NDArray[np.float32]
    labels: NDArray[np.int16]
    shares: NDArray[np.float32] | None = None


def judged(model: Model, field: Field, look: Look | None = None, threshold: float = _LOWEST) -> Judged:
    """Return what `model` finds in the annotated part of `field` beside what is there."""
    cells, _, shares = predict_embedded(model, field, threshold, look)
    x, y = cells.centres.T
    x1, y1, x2, y2 = field.checked[0]
    inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    return Judged(cells[inside], centres_of(field.boxes), field.labels, shares[inside])


def score_cells(results: Sequence[Judged], names: Sequence[str]) -> dict[str, Any]:
    """Return the figures for detections against points, field by field.

    Parameters
    ----------
    results : sequence of Judged
        One entry a field.
    names : sequence of str
        The taxonomy's class names.

    Returns
    -------
    dict
        ``ap``, ``f1``, ``precision``, ``recall``, ``threshold`` (class ignored; the threshold is that of the best F1),
        ``balanced_accuracy`` (mean over classes of the share of found cells that got the right class),
        ``per_class`` (name -> ap, recall of found cells, n), ``mean_ap``, ``mean_ap_named`` and ``mean_recall`` (over
        the classes that are there), ``n_images``, ``n_cells``.

        A class's AP is that of VOC and COCO: every detection is ranked by how likely it is a cell of this class, and
        only cells of the class are hits. In ``mean_ap_named`` each detection counts for its likeliest class alone, as
        the window shows it: that falls short where a rare class is often second. ``mean_recall`` is what is printed
        beside VOC's AP, and what the papers give: of the cells of a class, those hit by a detection that is a cell of
        this class with a likelihood of 0.05 and more, whatever else is said of it.
    """
    scores = np.concatenate([np.zeros(0, np.float32), *(c.scores for c, *_ in results)])
    said = np.concatenate([np.zeros(0, np.int16), *(c.labels for c, *_ in results)])
    true = np.concatenate([np.zeros(0, np.int16), *(labels for _, _, labels, _ in results)])
    found = np.full(len(scores), -1, np.int64)  # index of the matched point over all fields
    offset = start = 0
    for cells, points, *_ in results:
        matched = match_points(cells, points)
        found[start : start + len(cells)] = np.where(matched >= 0, matched + offset, -1)
        start, offset = start + len(cells), offset + len(points)

    curve = _curve(scores, found >= 0, len(true))
    total = curve.precision + curve.recall
    f1 = np.divide(2 * curve.precision * curve.recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(np.argmax(f1)) if len(f1) else -1
    threshold = float(curve.scores[best]) if best >= 0 else 1.0

    taken = (found >= 0) & (scores >= threshold)
    per_class: dict[str, dict[str, float | int | None]] = {}
    recalls = []
    for c, name in enumerate(names):
        n = int((true == c).sum())
        mine = taken & (true[np.maximum(found, 0)] == c) if len(true) else taken
        recall = float((said[mine] == c).mean()) if mine.any() else (0.0 if n else None)
        if recall is not None:
            recalls.append(recall)
        per_class[name] = {"ap": None, "recall": recall, "n": n}
    curves = {c: _class_curve(results, c) for c, of in enumerate(per_class.values()) if of["n"]}
    for c, of_class in curves.items():
        per_class[names[c]]["ap"] = of_class.ap
    return {
        "ap": curve.ap,
        "f1": float(f1[best]) if best >= 0 else 0.0,
        "precision": float(curve.precision[best]) if best >= 0 else 0.0,
        "recall": float(curve.recall[best]) if best >= 0 else 0.0,
        "threshold": threshold,
        "balanced_accuracy": _mean(recalls),
        "mean_ap": _mean([of_class.ap for of_class in curves.values()]),
        "mean_ap_named": _mean([_class_curve(results, c, named=True).ap for c in curves]),
        "mean_recall": _mean([of_class.recall_from(_FAINTEST) for of_class in curves.values()]),
        "per_class": per_class,
        "n_images": len(results),
        "n_cells": len(true),
    }


def _class_curve(results: Sequence[Judged], c: int, named: bool = False) -> _Curve:
    """The curve of one class: detections ranked by cell score times class score, against only its points.

    If `named`, or where it is not known how likely they are of each class, only those that are likeliest of this one.
    """
    ranked, hits, n = [], [], 0
    for cells, points, labels, shares in results:
        if named or shares is None:
            mine = cells[cells.labels == c]
            mine.scores = mine.scores * mine.class_scores
        else:
            mine = replace(cells, scores=cells.scores * shares[:, c])
        ranked.append(mine.scores)
        hits.append(match_points(mine, points[labels == c]) >= 0)
        n += int((labels == c).sum())
    return _curve(np.concatenate(ranked), np.concatenate(hits), n)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def evaluate(
    model: Model,
    fields: Sequence[Field],
    on_field: Callable[[int, int], None] | None = None,
    look: Look | None = None,
) -> dict[str, Any]:
    """Run `model` over labelled fields and return the figures of :func:`score_cells`.

    Detections outside a field's annotated part do not count. `on_field` gets (done, total). `look` is `model` made
    ready for a device; plain torch in full precision by default.
    """
    results = []
    for i, field in enumerate(fields):
        results.append(judged(model, field, look))
        if on_field is not None:
            on_field(i + 1, len(fields))
    return score_cells(results, model.taxonomy.names)
