"""The store of one machine: an SQLite file that its workers share.

In WAL mode readers and the one writer do not wait for each other. What is confirmed was written through to the disk.
"""

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stores.record import decode_entry, decode_report, encode_entry, encode_report
from stores.store import (
    EMPTY,
    Entry,
    GenerationConflict,
    Position,
    Settlement,
    StoreUnavailable,
    Tally,
    WorkerReport,
    minute_of,
)

_BUSY_S = 3.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (generation INTEGER PRIMARY KEY, id TEXT NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS secret (number INTEGER PRIMARY KEY CHECK (number = 1), value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS reports (worker TEXT PRIMARY KEY, forgotten_at REAL NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS settled (key TEXT PRIMARY KEY, expires_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tallies (
    minute INTEGER, version TEXT, environment TEXT, name TEXT, value REAL NOT NULL,
    PRIMARY KEY (minute, version, environment, name)
) WITHOUT ROWID;
"""


class SqliteStore:
    """See `stores.store.Store`. The file is made when something is first written."""

    durability = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._writable = False

    @property
    def name(self) -> str:
        return str(self._path)

    def position(self) -> Position:
        with self._reading() as connection:
            if connection is None:
                return EMPTY
            found = connection.execute("SELECT generation, id FROM entries ORDER BY generation DESC LIMIT 1").fetchone()
            return Position(*found) if found else EMPTY

    def read(self) -> Entry | None:
        return self._one("SELECT content FROM entries ORDER BY generation DESC LIMIT 1")

    def append(self, entry: Entry, expected: int) -> None:
        if entry.generation <= expected:
            raise ValueError(f"generation {entry.generation} cannot follow {expected}")
        with self._writing(firmly=True) as connection:
            (found,) = connection.execute("SELECT coalesce(max(generation), 0) FROM entries").fetchone()
            if found != expected:
                raise GenerationConflict(expected, found)
            row = (entry.generation, entry.id, encode_entry(entry))
            connection.execute("INSERT INTO entries VALUES (?, ?, ?)", row)

    def entry(self, generation: int) -> Entry | None:
        return self._one("SELECT content FROM entries WHERE generation = ?", generation)

    def history(self, limit: int, before: int | None = None) -> list[Entry]:
        query = "SELECT content FROM entries WHERE generation < ? ORDER BY generation DESC LIMIT ?"
        rows = self._all(query, before if before is not None else 2**62, limit)
        return [decode_entry(content) for (content,) in rows]

    def secret(self) -> bytes:
        with self._reading() as connection:
            found = connection.execute("SELECT value FROM secret").fetchone() if connection is not None else None
        if found is None:
            with self._writing(firmly=True) as connection:
                connection.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (secrets.token_bytes(32),))
                found = connection.execute("SELECT value FROM secret").fetchone()
        return bytes(found[0])

    def report(self, report: WorkerReport, keep_s: float) -> None:
        with self._writing(firmly=False) as connection:
            row = (report.worker, report.at + keep_s, encode_report(report))
            connection.execute("INSERT OR REPLACE INTO reports VALUES (?, ?, ?)", row)

    def reports(self, now: float) -> list[WorkerReport]:
        rows = self._all("SELECT content FROM reports WHERE forgotten_at > ? ORDER BY worker", now)
        return [decode_report(content) for (content,) in rows]

    def withdraw(self, worker: str) -> None:
        with self._writing(firmly=False) as connection:
            connection.execute("DELETE FROM reports WHERE worker = ?", (worker,))

    def settle(self, settlements: Sequence[Settlement], at: float) -> list[bool]:
        counted: list[bool] = []
        with self._writing(firmly=True) as connection:
            for settlement in settlements:
                connection.execute("DELETE FROM settled WHERE key = ? AND expires_at <= ?", (settlement.key, at))
                new = connection.execute(
                    "INSERT OR IGNORE INTO settled VALUES (?, ?)", (settlement.key, settlement.expires_at)
                ).rowcount
                counted.append(bool(new))
                if new:
                    _add(connection, settlement.counts, at)
        return counted

    def add(self, counts: Mapping[Tally, float], at: float) -> None:
        with self._writing(firmly=False) as connection:
            _add(connection, counts, at)

    def tallies(self, since: float) -> dict[tuple[int, Tally], float]:
        rows = self._all("SELECT * FROM tallies WHERE minute >= ?", minute_of(since))
        return {
            (minute, Tally(version, environment, name)): value for minute, version, environment, name, value in rows
        }

    def forget(self, before: float, now: float) -> None:
        with self._writing(firmly=False) as connection:
            connection.execute("DELETE FROM tallies WHERE minute < ?", (minute_of(before),))
            connection.execute("DELETE FROM settled WHERE expires_at <= ?", (now,))
            connection.execute("DELETE FROM reports WHERE forgotten_at <= ?", (now,))

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _one(self, query: str, *values: Any) -> Entry | None:
        rows = self._all(query, *values)
        return decode_entry(rows[0][0]) if rows else None

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._reading() as connection:
            return connection.execute(query, values).fetchall() if connection is not None else []

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection; none where there is no file."""
        with self._explained():
            self._let_go_of_another_file()
            if self._connection is None:
                if not self._path.exists():
                    yield None
                    return
                self._open_for_reading()
            yield self._connection

    @contextlib.contextmanager
    def _writing(self, *, firmly: bool) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction, which is over in one piece; `firmly`: and on the disk."""
        with self._explained():
            self._let_go_of_another_file()
            if not self._writable:
                self.close()
            if self._connection is None:
                self._open()
            connection = self._connection
            assert connection is not None
            connection.execute(f"PRAGMA synchronous = {'FULL' if firmly else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            self.close()
            reason = error.strerror if isinstance(error, OSError) else None
            raise StoreUnavailable(f"the store {self._path} cannot be used: {reason or error}") from error

    def _let_go_of_another_file(self) -> None:
        """Close the connection when the file was deleted or replaced: it would go on with the old one."""
        if self._connection is not None and self._inode != _inode(self._path):
            self.close()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # It holds the secret. SQLite gives its other files the same mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = self._connect("rw")
        try:
            _switch_to_wal(connection)
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        self._connection, self._writable = connection, True

    def _open_for_reading(self) -> None:
        """As it is, where it cannot be written: SQLite itself must make a file beside it, unless told that none can."""
        with contextlib.suppress(sqlite3.OperationalError, OSError):
            self._open()
            return
        for mode in ("ro", "ro&immutable=1"):
            if "immutable" in mode and _has_content(self._path.with_name(f"{self._path.name}-wal")):
                continue
            connection = self._connect(mode)
            try:
                connection.execute("SELECT count(*) FROM entries").fetchone()
            except sqlite3.OperationalError:
                connection.close()
                continue
            self._connection, self._writable = connection, False
            return
        raise sqlite3.OperationalError("it can be neither written nor read")

    def _connect(self, mode: str) -> sqlite3.Connection:
        self._inode = _inode(self._path)
        uri = f"file:{quote(str(self._path))}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """When two processes make the file at once, SQLite refuses one of them without waiting for the other."""
    end = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _add(connection: sqlite3.Connection, counts: Mapping[Tally, float], at: float) -> None:
    connection.executemany(
        "INSERT INTO tallies VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(minute_of(at), *tally, number) for tally, number in counts.items()],
    )


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
