"""The file under a case: one SQLite database in WAL mode, and what can go wrong with it in words for people."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import CervcellError
from ..files import database_in_use
from ..taxonomy import Taxonomy

__all__ = ["FORMAT_VERSION", "CaseError", "Record", "Store", "now"]

APPLICATION_ID = 0x43455256  # "CERV", in the header of the file: tells a case from any other SQLite file
FORMAT_VERSION = 1
_LOG = 64  # transactions that the log gathers
BUSY_SECONDS = 10.0

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model_id TEXT NOT NULL, model_name TEXT NOT NULL, scope TEXT NOT NULL,
    started TEXT NOT NULL, finished TEXT, state TEXT NOT NULL DEFAULT 'running'
);
CREATE TABLE tiles (
    run INTEGER NOT NULL REFERENCES runs (id), x INTEGER NOT NULL, y INTEGER NOT NULL, size INTEGER NOT NULL,
    n INTEGER NOT NULL, cells BLOB NOT NULL, PRIMARY KEY (run, size, x, y)
);
CREATE INDEX tiles_by_place ON tiles (size, x, y, run);

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, reviewer TEXT NOT NULL, kind TEXT NOT NULL,
    cell INTEGER NOT NULL DEFAULT 0,
    x1 REAL NOT NULL DEFAULT 0, y1 REAL NOT NULL DEFAULT 0, x2 REAL NOT NULL DEFAULT 0, y2 REAL NOT NULL DEFAULT 0,
    label INTEGER NOT NULL DEFAULT -1, detected_label INTEGER NOT NULL DEFAULT -1, score REAL,
    model_id TEXT NOT NULL DEFAULT '', group_id INTEGER NOT NULL DEFAULT 0, target INTEGER NOT NULL DEFAULT 0,
    drawn INTEGER
);
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the events of a case are only ever added to'); END;
CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the events of a case are only ever added to'); END;

CREATE TABLE rounds (
    id INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT NOT NULL, finished TEXT, parent_model_id TEXT NOT NULL,
    settings TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'running', metrics TEXT NOT NULL DEFAULT '{}',
    model_id TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '', model BLOB,
    reviewer TEXT
);
"""

# Looks have a table of their own: they are ten times as many bytes as the tiles, which are read whole whenever a case
# is opened. Imported cells are of no model and no grid; `x` and `y` are their centres.
ADDED_LATER = """
CREATE TABLE IF NOT EXISTS looks (
    run INTEGER NOT NULL REFERENCES runs (id), size INTEGER NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL,
    looks BLOB NOT NULL, PRIMARY KEY (run, size, x, y)
);
CREATE TABLE IF NOT EXISTS imported (x REAL NOT NULL, y REAL NOT NULL, cell BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS imported_by_place ON imported (x, y);
"""


class CaseError(CervcellError):
    """A case file cannot be made, read or written."""


def now() -> str:
    """Return the time in UTC as ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def explain(error: sqlite3.Error, path: Path) -> CaseError:
    """Return the message for people that stands for an `error` of SQLite on the file `path`."""
    # the low byte is the primary code, the rest details of it; misuse of the module carries no code at all
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    safe = "Everything saved before is safe."
    if code == sqlite3.SQLITE_FULL:
        return CaseError(f"The disk is full: the change could not be saved to {path}. {safe} Make room and try again.")
    if code == sqlite3.SQLITE_IOERR:
        return CaseError(
            f"The disk reports an error for {path}; it may be full or unplugged. {safe} Check the disk and try again."
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return CaseError(
            f"Cannot write the case file {path}: the file or its folder is read-only or is not there. "
            "Choose a folder where you may write, or copy the case there."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CaseError(f"The case file {path} is busy in another program. {safe} Try again in a moment.")
    if code == sqlite3.SQLITE_NOTADB:
        return CaseError(f"{path} is not a case file. Choose a file that napari-cervcell has made.")
    if code == sqlite3.SQLITE_CORRUPT:
        return CaseError(f"The case file {path} is damaged or cut short. Take it again from where it was copied.")
    return CaseError(f"The case file {path} cannot be used: {error}.")


class Store:
    """One open database: a connection that several threads share behind one lock.

    Other processes may have the same file open. Each change is a transaction that takes the write lock at its start,
    so what is read inside one is the present state, whoever wrote it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._in_use = contextlib.ExitStack()
        self._in_use.enter_context(database_in_use(path))
        self._lock = threading.RLock()
        self._logged = 0  # transactions since the log was last emptied
        self._emptying: threading.Thread | None = None

    @classmethod
    def create(cls, path: str | Path, meta: Mapping[str, Any]) -> Store:
        """Make a new file that holds `meta` and nothing else. Raises CaseError, and then leaves no file behind."""
        path = Path(path).absolute()
        try:
            path.open("xb").close()  # fails where a file exists, so that two windows never make one case twice
        except FileExistsError:
            raise CaseError(f"{path} exists already. Open it, or choose another name for the new case.") from None
        except OSError as error:
            raise CaseError(
                f"Cannot make the case file {path}: {error.strerror or error}. Choose a folder where you may write."
            ) from None
        try:
            with contextlib.closing(_connect(path)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                for statement in _statements(SCHEMA):
                    connection.execute(statement)
                rows = [(key, json.dumps(value)) for key, value in meta.items()]
                connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
                connection.execute("COMMIT")
            return cls.open(path)
        except BaseException as error:
            for suffix in ("", "-journal", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            if isinstance(error, sqlite3.Error):
                raise explain(error, path) from error
            raise

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open an existing file for reading and writing. Raises CaseError; a file that is no case stays untouched."""
        path = Path(path).absolute()
        try:
            size = path.stat().st_size
        except OSError as error:
            raise CaseError(f"Cannot open the case file {path}: {error.strerror or error}. Check the path.") from None
        if path.is_dir():
            raise CaseError(f"{path} is a folder, not a case file. Choose the file itself.")
        if size == 0:
            raise CaseError(f"{path} is empty: it is not a case file. Delete it to start a new case in its place.")
        connection = None
        try:
            connection = _connect(path)
            _check(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")  # a case that cannot be written is refused now, not at a verdict
            _add_what_is_new(connection)
            connection.execute("COMMIT")
            return cls(path, connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise explain(error, path) from error
            raise

    @contextlib.contextmanager
    def access(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and give the connection, for reading. Raises CaseError where SQLite raises its own."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise explain(error, self.path) from error

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Give the connection inside one transaction: on disk when the block is left, undone where it raises.

        With `durable` False a power cut (but no crash of the program) may take the change back: for what can be
        computed again.
        """
        with self.access() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk makes SQLite roll back by itself
                    connection.execute("ROLLBACK")
                raise
            self._empty_log_now_and_then()

    def _empty_log_now_and_then(self) -> None:
        """Move what the log has gathered into the file, in a thread: whoever gave a verdict shall not wait for that."""
        self._logged += 1
        if self._logged < _LOG or (self._emptying is not None and self._emptying.is_alive()):
            return
        self._logged = 0

        def move() -> None:
            # what cannot be moved now stays in the log, which is as safe
            with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(self.path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

        self._emptying = threading.Thread(target=move, name="case log", daemon=True)
        self._emptying.start()

    def meta(self, key: str, *, optional: bool = False) -> Any:
        """Return the value stored under `key`; where there is none, None if `optional`.

        Raises CaseError where there is none that must be there: the file is damaged.
        """
        with self.access() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            if optional:
                return None
            raise CaseError(f"The case file {self.path} is damaged: it has lost its {key}. Take a copy of it.")
        return json.loads(row[0])

    def set_meta(self, key: str, value: Any, *, durable: bool = True) -> None:
        with self.transaction(durable=durable) as connection:
            _put(connection, key, value)

    def change_meta(self, key: str, change: Callable[[Any], Any]) -> None:
        """Store what `change` makes of the value under `key`, None where there is none; nobody writes in between."""
        with self.transaction() as connection:
            _put(connection, key, change(self.meta(key, optional=True)))

    def close(self) -> None:
        with self._lock:
            if self._emptying is not None:
                self._emptying.join()
            self._connection.close()
            self._in_use.close()


class Record:
    """What a part of a case stands on: the store, and who is writing."""

    def __init__(self, store: Store, reviewer: str) -> None:
        self._store = store
        self._taxonomy = self._stored_taxonomy()
        self.reviewer = reviewer

    def _stored_taxonomy(self) -> Taxonomy:
        return Taxonomy.from_json(self._store.meta("taxonomy"))


def _put(connection: sqlite3.Connection, key: str, value: Any) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: never make the file; isolation_level None: transactions are begun and ended here, not by the module
    connection = sqlite3.connect(
        path.as_uri() + "?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # the log is emptied beside the work, not within it
    return connection


def _statements(script: str) -> Iterator[str]:
    # executescript would commit the transaction that it runs in
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _add_what_is_new(connection: sqlite3.Connection) -> None:
    # older programs never ask for these, so they make no new format
    for statement in _statements(ADDED_LATER):
        connection.execute(statement)
    for table, column, kind in (("events", "drawn", "INTEGER"), ("rounds", "reviewer", "TEXT")):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info ({table})")]
        if column not in columns:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise CaseError(f"{path} is a database of another program, not a case file. Choose another file.")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > FORMAT_VERSION:
        raise CaseError(
            f"The case file {path} was made by a newer napari-cervcell (its format is {version}, this program reads "
            f"up to {FORMAT_VERSION}). Update napari-cervcell to open it."
        )
