"""Which cells the gallery shows, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..cells import FloatArray, IntArray
from ..taxonomy import Taxonomy
from .contradiction import DOUBTED, contradictions
from .likeness import likeness
from .looks import LooksStore
from .strategies import rarity, worth_asking
from .table import CellTable
from .verdicts import ReviewError

__all__ = ["Choice", "Sheet", "Snapshot"]

Order = Literal["score", "asking", "size", "likeness"]
Reviewed = Literal["all", "new", "reviewed", "second look"]


@dataclass(frozen=True)
class Choice:
    """What the reviewer wants to see in the gallery.

    Attributes
    ----------
    order : str
        "score": what the model is surest of first; "asking": what is most worth asking; "size": the largest;
        "likeness": what looks most like the cell `like`.
    like : int or None
        The row of that cell.
    split : bool
        Whether each class is a part of its own, the most severe first.
    reviewed : str
        "all", "new", "reviewed", or "second look": reviewed cells that a later model calls something else, or holds
        what was said of them for less likely than not. What it is most against comes first, unless the order is by
        size or likeness.
    classes : tuple of bool, or None
        Of which classes; None: of all.
    region : (x1, y1, x2, y2) or None
        Only cells centred in this rectangle, level-0 px.
    """

    order: Order = "score"
    like: int | None = None
    split: bool = True
    reviewed: Reviewed = "all"
    classes: tuple[bool, ...] | None = None
    region: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Snapshot:
    """Copies of what a sheet is made from, so that it can be made in a thread while the sitting goes on."""

    boxes: FloatArray
    labels: NDArray[np.int16]
    scores: FloatArray
    class_scores: FloatArray
    answers: FloatArray
    states: NDArray[np.int8]
    disagrees: NDArray[np.bool_]
    against: FloatArray
    models: NDArray[np.int16]
    partners: IntArray
    looks: LooksStore
    threshold: float
    taxonomy: Taxonomy

    @classmethod
    def of(cls, table: CellTable, threshold: float, taxonomy: Taxonomy) -> Snapshot:
        box, label, score, class_score, answer, state, disagrees, model, partner = (
            table.rows[name].copy()
            for name in ("box", "label", "score", "class_score", "answer", "state", "disagrees", "model", "partner")
        )
        against = np.zeros(len(table.rows), np.float32)
        said = table.annotations
        against[table.rows_of(said.ids.tolist())] = contradictions(table, said, len(taxonomy))
        shown = box, label, score, class_score, answer, state, disagrees, against, model, partner
        return cls(*shown, table.looks, threshold, taxonomy)


@dataclass(frozen=True)
class Sheet:
    """Rows of the session in the order in which the gallery shows them.

    Attributes
    ----------
    rows : int64 (n,)
    labels : list of int
        The class of each part, -1 for all classes together.
    starts : int64 (parts + 1,)
        Part i is ``rows[starts[i]:starts[i + 1]]``.
    """

    rows: IntArray
    labels: list[int]
    starts: IntArray

    @classmethod
    def of(cls, snapshot: Snapshot, choice: Choice) -> Sheet:
        """Choose and sort the cells of `snapshot`.

        By likeness they come last of which it is not known. Raises CaseError, and ReviewError where it is not known
        what the cell to be like looks like.
        """
        s = snapshot
        wanted = (s.states > 0) | ((s.states == 0) & (s.scores >= s.threshold))
        if choice.reviewed == "second look":
            wanted &= s.disagrees | (s.against >= DOUBTED)
        elif choice.reviewed != "all":
            wanted &= (s.states == 0) if choice.reviewed == "new" else (s.states > 0)
        if choice.classes is not None:
            wanted &= np.append(choice.classes, True)[s.labels]
        if choice.region is not None:
            x1, y1, x2, y2 = choice.region
            x, y = ((s.boxes[:, i] + s.boxes[:, i + 2]) / 2 for i in (0, 1))
            wanted &= (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
        rows = np.flatnonzero(wanted)
        key = _likeness(s, rows, choice.like) if choice.order == "likeness" else _key(s, rows, choice)
        labels = s.labels[rows]
        if not choice.split:
            return cls(rows[np.argsort(-key, kind="stable")], [-1], np.array([0, len(rows)], np.int64))
        ranks = [c.rank for c in s.taxonomy.classes] + [-1]  # the last, which is -1 too, for cells of no class
        parts = sorted(np.unique(labels).tolist(), key=lambda label: -ranks[label])
        sorted_rows, starts = [], [0]
        for label in parts:
            mine = np.flatnonzero(labels == label)
            sorted_rows.append(rows[mine[np.argsort(-key[mine], kind="stable")]])
            starts.append(starts[-1] + len(mine))
        return cls(np.concatenate([*sorted_rows, np.zeros(0, np.int64)]), parts, np.array(starts, np.int64))


def _likeness(s: Snapshot, rows: IntArray, like: int | None) -> FloatArray:
    """Return float32 (n,), how like the cell in the row `like` those in `rows` are; -2 where it is not known."""
    of_all = np.full(len(s.labels), -2, np.float32)
    if like is not None:
        sources = np.where(s.partners >= 0, s.partners, np.arange(len(s.partners)))
        source = int(sources[like])
        known, looks = s.looks.of(int(s.models[source]))
        at = np.flatnonzero(known == source)
        if len(at):
            inside = known < len(of_all)  # more may have been found meanwhile
            of_all[known[inside]] = likeness(looks, looks[at[0]])[inside]
            of_all[source] = 2.0  # itself first, also before its like to the last digit
            return of_all[sources[rows]]
    raise ReviewError(
        "It is not known what this cell looks like: it was found by a model that does not say, or was added by hand. "
        "Detect cells with the standard model, or choose another cell."
    )


def _key(s: Snapshot, rows: IntArray, choice: Choice) -> FloatArray:
    """Return float32 (n,), by which `rows` are sorted, the greatest first."""
    answers, class_scores = s.answers[rows], s.class_scores[rows]
    scores = np.where(np.isnan(answers), s.scores[rows], answers)
    if choice.order == "size":
        sides = s.boxes[rows, 2:] - s.boxes[rows, :2]
        area: FloatArray = sides[:, 0] * sides[:, 1]
        return area
    if choice.reviewed == "second look":
        return s.against[rows]
    # what a person said needs no asking, and is sure
    known = s.states[rows] > 0
    if choice.order == "score":
        return np.where(known | np.isnan(scores), np.float32(1), scores)
    labels = np.maximum(s.labels[rows], 0).astype(np.int64)
    doubt = np.nan_to_num(class_scores, nan=1.0)
    weights = rarity(labels, np.nan_to_num(scores), len(s.taxonomy))
    worth = worth_asking(labels, np.nan_to_num(scores, nan=1.0), doubt, weights, s.threshold)
    return np.where(known, np.where(s.disagrees[rows], np.float32(2), np.float32(-1)), worth)
