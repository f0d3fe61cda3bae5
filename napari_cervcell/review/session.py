"""A sitting over one case: the cells, which one is current, verdicts on them, undo, and live figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from ..casefile import Annotations, Case, State
from ..cells import Cells, FloatArray, IntArray
from ..taxonomy import Taxonomy
from .answers import Answers
from .boxes import box_about, drawn_box, usual_side
from .counts import ClassCount, counts_of
from .coverage import Scanned
from .density import Density
from .evidence import Evidence
from .figures import ClassFigures, figures_of
from .judgement import Said, is_news, verdict_of
from .queue import Neighbours, Queue
from .rows import GrowingIndex
from .sheet import Snapshot
from .strategies import StrategyName
from .survey import Survey
from .table import CellTable
from .verdicts import ClassesChanged, Imported, ReviewError, assign, resolve

if TYPE_CHECKING:
    from ..slides import Slide

__all__ = ["ClassesChanged", "ReviewError", "Session"]

Which = int | Sequence[int] | IntArray | None


class Session:
    """A sitting over the case of a slide.

    All methods belong to one thread, the window's; a worker hands its tiles over to it. Every verdict is in the case
    file before its method returns, and nothing else needs saving. A cell is named by its row, a number that stays its
    own until :meth:`reload`, whatever is added or taken away meanwhile.

    Where a method takes `which`, that is a row, several rows (one step of undo), or None: the current cell, and then
    the next one becomes current.

    The classes are those that the case had at the start. Where another process has changed them, a verdict, or whatever
    else takes in what was said or found since, raises ClassesChanged instead; :meth:`reload` goes on with the new ones.

    Parameters
    ----------
    slide : Slide or None
        For whom it helps to have it at hand; the session itself needs only the case.
    case : Case
    threshold : float
        Detections below this score are not shown, unless a reviewer has spoken of them.
    strategy : str
        By which what is worth asking is chosen; see :mod:`.strategies`. The mix always keeps a random share.
    seed : int
        Of what the strategies leave to chance.

    Attributes
    ----------
    answers : Answers
        What verdicts change at once, between rounds.
    survey : Survey
        Draws places to look through and to check.
    """

    cells_changed = Signal()
    """boxes, labels or states have changed, or what is to be seen of them"""
    current_changed = Signal(object)
    """the row of the current cell, or None"""
    counts_changed = Signal()
    reloaded = Signal()
    """rows have new numbers"""

    def __init__(
        self, slide: Slide | None, case: Case, *, threshold: float = 0.5, strategy: StrategyName = "mix", seed: int = 0
    ) -> None:
        self.slide, self.case = slide, case
        self._threshold = threshold
        self._table = CellTable(case)
        self._read_checked()
        self._queue = Queue(self._table, strategy, seed)
        self.answers = Answers(self._table, self._queue)
        self.survey = Survey(self._table, seed)
        self._begin_with_classes()

    # ------------------------------------------------------------------------------------------------ the cells

    @property
    def taxonomy(self) -> Taxonomy:
        return self._table.taxonomy

    @property
    def cells(self) -> Cells:
        """One a row, up to the rows there are now; what changes in them is seen.

        Rows of state GONE (-1) are no cells (any more); their score is -1. Scores that no model gave, and the class
        scores of reviewed cells, are NaN.
        """
        r = self._table.rows
        return Cells(r["box"], r["label"], r["score"], r["class_score"])

    @property
    def states(self) -> NDArray[np.int8]:
        """int8 (n,): 0 for a detection that nobody spoke of, :class:`casefile.State`, or GONE (-1)."""
        return self._table.rows["state"]

    @property
    def annotation_ids(self) -> NDArray[np.int32]:
        """int32 (n,): the id in the case of what the reviewer said, -1 for nothing."""
        return self._table.rows["annotation"]

    @property
    def annotations(self) -> Annotations:
        """What reviewers have said, as it is shown; another object after every change."""
        return self._table.annotations

    @property
    def disagrees(self) -> NDArray[np.bool_]:
        """bool (n,): reviewed cells to which a later model gives a class that the reviewer has not heard yet."""
        return self._table.rows["disagrees"]

    @property
    def index(self) -> GrowingIndex:
        """Finds rows by their centres, the gone ones too; :meth:`visible` and :meth:`at` leave those out."""
        return self._table.index

    @property
    def checked_regions(self) -> FloatArray:
        """float32 (m, 4): the boxes that the reviewer marked as checked."""
        return self._checked

    @property
    def usual_side(self) -> float:
        """Side of the box of an added cell, level-0 pixels: that of the median detection, or of a usual cell."""
        return usual_side(self._table, self.case.mpp)

    @property
    def threshold(self) -> float:
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        if value != self._threshold:
            self._threshold = value
            self._queue.renew()
            self._tell()

    @property
    def strategy(self) -> StrategyName:
        """By which what is worth asking is chosen; a new one holds from the next cell on."""
        return self._queue.strategy

    @strategy.setter
    def strategy(self, strategy: StrategyName) -> None:
        if strategy != self._queue.strategy:
            self._queue.strategy = strategy
            self.refresh()

    @property
    def classes_shown(self) -> NDArray[np.bool_]:
        """bool (C,): the classes of which cells are to be seen."""
        return self._classes_shown[:-1].copy()

    def show_class(self, label: int, shown: bool) -> None:
        """Let cells of a class be seen, or not; the queue goes on with all."""
        if shown != self._classes_shown[label]:
            self._classes_shown[label] = shown
            self.cells_changed.emit()

    def visible(self, x1: float, y1: float, x2: float, y2: float) -> IntArray:
        """Return the rows of the cells centred in a rectangle of level-0 pixels, in no set order: those that reach
        the threshold and the reviewed ones, of the classes shown, and the current one."""
        rows = self.index.within(x1, y1, x2, y2)
        return np.asarray(rows[self._is_seen(rows) | (rows == self.current)])

    def density(self) -> Density:
        """Count the cells of the whole slide that :meth:`visible` returns, but for the rejected, by place and class."""
        r = self._table.rows
        counted = self._is_seen(slice(None)) & (self.states != State.REJECTED)
        return Density.of(counted, r["square"], r["label"], (self.case.width, self.case.height), len(self.taxonomy))

    def snapshot(self) -> Snapshot:
        """Return copies of all that a :class:`Sheet` is made from."""
        return Snapshot.of(self._table, self._threshold, self.taxonomy)

    def _is_seen(self, rows: IntArray | slice) -> NDArray[np.bool_]:
        return np.asarray(self._is_told(rows) & self._classes_shown[self._table.rows["label"][rows]])

    def _is_told(self, rows: IntArray | slice) -> NDArray[np.bool_]:
        state, score = (self._table.rows[name][rows] for name in ("state", "score"))
        told: NDArray[np.bool_] = (state > 0) | ((state == 0) & (score >= self._threshold))
        return told

    def at(self, x: float, y: float, radius: float) -> int | None:
        """Return the row of the nearest visible cell no further than `radius` from (x, y), level-0 pixels, or None."""
        return next(iter(self.all_at(x, y, radius).tolist()), None)

    def all_at(self, x: float, y: float, radius: float) -> IntArray:
        """Return the rows of all visible cells no further than `radius` from (x, y), level-0 px, the nearest first."""
        rows = self.visible(x - radius, y - radius, x + radius, y + radius)
        distances = np.hypot(*(self.index.points[rows] - np.array([x, y], np.float32)).T)
        return np.asarray(rows[np.argsort(distances, kind="stable")][: int((distances <= radius).sum())])

    def add_cells(self, scanned: Iterable[Scanned]) -> None:
        """Take in tiles as a running scan reports them: in place of what earlier models found there.

        What the reviewer has said stays, and the current cell stays current: where it was found anew, as that. Raises
        CaseError, ClassesChanged.
        """
        self._table.take(scanned)
        self._queue.renew()
        self._go(None if self.current is None else int(self._table.heirs(np.array([self.current]))[0]))
        self._tell()

    def waiting(self, rows: IntArray) -> IntArray:
        """Return those of `rows` that are shown and of which nobody has spoken; in place of one that a later model has
        replaced, what that found there."""
        now = self._table.heirs(rows)
        return np.asarray(now[(self.states[now] == 0) & self._is_seen(now)])

    def reload(self) -> None:
        """Read the case anew, as another program may have written to it; rows get new numbers. Raises CaseError."""
        place = None if self.current is None else self.index.points[self.current].tolist()
        before = self.taxonomy
        self._table.load()
        if self.taxonomy != before:
            self._begin_with_classes()
        self._read_checked()
        near = [] if place is None else self.index.within(*place, *place).tolist()
        again = next((row for row in near if self.states[row] >= 0), None)
        self._queue.restart(again)
        self._table.hold(again)
        self.reloaded.emit()
        self._tell()
        self.current_changed.emit(again)

    # ------------------------------------------------------------------------------------------- which is current

    @property
    def current(self) -> int | None:
        """The row of the cell that the next verdict is about."""
        return self._queue.current

    def select(self, row: int | None) -> None:
        """Make a cell current; None: no cell."""
        if row is not None and not 0 <= row < len(self.states):
            raise IndexError(f"no cell {row} among {len(self.states)}")
        self._go(row)

    def next(self) -> int | None:
        """Go to the cell most worth asking and return its row; None where all are reviewed."""
        before = self.current
        self._queue.step(self._threshold)
        return self._went(before)

    def previous(self) -> int | None:
        """Go back to the cell that was current before, reviewed or not, and return its row."""
        before = self.current
        self._queue.step_back()
        return self._went(before)

    def refresh(self) -> None:
        """Choose what comes next anew, by what is known now."""
        self._queue.forget()
        self.counts_changed.emit()

    @property
    def queue(self) -> IntArray:
        """The rows of the cells that come next, the next one first; at most some hundred."""
        return self._queue.ahead(self._threshold)

    @property
    def neighbours(self) -> Neighbours:
        """The cells before and after the current one in the queue; cheap, unlike `queue`."""
        return self._queue.neighbours()

    # ------------------------------------------------------------------------------------------------- verdicts

    def catch_up(self) -> None:
        """Take in what others have said of this case, as every verdict does first. Raises CaseError, ClassesChanged."""
        if len(self._table.follow({})):
            self._tell()

    def accept(self, which: Which = None) -> None:
        """Say that it is a cell of the class that it has. Raises CaseError, ReviewError."""
        self._judge(which, np.maximum(self.cells.labels, 0).item)

    def reject(self, which: Which = None) -> None:
        """Say that it is no cell, or none to be found. Raises CaseError, ReviewError."""
        self._judge(which, lambda row: None)

    def set_class(self, label: int, which: Which = None) -> None:
        """Say that it is a cell of class `label`. Raises CaseError, ReviewError."""
        self._last_label = label
        self._judge(which, lambda row: label)

    def add(self, x: float, y: float, label: int | None = None) -> int:
        """Add a cell of usual size centred at (x, y), level-0 pixels; see :meth:`add_box`."""
        return self.add_box(box_about(x, y, self.usual_side), label)

    def add_box(self, box: Sequence[float] | FloatArray, label: int | None = None) -> int:
        """Add a cell in a box (two corners, level-0 pixels), make it current, and return its row.

        Its class is `label`, or else the one given last. Raises CaseError, and ReviewError where its middle is not on
        the slide or it has no extent.
        """
        drawn = drawn_box(box, self.case)
        self.catch_up()
        if label is not None:
            self._last_label = label
        (row,) = self._say([(None, drawn, self._last_label)])
        self._go(int(row))
        return int(row)

    def reshape(self, row: int, box: Sequence[float] | FloatArray) -> int:
        """Say that a cell, of the class that it has, is in another box (two corners, level-0 pixels); return its row.

        Raises CaseError, and ReviewError as :meth:`add_box`.
        """
        drawn, label = drawn_box(box, self.case), max(int(self.cells.labels[row]), 0)
        (row,) = self._say([(self._caught_up(np.array([row]))[0], drawn, label)]).tolist()
        self._go(row)
        return row

    def check_region(self, box: Sequence[float] | FloatArray) -> IntArray:
        """Say that all cells in a rectangle (two corners, level-0 pixels) are marked.

        Returns the rows of the cells in it of which nobody has spoken yet, also of classes that are not shown just now:
        until somebody does, they count as none. Of classes that the taxonomy hides there is nothing to be said. Raises
        CaseError, ReviewError.
        """
        x1, x2 = np.clip(sorted((box[0], box[2])), 0, self.case.width).tolist()
        y1, y2 = np.clip(sorted((box[1], box[3])), 0, self.case.height).tolist()
        if x1 == x2 or y1 == y2:
            raise ReviewError("A checked region must have some extent on the slide.")
        self.catch_up()
        self.case.check_region((x1, y1, x2, y2), self._table.models.id_of(self._table.coverage.over(x1, y1, x2, y2)))
        self._follow({})
        inside = self.index.within(x1, y1, x2, y2)
        told = self._is_told(inside) & (self._classes_shown | self.taxonomy.not_hidden)[self.cells.labels[inside]]
        return np.asarray(inside[told & (self.states[inside] == 0)])

    def undo(self) -> bool:
        """Take back the last step, of an earlier sitting too; return whether there was one. Raises CaseError."""
        return self._moved(self.case.undo)

    def redo(self) -> bool:
        """Bring back the step taken back last; return whether there was one. Raises CaseError."""
        return self._moved(self.case.redo)

    def import_verdicts(self, rows: Iterable[tuple[float, float, str]]) -> Imported:
        """Bring in verdicts (x, y, class name or ``"reject"``) as the reviewer's, as one step of undo.

        Each is about the nearest present cell in whose place it is; a class where there is none adds a cell, and a
        rejection there is kept as a known negative. Raises CaseError, and ReviewError before anything is saved.
        """
        self.catch_up()
        verdicts = resolve(self, rows)
        found = assign(self, verdicts, self.usual_side / 2)
        said: list[Said] = [
            (row, self.cells.boxes[row] if row is not None else box_about(x, y, self.usual_side), label)
            for ((x, y), label), row in zip(verdicts.items(), found, strict=True)
        ]
        new = [s for s in said if is_news(s, self._table, len(self.taxonomy))]
        rows_said = self._say(new)
        return Imported.of(self.states[rows_said], same=len(said) - len(new))

    # -------------------------------------------------------------------------------------------------- figures

    def counts(self) -> list[ClassCount]:
        """Return how many cells there are of each class of the taxonomy."""
        return counts_of(self._table.tally(self._threshold, len(self.taxonomy)))

    def figures(self) -> list[ClassFigures]:
        """Return what the verdicts tell of each class on the whole slide, under the model that has scanned last."""
        checked = self._checked, self._checked_models
        return figures_of(Evidence.of(self._table, *checked, self._threshold, len(self.taxonomy)))

    # ---------------------------------------------------------------------------------------------------- inside

    def _begin_with_classes(self) -> None:
        self._classes_shown = self.taxonomy.not_hidden
        self._last_label = self.taxonomy.offered[0]

    def _read_checked(self) -> None:
        self._checked, self._checked_models = self.case.checked_regions(), self.case.checked_models()

    def _judge(self, which: Which, label_for: Callable[[int], int | None]) -> None:
        if which is None and self.current is None:
            raise ReviewError("No cell is selected. Click one, or press Next for the one most worth asking.")
        rows = np.unique(np.asarray(self.current if which is None else which, np.int64))
        labels = [label_for(row) for row in rows.tolist()]  # by the cells as the reviewer has seen them
        labelled = dict(zip(self._caught_up(rows), labels, strict=True))
        boxes = self.cells.boxes
        said: list[Said] = [(row, boxes[row], label) for row, label in labelled.items()]
        if news := [s for s in said if is_news(s, self._table, len(self.taxonomy))]:
            self._say(news)
        if which is None:
            self.next()

    def _caught_up(self, rows: IntArray) -> list[int]:
        """Catch up; return the row that stands for each of `rows` now."""
        self.catch_up()
        return self._table.bearers_of(rows)

    def _say(self, said: Sequence[Said]) -> IntArray:
        """Record verdicts as one step; return the row of each."""
        ids = self.case.record([verdict_of(s, self._table, s[0] in self._queue.drawn) for s in said])
        self._follow({i: row for i, (row, _, _) in zip(ids, said, strict=True) if row is not None})
        return self._table.rows_of(ids)

    def _follow(self, homes: dict[int, int]) -> IntArray:
        rows = self._table.follow(homes)
        self._read_checked()
        if self.current is not None and self.states[self.current] < 0:
            self._go(None)
        self._tell()
        return rows

    def _moved(self, step: Callable[[], bool]) -> bool:
        """Undo or redo, and show what it was about, or else what that had stood for: of many cells the nearest one."""
        self.catch_up()
        if moved := step():
            before, rows = self.current or 0, self._follow({})
            if len(present := rows[self.states[rows] >= 0]):
                distances = np.hypot(*(self.index.points[present] - self.index.points[before]).T)
                self._go(int(present[distances.argmin()]))
        return moved

    def _go(self, row: int | None) -> None:
        before = self.current
        if row != before:
            self._queue.select(row)
            self._went(before)

    def _went(self, before: int | None) -> int | None:
        if self.current != before:
            self._table.hold(self.current)
            self.current_changed.emit(self.current)
        return self.current

    def _tell(self) -> None:
        self.cells_changed.emit()
        self.counts_changed.emit()
