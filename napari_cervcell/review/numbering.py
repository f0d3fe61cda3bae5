"""The models of a case by number: a table keeps of every cell which one has found it, and ids are long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..casefile import Case
from ..cells import IntArray

__all__ = ["ModelNumbers"]

_ID = 12  # characters of a model's id that annotations keep


class ModelNumbers:
    """Numbers from 0 for the models that have found cells; -1 is no model."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._ids: list[str] = []

    def number(self, model_id: str) -> int:
        """Return the number of a model, a new one where it has none; -1 for no id."""
        if model_id and model_id not in self._ids:
            self._ids.append(model_id)
        return self._ids.index(model_id) if model_id else -1

    def id_of(self, number: int) -> str:
        """Return the id of the model of a number, empty for -1."""
        return self._ids[number] if number >= 0 else ""

    def of(self, model_ids: NDArray[np.str_]) -> NDArray[np.int16]:
        """Return int16 (n,): the number of each model, by the id that annotations keep; -1 where it has none."""
        known = {model_id[:_ID]: number for number, model_id in enumerate(self._ids)}
        return _each(model_ids, known, -1).astype(np.int16)

    def ages(self) -> IntArray:
        """Return int64 (m + 1,): the age, see :meth:`ages_of`, of each model by its number, and 0 for number -1."""
        return self.ages_of(np.array([*self._ids, ""]))

    def ages_of(self, model_ids: NDArray[np.str_]) -> IntArray:
        """Return int64 (n,): as which round, from 1, each model came to the case; 0 for those that came with us."""
        rounds = [r.model_id[:_ID] for r in self._case.rounds() if r.has_model]
        return _each(model_ids, {model_id: number for number, model_id in enumerate(rounds, 1)}, 0)


def _each(model_ids: NDArray[np.str_], of: dict[str, int], otherwise: int) -> IntArray:
    names, which = np.unique(model_ids.astype(f"U{_ID}"), return_inverse=True)
    each: IntArray = np.array([of.get(name, otherwise) for name in names.tolist()], np.int64)[which]
    return each
