"""Finding cells with a small head on frozen features: what is known of each location, the head, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cervcell.cells import Cells, centres_of
from napari_cervcell.learning.evaluation import Judged, match_points, score_cells
from napari_cervcell.learning.fields import BOX_UM
from napari_cervcell.learning.targets import assign
from napari_cervcell.models import Decoded, decode_embedded
from napari_cervcell.models.heads import Dense

from .features import MPP, Sheet

__all__ = [
    "LOWEST",
    "Locations",
    "Stacked",
    "calibration_error",
    "decoded",
    "detect",
    "figures",
    "head",
    "judged",
    "locations",
    "logits_of",
    "peaks",
    "points_of",
]

_NONE = np.zeros((0, 4), np.float32)
_MOST = 1000  # locations of a field that may be in cells: lower ones would only cost time
LOWEST = 0.002  # where unknown counts as negative all scores sink, and their ranking should still be seen


@dataclass(slots=True)
class Locations:
    """Indices int64 into the stacked rows of some sheets; what lies in nobody's list is left out.

    `label` has the class of every one of `positive`.
    """

    positive: NDArray[np.int64]
    label: NDArray[np.int64]
    negative: NDArray[np.int64]
    unknown: NDArray[np.int64]


class Stacked:
    """The features of all locations of some sheets, one after the other, read from disk as they are asked for."""

    def __init__(self, sheets: Sequence[Sheet]) -> None:
        self.parts = [s.rows.reshape(-1, s.rows.shape[2]) for s in sheets]
        self.starts = np.cumsum([0, *(len(p) for p in self.parts)])
        self.width = self.parts[0].shape[1]

    def __getitem__(self, index: NDArray[np.int64]) -> Tensor:
        """Return the rows float32 (k, d) at `index` (k,)."""
        rows = np.empty((len(index), self.width), np.float32)
        part = np.searchsorted(self.starts, index, side="right") - 1
        for i in np.unique(part):
            mine = part == i
            rows[mine] = self.parts[i][index[mine] - self.starts[i]]
        return torch.from_numpy(rows)


def locations(
    sheets: Sequence[Sheet],
    kept: Sequence[NDArray[np.bool_]],
    rejected: Sequence[NDArray[np.float32]] | None = None,
    *,
    taken: Sequence[NDArray[np.float32]] | None = None,
    skipped: Sequence[NDArray[np.float32]] | None = None,
    checked: Sequence[bool] | None = None,
) -> Locations:
    """Return what is known where the cells `kept` (n,) of every sheet are labelled.

    Of every sheet `rejected` (k, 4) are places known to hold no cell, `taken` are held for cells (of class 0) and
    `skipped` left out, in px of the network's input; in one that is `checked` all that is no cell is known background.
    The strip of a field in which nobody labelled is left out.
    """
    parts: list[tuple[NDArray[np.int64], ...]] = []
    start = 0
    for i, sheet in enumerate(sheets):
        whole = sheet.checked if checked is not None and checked[i] else _NONE
        more = _NONE if taken is None else taken[i]
        target = assign(
            sheet.shape,
            np.concatenate([sheet.boxes[kept[i]], more]),
            np.concatenate([sheet.labels[kept[i]], np.zeros(len(more), np.int16)]),
            _NONE if rejected is None else rejected[i],
            whole,
            inside=sheet.checked[0],
            skipped=_NONE if skipped is None else skipped[i],
        )
        cell, label = target.cell.flatten().bool().numpy(), target.label.flatten().numpy()
        negative = target.known.flatten().numpy() & ~cell
        at = [np.flatnonzero(mask) for mask in (cell, negative, target.unknown.flatten().numpy())]
        parts.append((at[0] + start, label[at[0]], at[1] + start, at[2] + start))
        start += cell.size
    return Locations(*(np.concatenate(p) for p in zip(*parts, strict=True)))


def head(outputs: int, features: int, seed: int, width: int = 64, *, background: bool = False) -> nn.Sequential:
    """Return a fresh head on rows (n, features); cells are rare, and it begins by saying so.

    Its outputs are classifiers, each by itself; or with `background` those of a softmax, the last that of background.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Linear(features, width),
            nn.ReLU(),
            nn.Linear(width, width // 2),
            nn.ReLU(),
            nn.Linear(width // 2, outputs),
        )
        nn.init.constant_(module[-1].bias, -4.6)
        if background:
            nn.init.zeros_(module[-1].bias[-1:])
    return module


def logits_of(model: Callable[[Tensor], Tensor], sheet: Sheet) -> Tensor:
    """Return what `model`, from rows float32 (n, d) to (n, C), says everywhere in a sheet, float32 (C, h, w)."""
    h, w, d = sheet.rows.shape
    with torch.inference_mode():
        return model(torch.from_numpy(np.array(sheet.rows)).reshape(-1, d).float()).T.reshape(-1, h, w)


def decoded(logits: Tensor, sheet: Sheet, lowest: float) -> Cells:
    """Return the cells of a map of logits (h, w) in the annotated part of a sheet, boxes in px of the field's image."""
    half = torch.full((1, 4, *logits.shape), BOX_UM / MPP / 2)
    dense = Dense(logits[None], torch.zeros(1, 1, *logits.shape), half)
    return peaks(dense, lowest, sheet.checked[0]).cells.moved(0, 0, MPP / sheet.field.mpp)


def peaks(dense: Dense, lowest: float, annotated: NDArray[np.float32]) -> Decoded:
    """Return the cells that an answer of one image has in a rectangle (4,); px of the network's input."""
    most = float(torch.sigmoid(dense.cell.flatten().topk(min(_MOST, dense.cell.numel())).values[-1]))
    found = decode_embedded(dense, max(lowest, most))[0]
    x, y = found.cells.centres.T
    x1, y1, x2, y2 = annotated
    inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    return Decoded(*(of[inside] for of in found))


def detect(model: Callable[[Tensor], Tensor], sheet: Sheet, lowest: float = LOWEST) -> Cells:
    """Return what a head of one output finds in a sheet."""
    return decoded(logits_of(model, sheet)[0], sheet, lowest)


def figures(results: Sequence[tuple[Cells, NDArray[np.float32]]]) -> dict[str, float]:
    """Return AP, F1 at a score of 0.5, the best F1 and its score, recall at 0.5, and the calibration error.

    `results` has (cells, points (m, 2)) for each field, in px of its image. The calibration error is the mean
    difference between a detection's score and the share of hits among its like (ten bins, scores from 0.1 on).
    """
    said = score_cells([Judged(c, p, np.zeros(len(p), np.int16)) for c, p in results], ["cell"])
    scores = np.concatenate([c.scores for c, _ in results])
    hit = np.concatenate([match_points(c, p) >= 0 for c, p in results])
    points = sum(len(p) for _, p in results)
    sure = scores >= 0.5
    true = int((hit & sure).sum())
    return {
        "ap": said["ap"],
        "f1_at_half": 2 * true / max(int(sure.sum()) + points, 1),
        "best_f1": said["f1"],
        "at_score": said["threshold"],
        "recall_at_half": true / max(points, 1),
        "calibration_error": calibration_error(scores, hit),
    }


def calibration_error(scores: NDArray[np.floating], hit: NDArray[np.bool_], lowest: float = 0.1) -> float:
    """Return the mean difference between a score and the share of hits among its like: ten bins, from `lowest` on."""
    seen = scores >= lowest
    scores, hit = scores[seen], hit[seen]
    if not len(scores):
        return 1.0
    bins = np.minimum((scores * 10).astype(int), 9)
    gaps = [abs(scores[bins == b].mean() - hit[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(np.sum(gaps))


def points_of(sheet: Sheet) -> NDArray[np.float32]:
    """Return the labelled points (m, 2), px of the field's image."""
    return centres_of(sheet.field.boxes)


def judged(model: Callable[[Tensor], Tensor], sheets: Sequence[Sheet]) -> Mapping[str, float]:
    return figures([(detect(model, s), points_of(s)) for s in sheets])
