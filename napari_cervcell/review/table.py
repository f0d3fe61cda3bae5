"""The cells of a case as they now stand: what models found and what the reviewer said, merged and kept up to date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..casefile import Annotations, Case, Detections, match
from ..cells import Cells, FloatArray, IntArray, centres_of
from .committee import NO_LOOK, opinions
from .counts import tally
from .coverage import Coverage, Scanned
from .density import squares_of
from .looks import LooksStore
from .numbering import ModelNumbers
from .rows import GrowingIndex, Rows
from .sampling import lots_of, stratum_of
from .verdicts import ClassesChanged

__all__ = ["GONE", "CellTable"]

GONE = -1
"""State of a row that is no cell of its own (any more): replaced by a later model, taken back, or the same cell as one
that the reviewer has spoken of. No query returns it; it keeps its number, so that no other row's number changes."""

_NONE = np.zeros(0, np.int64)
_FOUND = ("found_label", "found_score", "found_class_score")

_COLUMNS: dict[str, NDArray[Any] | np.generic] = {
    "box": np.zeros(4, np.float32),
    "square": np.int32(-1),  # of the map of how many lie where, see :mod:`.density`
    # as shown
    "label": np.int16(-1),
    "score": np.float32(GONE),
    "class_score": np.float32(np.nan),
    "answer": np.float32(np.nan),  # the score as likeness moves it; see :mod:`.answers`
    "state": np.int8(GONE),
    "disagrees": np.bool_(False),
    # what the reviewer said
    "annotation": np.int32(-1),
    "told": np.int16(-1),  # the class that the model had given when the reviewer spoke
    # what a model found here; it keeps standing when the detection itself is replaced
    "found": np.bool_(False),
    "found_label": np.int16(-1),
    "found_score": np.float32(np.nan),
    "found_class_score": np.float32(np.nan),
    "model": np.int16(-1),
    "stratum": np.int16(-1),
    "lot": np.float32(1),
    # what the model before had found here
    "earlier_label": np.int16(NO_LOOK),
    "earlier_score": np.float32(0),
    # how the two belong together
    "covered": np.bool_(False),
    "partner": np.int32(-1),  # the row of the detection that an annotation is matched to
}


class CellTable:
    """One row for every cell: a detection, or what the reviewer said of one; a verdict stays in the detection's row.

    Always equal, row order apart, to ``present_cells`` of all that is in the case: :meth:`load` computes it so, and
    the other methods only what has changed, by the same rule (:func:`casefile.match`).

    Attributes
    ----------
    case : Case
    rows : Rows
    index : GrowingIndex
        The centres of all rows, of the gone ones too.
    taxonomy : Taxonomy
        The classes in whose terms the rows are, until :meth:`load`.
    annotations : Annotations
        What the reviewer has said, as in the rows.
    looks : LooksStore
        What the detections look like.
    coverage : Coverage
        Which models, by their numbers, have looked where.
    models : ModelNumbers
        The models that have found the cells, by the numbers in the column "model".
    newest_model : int
        The number of the one that has scanned last, -1 for none.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.load()

    def load(self) -> None:
        """Read everything from the case anew. Raises CaseError."""
        annotations, detections = self.case.annotations(), self.case.detections()
        self.taxonomy = self.case.taxonomy
        self.rows = Rows(_COLUMNS)
        self.index = GrowingIndex()
        self.looks = LooksStore(self.case)
        self.annotations = annotations
        self._held = -1
        self._longest_reach = 0.0
        self.models = ModelNumbers(self.case)
        self.newest_model = -1
        self._row_of: dict[int, int] = {}
        self._tally: tuple[tuple[float, int], IntArray] | None = None
        found = self._append_all_found(detections)
        placed = self._place(np.arange(len(annotations)), {})
        self._match(found, placed)
        self._show(np.arange(len(self.rows)))
        models = [model for model in dict.fromkeys(reversed(detections.model_ids.values())) if model]
        if models:
            self.newest_model = self.models.number(models[0])
        if len(models) > 1:
            self._hear(found, self.case.detections(models[1]).cells)

    def model_of(self, row: int) -> str:
        """Return the id of the model that found the cell; empty where none did."""
        return self.models.id_of(int(self.rows["model"][row]))

    def sources_of(self, rows: IntArray) -> IntArray:
        """Return the rows of the detections that `rows` stand for: of a reviewed cell that to which it is matched."""
        partner = self.rows["partner"][rows]
        return np.where(partner >= 0, partner, rows)

    def rows_of(self, annotations: Iterable[int]) -> IntArray:
        """Return the rows of annotations, by their ids."""
        return np.array([self._row_of[i] for i in annotations], np.int64)

    def bearers_of(self, rows: IntArray) -> list[int]:
        """Return which row stands now for each of `rows`: for a detection of which another row tells, that one."""
        r = self.rows
        told_elsewhere = r["covered"][rows] & (r["annotation"][rows] < 0)
        return [
            next(iter(np.flatnonzero(r["partner"] == row).tolist()), row) if elsewhere else row
            for row, elsewhere in zip(rows.tolist(), told_elsewhere.tolist(), strict=True)
        ]

    def heirs(self, rows: IntArray) -> IntArray:
        """Return `rows`, each once, with what a later model has found in the place of those that it has replaced: of
        detections of which nobody has spoken, the nearest one there, where there is one."""
        r = self.rows
        replaced = (r["annotation"][rows] < 0) & (r["found_label"][rows] >= 0) & ~r["found"][rows]
        now = np.array(rows, np.int64)
        now[replaced] = [self._heir(row) for row in rows[replaced].tolist()]
        return np.array(list(dict.fromkeys(now.tolist())), np.int64)

    def _heir(self, row: int) -> int:
        (x, y), (reach,) = self.index.points[row].tolist(), _reaches(self.rows["box"][row : row + 1]).tolist()
        near = self.index.within(x - reach, y - reach, x + reach, y + reach)
        near = near[(self.rows["state"][near] == 0) & (near != row)]
        distances = np.hypot(*(self.index.points[near] - self.index.points[row]).T)
        return int(near[np.argmin(distances)]) if len(near) else row

    def tally(self, threshold: float, classes: int) -> IntArray:
        """Return how many cells there are of each class, as :func:`figures.tally` does.

        All rows are counted once; from then on only what changes, for of a million cells each verdict changes one.
        """
        if self._tally is None or self._tally[0] != (threshold, classes):
            self._tally = (threshold, classes), self._count(slice(None), threshold, classes)
        return self._tally[1]

    def _count(self, rows: IntArray | slice, threshold: float, classes: int) -> IntArray:
        r = self.rows
        return tally(r["label"][rows], r["state"][rows], r["score"][rows], threshold, classes)

    @contextmanager
    def _counting(self, rows: IntArray) -> Iterator[None]:
        """Keep the tally right while `rows` are written to."""
        if self._tally is None:
            yield
            return
        which, counts = self._tally
        rows = np.unique(rows)
        counts -= self._count(rows, *which)
        yield
        counts += self._count(rows, *which)

    def hold(self, row: int | None) -> None:
        """Keep a detection that the reviewer looks at, in place of the one held before, though a later model drops it.

        This is the one thing in which the table may differ from the case.
        """
        before, self._held = self._held, -1 if row is None else row
        if before >= 0:
            self._show(np.array([before]))

    # ------------------------------------------------------------------------------------------ the reviewer

    def follow(self, homes: Mapping[int, int]) -> IntArray:
        """Take in what has changed in the case's annotations since the last look; return the rows concerned, and after
        them those of the detections to which they were matched before.

        Parameters
        ----------
        homes : dict of int to int
            The row in which a new annotation, by its id, belongs. One without gets the row that it had before it was
            taken back, or a row of its own.

        Raises
        ------
        CaseError
        ClassesChanged
            Then nothing was taken in.
        """
        old, new = self.annotations, self.case.annotations()
        self._check_classes()
        if new is old:
            return _NONE
        self.annotations = new
        at = np.searchsorted(new.ids, old.ids)
        stays = np.zeros(len(old), bool)
        inside = at < len(new)
        stays[inside] = new.ids[at[inside]] == old.ids[inside]
        differs = np.zeros(len(old), bool)
        differs[stays] = ~_same(old, np.flatnonzero(stays), new, at[stays])
        fresh = np.flatnonzero(~np.isin(new.ids, old.ids))
        changed = np.flatnonzero(~stays | differs)
        left = np.array([self._row_of[i] for i in old.ids[changed].tolist()], np.int64)
        partners = self.rows["partner"][left]
        self._withdraw(left)
        placed = self._place(np.concatenate([at[differs], fresh]), homes)
        touched = np.union1d(left, placed)
        self._settle(touched)
        return np.concatenate([touched, partners[partners >= 0]])

    def _check_classes(self) -> None:
        if self.case.taxonomy != self.taxonomy:
            raise ClassesChanged

    def _place(self, which: IntArray, homes: Mapping[int, int]) -> IntArray:
        """Write the annotations at the positions `which` into rows; return the rows."""
        said = self.annotations
        ids, boxes = said.ids[which], said.boxes[which]
        rows = np.full(len(ids), -1, np.int64)
        if homes or self._row_of:
            rows[:] = [self._home(i, box, homes) for i, box in zip(ids.tolist(), boxes, strict=True)]
        homeless = rows < 0
        rows[homeless] = self._append(boxes[homeless], centres_of(boxes[homeless]))
        r = self.rows
        r["annotation"][rows] = ids
        with self._counting(rows):
            r["label"][rows] = said.labels[which]
            r["score"][rows] = said.scores[which]
            r["state"][rows] = said.states[which]
        r["class_score"][rows] = np.nan
        r["told"][rows] = said.detected_labels[which]
        self._row_of.update(zip(ids.tolist(), rows.tolist(), strict=True))
        self._longest_reach = max(self._longest_reach, float(_reaches(boxes).max(initial=0.0)))
        return rows

    def _home(self, annotation: int, box: FloatArray, homes: Mapping[int, int]) -> int:
        row = homes.get(annotation, self._row_of.get(annotation, -1))
        free = row >= 0 and self.rows["annotation"][row] < 0
        return row if free and np.array_equal(self.rows["box"][row], box) else -1

    def _withdraw(self, rows: IntArray) -> None:
        self.rows["annotation"][rows] = -1
        self.rows["told"][rows] = -1
        self.rows["partner"][rows] = -1

    # --------------------------------------------------------------------------------------------- the model

    def take(self, scanned: Iterable[Scanned]) -> None:
        """Take in tiles that the newest run has scanned and written to the case: their cells replace what was there.

        Cells that the reviewer has spoken of stay as they are. Raises CaseError, ClassesChanged.
        """
        steps = list(scanned)
        if not steps:
            return
        self._check_classes()
        run = self.case.runs()[-1]
        self.newest_model = self.models.number(run.model_id)
        if any(step.tile.size != self.coverage.tile_size for step in steps):
            self._change_grid()
            return
        new = self._append_found(Cells.concatenate([step.cells for step in steps]), self.newest_model)
        replaced, touched = [_NONE], [_NONE]
        start = 0
        for step in steps:
            place, rows = (step.tile.x, step.tile.y), new[start : start + len(step.cells)]
            start += len(rows)
            replaced.append(self._tiles.get(place, _NONE))
            touched.append(np.concatenate([replaced[-1], rows]))
            self._tiles[place] = rows
            self.coverage.note(*place, self.newest_model)
            self.looks.note(self.newest_model, run.id, *place, self.coverage.tile_size, rows)
        old = np.concatenate(replaced)
        self.rows["found"][old] = False
        earlier = old[self.rows["model"][old] != self.newest_model]
        if len(earlier):
            r = self.rows
            self._hear(new, Cells(*(r[name][earlier] for name in ("box", *_FOUND))))
        self._show(np.concatenate([old, new]))
        # place by place: what lies between far ones is not concerned
        self._settle(np.unique(np.concatenate([self._annotated_about(rows) for rows in touched])))

    def _change_grid(self) -> None:
        """Show what was found on the grid of the newest run instead of what is shown; it may have been used before."""
        detections = self.case.detections()
        self.rows["found"][:] = False
        found = self._append_all_found(detections)
        annotated = np.flatnonzero(self.rows["annotation"] >= 0)
        self._match(found, annotated[np.argsort(self.rows["annotation"][annotated])])
        self._show(np.arange(len(self.rows)))

    def _append_all_found(self, detections: Detections) -> IntArray:
        models = [self.models.number(detections.model_ids[run]) for run in detections.runs.tolist()]
        found = self._append_found(detections.cells, np.repeat(np.array(models, np.int16), detections.counts))
        self.coverage = Coverage(detections.tile_size)
        self._tiles: dict[tuple[int, int], IntArray] = {}
        for (x, y, run, which), model in zip(detections.by_tile(), models, strict=True):
            rows = found[which]
            self._tiles[x, y] = np.concatenate([self._tiles.get((x, y), _NONE), rows])
            if run:
                self.coverage.note(x, y, model)
                self.looks.note(model, run, x, y, detections.tile_size, rows)
        return found

    def _append_found(self, cells: Cells, model: int | NDArray[np.int16]) -> IntArray:
        labels = self.taxonomy.merged(cells.labels)
        centres = cells.centres
        return self._append(
            cells.boxes,
            centres,
            stratum=stratum_of(labels, cells.scores),
            lot=lots_of(centres),
            found=True,
            found_label=labels,
            found_score=cells.scores,
            found_class_score=cells.class_scores,
            model=model,
        )

    def _append(self, boxes: FloatArray, centres: FloatArray, **values: Any) -> IntArray:
        self.index.add(centres)
        square = squares_of(centres, (self.case.width, self.case.height))
        return self.rows.append(len(boxes), box=boxes, square=square, **values)

    def _hear(self, rows: IntArray, earlier: Cells) -> None:
        """Note what the model before had found in the places of the detections `rows`."""
        labels, scores = opinions(self.index.points[rows], earlier)
        self.rows["earlier_label"][rows] = labels
        self.rows["earlier_score"][rows] = scores

    # --------------------------------------------------------------------------------- how they belong together

    def _settle(self, touched: IntArray) -> None:
        """Match anew what the annotations in the rows `touched` (those taken back too) may have a part in.

        Of two annotations that reach one detection each bears on the other's match, so the chain of those is followed
        to its end; it is short.
        """
        r = self.rows
        frontier, said, found = touched, set(touched.tolist()), set[int]()
        while len(frontier):
            near = set(self._reached_from(frontier).tolist()) - found
            found |= near
            reaching = self._reaching(np.fromiter(near, np.int64, len(near)))
            frontier = np.array([i for i in reaching if i not in said], np.int64)
            said.update(frontier.tolist())
        rows = np.fromiter(said, np.int64, len(said))
        annotated = rows[r["annotation"][rows] >= 0]
        detected = np.fromiter(sorted(found), np.int64, len(found))
        self._match(detected, annotated[np.argsort(r["annotation"][annotated])])
        self._show(np.concatenate([rows, detected]))

    def _reached_from(self, rows: IntArray) -> IntArray:
        """Return the rows of the detections within reach of the boxes in any of `rows`, each once."""
        boxes = self.rows["box"][rows]
        _, near, _ = self.index.pairs(centres_of(boxes), _reaches(boxes))
        reached: IntArray = np.unique(near[self.rows["found"][near]])
        return reached

    def _reaching(self, detected: IntArray) -> list[int]:
        """Return the rows of the annotations within whose reach any of the rows `detected` lies."""
        about = self._annotated_about(detected)
        if not len(about):
            return []
        boxes = self.rows["box"][about]
        nearest, _ = cKDTree(self.index.points[detected]).query(centres_of(boxes))
        reaching: list[int] = about[nearest <= _reaches(boxes) * (1 + 1e-6)].tolist()  # one too many does no harm
        return reaching

    def _annotated_about(self, rows: IntArray) -> IntArray:
        """Return the rows of all annotations that may reach any of `rows`."""
        if not len(rows) or not len(self.annotations):
            return _NONE
        points = self.index.points[rows]
        (x1, y1), (x2, y2) = points.min(axis=0) - self._longest_reach, points.max(axis=0) + self._longest_reach
        near = self.index.within(x1, y1, x2, y2)
        annotated: IntArray = near[self.rows["annotation"][near] >= 0]
        return annotated

    def _match(self, detected: IntArray, annotated: IntArray) -> None:
        """Match the detections in the rows `detected` to the annotations in `annotated`, which are in order of id."""
        r = self.rows
        matched = match(r["box"][detected], r["box"][annotated])
        r["covered"][detected] = matched.covered
        partnered = matched.partners >= 0
        r["partner"][annotated] = -1
        r["partner"][annotated[partnered]] = detected[matched.partners[partnered]]

    def _show(self, rows: IntArray) -> None:
        """Bring what `rows` show up to date with what was found and said."""
        r = self.rows
        said = r["annotation"][rows] >= 0
        spoken_of, other = rows[said], rows[~said]
        given = r["found_label"][other]
        held = (other == self._held) & (given >= 0)
        present = (r["found"][other] | held) & ~r["covered"][other]
        with self._counting(other):
            r["state"][other] = np.where(present, 0, GONE)
            r["score"][other] = np.where(present, r["found_score"][other], GONE)
            r["label"][other] = np.where(given >= 0, given, r["label"][other])
        r["class_score"][other] = r["found_class_score"][other]
        r["disagrees"][other] = False
        # a detection that says neither what the reviewer said nor what the reviewer has already heard
        partner = r["partner"][spoken_of]
        opinion = np.where(partner >= 0, r["found_label"][partner], r["label"][spoken_of])
        r["disagrees"][spoken_of] = (opinion != r["label"][spoken_of]) & (opinion != r["told"][spoken_of])


def _reaches(boxes: FloatArray) -> FloatArray:
    """Return how far from its centre each annotation takes detections for its own; see :func:`casefile.match`."""
    reaches: FloatArray = ((boxes[:, 2:] - boxes[:, :2]).mean(axis=1) / 2).astype(np.float32)
    return reaches


def _same(a: Annotations, i: IntArray, b: Annotations, j: IntArray) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (
        (a.boxes[i] == b.boxes[j]).all(axis=1)
        & (a.labels[i] == b.labels[j])
        & (a.states[i] == b.states[j])
        & (a.detected_labels[i] == b.detected_labels[j])
        & ((a.scores[i] == b.scores[j]) | (np.isnan(a.scores[i]) & np.isnan(b.scores[j])))
    )
    return same
