"""The instant answer to verdicts: scores moved by likeness between rounds, beside the model's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from ..casefile import Annotations, State
from ..cells import FloatArray, IntArray
from .likeness import prototypes, reranked
from .looks import LooksStore
from .queue import Queue
from .rows import Rows
from .table import CellTable

__all__ = ["Answers", "Question"]


@dataclass(frozen=True)
class Question:
    """Copies of all that an answer is worked out from, so that it can be done in a thread while the sitting goes on.

    Attributes
    ----------
    rows : Rows
        Those that the question is about.
    looks : LooksStore
    model : int
        The number of the model that has scanned last: of its detections alone there is an answer.
    scores : float32 (n,)
        Of all rows, as the models gave them.
    sources : int64 (m,)
        The rows of the detections that the reviewer has spoken of.
    labels : int16 (m,)
        What was said: a class, -1 for no cell.
    classes : int
    """

    rows: Rows
    looks: LooksStore
    model: int
    scores: FloatArray
    sources: IntArray
    labels: NDArray[np.int16]
    classes: int

    def answer(self) -> FloatArray:
        """Return float32 (n,): the scores as likeness to what was said moves them, NaN where nothing does.

        Raises CaseError, and ReviewError where there is no room on the disk.
        """
        answer = np.full(len(self.scores), np.nan, np.float32)
        if len(self.sources):
            rows, looks = self.looks.of(self.model)
            asked = rows < len(answer)  # more may have been found meanwhile
            if not asked.all():
                rows, looks = rows[asked], looks[asked]
            place = np.full(len(answer), -1, np.int64)
            place[rows] = np.arange(len(rows))
            at = place[self.sources]
            seen = at >= 0
            if seen.any():
                directions, weights = prototypes(looks[at[seen]], self.labels[seen], self.classes)
                answer[rows] = reranked(self.scores[rows], looks, directions, weights)
        return answer


class Answers:
    """Moves what comes first in the queue and the gallery at once, by likeness to what was accepted and rejected.

    The model's own scores stay as they are: what is shown, counted and estimated goes by them.
    """

    changed = Signal()
    """scores are moved otherwise than before"""

    def __init__(self, table: CellTable, queue: Queue) -> None:
        self._table = table
        self._queue = queue
        self._asked: tuple[Rows, int, Annotations] | None = None
        self.number = 0
        """Another one after every change, for those who keep what they made of the answers."""

    def score(self, row: int) -> float:
        """Return the score of a row as likeness moves it, NaN where it does not."""
        return float(self._table.rows["answer"][row])

    def ask(self) -> Question | None:
        """Return what an answer to all verdicts so far is worked out from; None where nothing is new."""
        table, said = self._table, self._table.annotations
        rows, n, heard = self._asked or (None, 0, None)
        if rows is table.rows and n == len(table.rows) and heard is said:
            return None
        self._asked = table.rows, len(table.rows), said
        sources = table.sources_of(table.rows_of(said.ids.tolist()))
        labels = np.where(said.states == State.REJECTED, -1, said.labels).astype(np.int16)
        scores = table.rows["found_score"].copy()
        return Question(table.rows, table.looks, table.newest_model, scores, sources, labels, len(table.taxonomy))

    def take(self, question: Question, answer: FloatArray) -> None:
        """Go by an answer from the next step of the queue on; one about rows of another time changes nothing."""
        if question.rows is self._table.rows:
            self._change(answer)

    def forget(self) -> None:
        """Go by the model's own scores again."""
        self._asked = None
        self._change(np.full(len(self._table.rows), np.nan, np.float32))

    def _change(self, answer: FloatArray) -> None:
        now = self._table.rows["answer"][: len(answer)]
        if not np.array_equal(now, answer, equal_nan=True):
            now[:] = answer
            self.number += 1
            self._queue.renew()
            self.changed.emit()
