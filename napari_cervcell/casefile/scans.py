"""What the models found: runs of a detector, one row a tile. Imported cells stand beside it until a model looks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..cells import Cells, centres_of
from .store import CaseError, Record, now

__all__ = ["Detections", "Looks", "Run", "RunState", "ScanRecord", "Tile"]

Looks = NDArray[np.float16]
"""float16 (n, d): what each of n cells looks like, d numbers of unit length; d is 0 where the model does not say."""

Tile = tuple[int, int, int, Cells]
"""(x, y, size, cells): the top-left corner and side of a tile in level-0 pixels, and the cells that belong to it."""

RunState = Literal["done", "cancelled", "failed"]

# for each place of the newest grid, or of one of tiles of some size, the tile of the newest run (with MAX, SQLite takes
# the row that holds the maximum)
_PRESENT = """
    SELECT {columns}, MAX(run) AS run FROM tiles
    WHERE size = COALESCE(?, (SELECT size FROM tiles ORDER BY run DESC LIMIT 1)) {which} GROUP BY x, y
"""
_SAVE_TILE = "INSERT OR REPLACE INTO tiles VALUES (?, ?, ?, ?, ?, ?)"
_DROP_IMPORTED = "DELETE FROM imported WHERE x >= ? AND x < ? AND y >= ? AND y < ?"
_IMPORT_TILE = 1024  # side of the tiles of imported cells where there is no grid yet
_OF_MODEL = "AND run IN (SELECT id FROM runs WHERE model_id = ?)"


@dataclass(frozen=True, slots=True)
class Run:
    """One pass of a model; `state` is "running" until it is finished, for ever where the program was killed."""

    id: int
    model_id: str
    model_name: str
    scope: str
    started: str
    finished: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Detections:
    """The present detections of a case.

    Attributes
    ----------
    cells : Cells
        Level-0 pixels.
    model_ids : dict of int to str
        The model of each run that has looked anywhere; "" under 0.
    tiles : int64 (m, 2)
        (x, y) of the tiles scanned, with and without cells; after them those with imported cells, scanned or not.
    runs : int64 (m,)
        The run that looked at each of them last; 0 where the cells are imported.
    counts : int64 (m,)
        How many of `cells`, which are in the order of the tiles, each tile has.
    tile_size : int
        Their side; 0 where there are none.
    """

    cells: Cells
    model_ids: dict[int, str]
    tiles: NDArray[np.int64]
    runs: NDArray[np.int64]
    counts: NDArray[np.int64]
    tile_size: int

    def __len__(self) -> int:
        return len(self.cells)

    def by_tile(self) -> Iterator[tuple[int, int, int, slice]]:
        """Give for each tile its x and y, the run that looked at it last, and which of `cells` are that run's."""
        end = 0
        for (x, y), run, n in zip(self.tiles.tolist(), self.runs.tolist(), self.counts.tolist(), strict=True):
            start, end = end, end + n
            yield x, y, run, slice(start, end)


class ScanRecord(Record):
    """The part of a case that the detector writes."""

    def start_run(self, model_id: str, model_name: str, scope: str) -> int:
        """Begin a run over `scope` (in words, e.g. "view"); return its id. Raises CaseError."""
        with self._store.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO runs (model_id, model_name, scope, started) VALUES (?, ?, ?, ?)",
                (model_id, model_name, scope, now()),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def write_tile(self, run: int, x: int, y: int, size: int, cells: Cells, looks: Looks | None = None) -> None:
        """Save one tile of a run, and what its cells look like; see :meth:`write_tiles`."""
        with self._store.transaction(durable=False) as connection:
            connection.execute(_DROP_IMPORTED, (x, x + size, y, y + size))
            _save(connection, run, (x, y, size, cells), looks)

    def keep_in_tile(self, run: int, x: int, y: int, size: int, kept: NDArray[np.bool_]) -> None:
        """Leave only some of the cells that a run has found in a tile, those that are `kept`, bool (n,).

        Raises CaseError.
        """
        with self._store.transaction(durable=False) as connection:
            sql = "SELECT cells FROM tiles WHERE run = ? AND size = ? AND x = ? AND y = ?"
            cells = Cells.from_bytes(connection.execute(sql, (run, size, x, y)).fetchone()[0])  # of classes as stored
            looks = self.looks(run, x, y, size, len(cells))
            _save(connection, run, (x, y, size, cells[kept]), looks[kept] if looks.size else None)

    def write_tiles(self, run: int, tiles: Iterable[Tile]) -> None:
        """Save tiles, all or none; from now on their cells stand for these places. Raises CaseError."""
        rows = [_row(run, tile) for tile in tiles]
        with self._store.transaction(durable=False) as connection:
            connection.executemany(_SAVE_TILE, rows)
            places = ((x, x + size, y, y + size) for _, x, y, size, *_ in rows)
            connection.executemany(_DROP_IMPORTED, places)

    def import_detections(self, cells: Cells) -> None:
        """Save cells that no model of ours has found, all or none; a model that looks at their place replaces them.

        Raises CaseError.
        """
        rows = [(*centre, cells[i : i + 1].to_bytes()) for i, centre in enumerate(cells.centres.tolist())]
        with self._store.transaction() as connection:
            connection.executemany("INSERT INTO imported VALUES (?, ?, ?)", rows)

    def finish_run(self, run: int, state: RunState = "done") -> None:
        """Note how a run ended. Its tiles stay in any case. Raises CaseError."""
        if state not in get_args(RunState):
            raise ValueError(f"a run cannot end as {state!r}")
        with self._store.transaction() as connection:
            connection.execute("UPDATE runs SET state = ?, finished = ? WHERE id = ?", (state, now(), run))

    def runs(self) -> list[Run]:
        """Return all runs, oldest first. Raises CaseError."""
        sql = "SELECT id, model_id, model_name, scope, started, finished, state FROM runs ORDER BY id"
        with self._store.access() as connection:
            return [Run(*row) for row in connection.execute(sql)]

    @property
    def is_scanned(self) -> bool:
        """Whether a run has come to its end, whatever it found. Raises CaseError."""
        return any(run.state == "done" for run in self.runs())

    def detections(self, model_id: str | None = None, size: int | None = None) -> Detections:
        """Return what was found at each place by the run that looked at it last, and imported cells, or what was found
        by the last run of a model.

        Places are the tiles of the grid (tile size) that the newest run used; what was found on another grid is kept
        in the file, but not shown. It is returned where its `size` is given. Raises CaseError.
        """
        with self._store.access() as connection:
            which, values = ("", (size,)) if model_id is None else (_OF_MODEL, (size, model_id))
            rows = connection.execute(_PRESENT.format(columns="x, y, size, n, cells", which=which), values).fetchall()
            sql = "SELECT id, model_id FROM runs WHERE id IN (SELECT run FROM tiles) ORDER BY id"
            model_ids = {0: "", **dict(connection.execute(sql).fetchall())}
            imported = connection.execute("SELECT cell FROM imported").fetchall() if model_id is None else []
        cells, brought_in = self._cells(row[4] for row in rows), self._cells(row[0] for row in imported)
        tile_size = rows[0][2] if rows else size or _IMPORT_TILE if imported else 0
        beside = list(_by_tile(brought_in, tile_size))
        counts = np.array([row[3] for row in rows] + [len(part) for _, part in beside], np.int64)
        cells = Cells.concatenate([cells, *(part for _, part in beside)])
        if len(cells) != counts.sum():
            raise self._damaged()
        return Detections(
            cells,
            model_ids,
            np.array([row[:2] for row in rows] + [place for place, _ in beside], np.int64).reshape(-1, 2),
            np.array([row[5] for row in rows] + [0] * len(beside), np.int64),
            counts,
            tile_size,
        )

    def _cells(self, blobs: Iterable[bytes]) -> Cells:
        try:
            cells = Cells.from_bytes(b"".join(blobs))
            cells.labels = self._taxonomy.merged(cells.labels)
        except (ValueError, IndexError):
            raise self._damaged() from None
        return cells

    def _damaged(self) -> CaseError:
        return CaseError(f"The detections in {self._store.path} are damaged. Detect again in a new case.")

    def looks(self, run: int, x: int, y: int, size: int, n: int) -> Looks:
        """Return what the `n` cells look like that a run found in a tile, in their order; none, (0, 0), where it did
        not say. Raises CaseError.
        """
        with self._store.access() as connection:
            sql = "SELECT looks FROM looks WHERE run = ? AND size = ? AND x = ? AND y = ?"
            row = connection.execute(sql, (run, size, x, y)).fetchone()
        if row is None or not n:
            return np.zeros((0, 0), np.float16)
        try:
            return np.frombuffer(row[0], "<f2").reshape(n, -1)
        except ValueError:
            raise self._damaged() from None

    def scanned(self, model_id: str, size: int) -> set[tuple[int, int]]:
        """Return (x, y) of the tiles whose present cells come from the model: no need to look there again.

        None where the newest grid is not that of tiles of `size`: nothing that was found there is present.
        """
        present = _PRESENT.format(columns="x, y, size", which="")
        with self._store.access() as connection:
            sql = f"SELECT x, y FROM ({present}) AS t JOIN runs ON runs.id = t.run WHERE model_id = ? AND t.size = ?"
            return set(connection.execute(sql, (None, model_id, size)).fetchall())


def _by_tile(cells: Cells, size: int) -> Iterator[tuple[tuple[int, int], Cells]]:
    """Sort `cells` into tiles of `size` by their centres; give (x, y) of each that has some, and those."""
    homes, of = np.unique(np.floor(centres_of(cells.boxes) / size).astype(np.int64), axis=0, return_inverse=True)
    order, ends = np.argsort(of.ravel(), kind="stable"), np.cumsum(np.bincount(of.ravel(), minlength=len(homes)))
    for (column, row), start, end in zip(homes.tolist(), [0, *ends[:-1]], ends, strict=False):
        yield (column * size, row * size), cells[order[start:end]]


def _save(connection: sqlite3.Connection, run: int, tile: Tile, looks: Looks | None) -> None:
    x, y, size, _ = tile
    connection.execute(_SAVE_TILE, _row(run, tile))
    if looks is not None and looks.size:
        row = (run, int(size), int(x), int(y), np.ascontiguousarray(looks, "<f2").tobytes())
        connection.execute("INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?)", row)


def _row(run: int, tile: Tile) -> tuple[int, int, int, int, int, bytes]:
    x, y, size, cells = tile
    return run, int(x), int(y), int(size), len(cells), cells.to_bytes()
