"""What the cells of a table look like: embeddings in a file of their own, looked at through a mapping."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections import deque

import numpy as np

from ..casefile import Case, Looks
from ..cells import IntArray
from .verdicts import ReviewError

__all__ = ["LooksStore"]

_Tile = tuple[int, int, int, int, IntArray]
_NONE = np.zeros(0, np.int64), np.zeros((0, 1), np.float16)


class LooksStore:
    """The embeddings of the rows of a table, model by model: those of two models cannot be compared.

    They are read from the case when somebody asks for them, which of a million takes a second or two, and then lie in
    a temporary file: a million are 256 MB, whose pages the system can take back. Methods may be called in any thread.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._unread: dict[int, deque[_Tile]] = {}
        self._piles: dict[int, _Pile] = {}
        self._lock = threading.Lock()  # of the piles

    def note(self, model: int, run: int, x: int, y: int, size: int, rows: IntArray) -> None:
        """Note that a run of the model of that number found `rows` in a tile, in this order, as the case says."""
        if len(rows):
            self._unread.setdefault(model, deque()).append((run, x, y, size, rows))

    def of(self, model: int) -> tuple[IntArray, Looks]:
        """Return the rows of which it is known what they look like to a model, int64 (n,), and that, (n, d).

        They come in no set order. Raises CaseError, and ReviewError where there is no room on the disk.
        """
        with self._lock:
            unread = self._unread.get(model, deque())
            try:
                while unread:
                    run, x, y, size, rows = unread[0]
                    looks = self._case.looks(run, x, y, size, len(rows))
                    if looks.size:
                        if model not in self._piles:
                            self._piles[model] = _Pile(looks.shape[1])
                        self._piles[model].append(rows, looks)
                    unread.popleft()
                return self._piles[model].all() if model in self._piles else _NONE
            except OSError as error:
                raise ReviewError(
                    f"Cells cannot be compared by their looks: {error.strerror or error}. "
                    f"Make room in {tempfile.gettempdir()}, and try again."
                ) from None


class _Pile:
    """The embeddings by one model, in the order in which they were read."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._file = tempfile.TemporaryFile(prefix="cervcell-looks-")  # noqa: SIM115 (as long as the pile)
        weakref.finalize(self, self._file.close)
        self._rows: list[IntArray] = []
        self._n = 0
        self._all = _NONE

    def append(self, rows: IntArray, looks: Looks) -> None:
        # written, not mapped for writing: on a full disk that is an error here, not the end of the process elsewhere
        self._file.seek(self._n * self._width * 2)
        self._file.write(looks.tobytes())
        self._rows.append(rows)
        self._n += len(rows)

    def all(self) -> tuple[IntArray, Looks]:
        if len(self._all[0]) != self._n:
            self._file.flush()
            mapped = np.memmap(self._file, np.float16, "r", shape=(self._n, self._width))
            self._rows = [np.concatenate(self._rows)]
            self._all = self._rows[0], mapped.view(np.ndarray)
        return self._all
