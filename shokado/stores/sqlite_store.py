"""The store of one machine: an SQLite file that its workers share.

In WAL mode readers and the one writer do not wait for each other. What is confirmed was written through to the disk.
"""

import contextlib
import errno
import fcntl
import json
import os
import random
import secrets
import sqlite3
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from shokado.stores import sqlite_evidence, sqlite_levels, sqlite_pairs
from shokado.stores.evidence import CountedEvidence, Evidence, EvidenceBatch, GatheredEvidence, Sighting
from shokado.stores.level_counts import LevelCount, hour_of
from shokado.stores.pairs import JoinedPair, MetPair, PairedLabel
from shokado.stores.record import decode_entry, decode_report, encode_entry, encode_report
from shokado.stores.store import (
    BEFORE,
    EMPTY,
    GIVEN,
    MAX_KEEP_S,
    Binned,
    BinnedCounts,
    Entry,
    GenerationConflict,
    MinuteTallies,
    Position,
    Secret,
    Settlement,
    StoreUnavailable,
    Tally,
    WorkerReport,
    binned_bucket_of,
    minute_of,
)

_BUSY_S = 3.0
"""How long to wait for another process's write, which takes milliseconds unless the disk is slow."""
_LOOK_EVERY_S = 0.001
"""How often, on average, to look whether another process has written."""
_NO_ROOM_BESIDE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""What may mean that SQLite cannot make the files that it needs even for reading: the folder is read-only, or full."""
_OWNER = "-owner"
"""Ends the name of the file that says which file the log beside it belongs to: SQLite goes by their names alone."""
_INTEGERS = np.dtype("<i8")
"""What counts of binned rows are kept as."""
_SCHEMA = f"""{sqlite_evidence.SCHEMA}{sqlite_pairs.SCHEMA}{sqlite_levels.SCHEMA}
CREATE TABLE IF NOT EXISTS entries (generation INTEGER PRIMARY KEY, id TEXT NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS secret (number INTEGER PRIMARY KEY CHECK (number = 1), value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS secrets (
    value BLOB PRIMARY KEY, made_at REAL NOT NULL, idle_s REAL NOT NULL, placed TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (worker TEXT PRIMARY KEY, forgotten_at REAL NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS roles (role TEXT PRIMARY KEY, worker TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS settled (key TEXT PRIMARY KEY, expires_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tallies (
    minute INTEGER, version TEXT, environment TEXT, name TEXT, value REAL NOT NULL,
    PRIMARY KEY (minute, version, environment, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    name TEXT PRIMARY KEY, revision INTEGER NOT NULL, content BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tally_marks (minute INTEGER PRIMARY KEY, mark TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS binned (
    bucket INTEGER, version TEXT, bins TEXT, counts BLOB NOT NULL, PRIMARY KEY (version, bins, bucket)
);
"""
_TALLIES_OF = """
SELECT minute, mark, version, environment, name, value FROM tallies JOIN tally_marks USING (minute)
WHERE minute IN (SELECT value FROM json_each(?))
"""
_HAS_UNMARKED = "SELECT EXISTS (SELECT 1 FROM tallies) AND NOT EXISTS (SELECT 1 FROM tally_marks)"
_MARK_OLDER = """
INSERT OR IGNORE INTO tally_marks SELECT minute, lower(hex(randomblob(8))) FROM tallies GROUP BY minute
"""
_SECRETS = "SELECT value, made_at, idle_s, placed FROM secrets"
_IMPORT_OLDER = """
INSERT INTO secrets SELECT value, ?, 0, '' FROM secret WHERE NOT EXISTS (SELECT 1 FROM secrets)
"""
_TAKE_ROLE = """
INSERT INTO roles VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET worker = excluded.worker, until = excluded.until
WHERE roles.worker = excluded.worker OR roles.until <= ? OR roles.until > ?
"""
_KEEP = """
INSERT INTO secrets VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET idle_s = min(idle_s, excluded.idle_s)
"""


class SqliteStore:
    """See `shokado.stores.store.Store`. The file is made when something is first written."""

    durability = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._log_inode: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return str(self._path)

    def position(self) -> Position:
        rows = self._rows("SELECT generation, id FROM entries ORDER BY generation DESC LIMIT 1")
        return Position(*rows[0]) if rows else EMPTY

    def news(self) -> None:
        """Nothing tells: asking costs a file of this machine some 20 us."""

    def read(self) -> Entry | None:
        return next(iter(self.history(1)), None)

    def append(self, entry: Entry, expected: int) -> None:
        if entry.generation <= expected:
            raise ValueError(f"generation {entry.generation} cannot follow {expected}")
        row = (entry.generation, entry.id, encode_entry(entry))
        with self._writing(firmly=True) as connection:
            (found,) = connection.execute("SELECT coalesce(max(generation), 0) FROM entries").fetchone()
            if found != expected:
                raise GenerationConflict(expected, found)
            connection.execute("INSERT INTO entries VALUES (?, ?, ?)", row)

    def entry(self, generation: int) -> Entry | None:
        return next(iter(self._entries("SELECT content FROM entries WHERE generation = ?", generation)), None)

    def history(self, limit: int, before: int | None = None) -> list[Entry]:
        query = "SELECT content FROM entries WHERE generation < ? ORDER BY generation DESC LIMIT ?"
        return self._entries(query, before if before is not None else 2**62, limit)

    def secrets(self) -> list[Secret]:
        return [Secret(*row) for row in self._rows(_SECRETS)]

    def keep_secrets(self, known: Sequence[Secret], fresh: Secret | None = None) -> list[Secret]:
        with self._writing(firmly=True) as connection:
            connection.execute(_IMPORT_OLDER, (BEFORE,))
            connection.executemany(_KEEP, [astuple(secret) for secret in known])
            made = "SELECT 1 FROM secrets WHERE made_at > ?"
            if fresh is not None and connection.execute(made, (GIVEN,)).fetchone() is None:
                connection.execute(_KEEP, astuple(fresh))
            return [Secret(*row) for row in connection.execute(_SECRETS)]

    def age_secrets(self, by_s: float, limit_s: float, sealing: bytes) -> None:
        with self._writing(firmly=False) as connection:
            connection.execute("DELETE FROM secrets WHERE idle_s > ? AND value != ?", (limit_s, sealing))
            connection.execute("UPDATE secrets SET idle_s = idle_s + ? WHERE value != ?", (by_s, sealing))

    def report(self, report: WorkerReport, keep_s: float) -> None:
        row = (report.worker, report.at + keep_s, encode_report(report))
        with self._writing(firmly=False) as connection:
            connection.execute("INSERT OR REPLACE INTO reports VALUES (?, ?, ?)", row)

    def reports(self, now: float) -> list[WorkerReport]:
        query = "SELECT content FROM reports WHERE forgotten_at > ? AND forgotten_at <= ? ORDER BY worker"
        rows = self._rows(query, now, now + MAX_KEEP_S)
        with self._explained():
            return [decode_report(content) for (content,) in rows]

    def withdraw(self, worker: str) -> None:
        with self._writing(firmly=False) as connection:
            for table in ("reports", "roles"):
                connection.execute(f"DELETE FROM {table} WHERE worker = ?", (worker,))  # noqa: S608

    def take_role(self, role: str, worker: str, for_s: float, now: float) -> bool:
        for held_by, until in self._rows("SELECT worker, until FROM roles WHERE role = ?", role):
            # What ends later than any role can was taken before a clock was set back.
            is_held = now < until <= now + MAX_KEEP_S
            if is_held and (held_by != worker or until > now + for_s / 2):
                return bool(held_by == worker)
        with self._writing(firmly=False) as connection:
            taken = connection.execute(_TAKE_ROLE, (role, worker, now + for_s, now, now + MAX_KEEP_S))
            return taken.rowcount == 1

    def settle(self, settlements: Sequence[Settlement], at: float) -> list[bool]:
        counted: list[bool] = []
        sums: defaultdict[Tally, float] = defaultdict(float)
        sightings: list[Sighting] = []
        paired: list[PairedLabel] = []
        levels: defaultdict[LevelCount, float] = defaultdict(float)
        with self._writing(firmly=True) as connection:
            expired = [(settlement.key, at) for settlement in settlements]
            connection.executemany("DELETE FROM settled WHERE key = ? AND expires_at <= ?", expired)
            for settlement in settlements:
                row = (settlement.key, settlement.expires_at)
                new = connection.execute("INSERT OR IGNORE INTO settled VALUES (?, ?)", row).rowcount
                counted.append(bool(new))
                if new:
                    for tally, number in settlement.counts.items():
                        sums[tally] += number
                    for of, number in settlement.levels.items():
                        levels[of] += number
                    sightings += settlement.sightings
                    paired += [settlement.paired] if settlement.paired is not None else []
            _add(connection, sums, at)
            sqlite_levels.add(connection, levels, at)
            sqlite_evidence.see(connection, sightings)
            sqlite_pairs.keep_labels(connection, paired)
        return counted

    def add(self, counts: Mapping[Tally, float], at: float) -> None:
        with self._writing(firmly=False) as connection:
            _add(connection, counts, at)

    def tallies(self, since: float) -> dict[tuple[int, Tally], float]:
        rows = self._rows("SELECT * FROM tallies WHERE minute >= ?", minute_of(since))
        return {
            (minute, Tally(version, environment, name)): value for minute, version, environment, name, value in rows
        }

    def tally_marks(self, since: float) -> dict[int, str | None]:
        return dict(self._rows("SELECT * FROM tally_marks WHERE minute >= ? ORDER BY minute", minute_of(since)))

    def tallies_of(self, minutes: Collection[int]) -> dict[int, MinuteTallies]:
        found: dict[int, MinuteTallies] = {}
        for minute, mark, version, environment, name, value in self._rows(_TALLIES_OF, json.dumps([*minutes])):
            counts = found.setdefault(minute, MinuteTallies(mark, {})).counts
            counts[Tally(version, environment, name)] = value
        return found

    def add_levels(self, counts: Mapping[LevelCount, float], at: float) -> None:
        with self._writing(firmly=False) as connection:
            sqlite_levels.add(connection, counts, at)

    def level_sums(self, version: str, feature: str, since: float) -> dict[tuple[str, str], float]:
        rows = self._rows(sqlite_levels.SUMS, version, feature, hour_of(since))
        return {(level, name): value for level, name, value in rows}

    def add_evidence(self, batch: EvidenceBatch, at: float) -> None:
        with self._writing(firmly=False) as connection:
            if sqlite_evidence.add_batch(connection, batch, at):
                sqlite_pairs.keep_scores(connection, batch.scores)

    def evidence(self, experiment: str, before: float) -> GatheredEvidence:
        halvings = self._rows(sqlite_evidence.HALVINGS, experiment)
        rows = self._rows(sqlite_evidence.SUMS, experiment, before)
        return GatheredEvidence(sqlite_evidence.sums_of(rows), dict(halvings))

    def counted_evidence(self, experiment: str) -> CountedEvidence:
        halvings = self._rows(sqlite_evidence.HALVINGS, experiment)
        rows = self._rows(sqlite_evidence.ROWS, experiment)
        return CountedEvidence({Evidence(*of): value for *of, value in rows}, dict(halvings))

    def forget_evidence(self, keep: Collection[str], now: float) -> None:
        with self._writing(firmly=False) as connection:
            sqlite_evidence.forget(connection, keep, now)

    def met_pairs(self, experiment: str, at_most: int) -> list[MetPair]:
        return [MetPair(*row) for row in self._rows(sqlite_pairs.MET, experiment, at_most)]

    def join_pairs(self, experiment: str, joined: Sequence[JoinedPair]) -> None:
        with self._writing(firmly=False) as connection:
            sqlite_pairs.join(connection, experiment, joined)

    def forget_pairs(self, keep: Mapping[str, int]) -> None:
        with self._writing(firmly=False) as connection:
            sqlite_pairs.forget(connection, keep)

    def add_binned(self, counts: Mapping[Binned, BinnedCounts], at: float) -> None:
        bucket = binned_bucket_of(at)
        with self._writing(firmly=False) as connection:
            for of, more in counts.items():
                query = "SELECT counts FROM binned WHERE version = ? AND bins = ? AND bucket = ?"
                found = connection.execute(query, (*of, bucket)).fetchone()
                total = more if found is None else _counts(found[0]) + more
                row = (bucket, *of, total.astype(_INTEGERS).tobytes())
                connection.execute("INSERT OR REPLACE INTO binned VALUES (?, ?, ?, ?)", row)

    def binned(self, of: Binned, since: float) -> dict[int, BinnedCounts]:
        query = "SELECT bucket, counts FROM binned WHERE version = ? AND bins = ? AND bucket >= ?"
        rows = self._rows(query, *of, binned_bucket_of(since))
        return {bucket: _counts(counts) for bucket, counts in rows}

    def forget_binned(self, before: float) -> None:
        with self._writing(firmly=False) as connection:
            connection.execute("DELETE FROM binned WHERE bucket < ?", (binned_bucket_of(before),))

    def document(self, name: str) -> tuple[int, bytes | None]:
        rows = self._rows("SELECT revision, content FROM documents WHERE name = ?", name)
        return rows[0] if rows else (0, None)

    def put_document(self, name: str, content: bytes, revision: int) -> bool:
        with self._writing(firmly=True) as connection:
            found = connection.execute("SELECT revision FROM documents WHERE name = ?", (name,)).fetchone()
            if (found[0] if found is not None else 0) != revision:
                return False
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (name, revision + 1, content))
        return True

    def forget(self, before: float, now: float) -> None:
        with self._writing(firmly=False) as connection:
            for table in ("tallies", "tally_marks"):
                connection.execute(f"DELETE FROM {table} WHERE minute < ?", (minute_of(before),))  # noqa: S608
            connection.execute(sqlite_levels.FORGET, (hour_of(before),))
            connection.execute("DELETE FROM settled WHERE expires_at <= ?", (now,))
            late = "DELETE FROM reports WHERE forgotten_at <= ? OR forgotten_at > ?"
            connection.execute(late, (now, now + MAX_KEEP_S))

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.ExitStack() as alone:
            # The last to close a file removes its log, by name: nobody may have made one for another file meanwhile.
            with contextlib.suppress(OSError):
                alone.enter_context(_alone_in(self._path.parent))
            connection.close()
            with contextlib.suppress(OSError):
                if not self._beside("-wal").exists():
                    self._beside(_OWNER).unlink(missing_ok=True)

    def _entries(self, query: str, *values: Any) -> list[Entry]:
        rows = self._rows(query, *values)
        with self._explained():
            return [decode_entry(content) for (content,) in rows]

    def _rows(self, query: str, *values: Any) -> list[Any]:
        """What the query finds; an empty list where there is no file."""
        with self._explained():
            self._let_go_of_another_file()
            if self._connection is None and not self._path.exists():
                return []
            try:
                return self._opened().execute(query, values).fetchall()
            except (sqlite3.OperationalError, PermissionError) as error:
                self.close()
                if isinstance(error, sqlite3.Error) and _kind(error) not in _NO_ROOM_BESIDE:
                    raise
            # With a log beside it SQLite can do with what is there; without one it must be told that none is wanted.
            with contextlib.closing(self._connect("ro" if self._has_log() else "ro&immutable=1")) as connection:
                return connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _writing(self, *, firmly: bool) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction, which is over in one piece; `firmly`: and on the disk."""
        with self._explained():
            self._let_go_of_another_file()
            connection = self._opened()
            connection.execute(f"PRAGMA synchronous = {'FULL' if firmly else 'NORMAL'}")
            _begin(connection)
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
        if self._connection is None:
            return
        moved = self._inode != _inode(self._path)
        if moved or self._log_inode != _inode(self._beside("-wal")):
            with _alone_in(self._path.parent):
                # While it is open, no other file can have the number of its log.
                self._clear_up_after(self._inode, self._log_inode)
            self.close()

    def _clear_up_after(self, owner: tuple[int, int] | None, log: tuple[int, int] | None) -> None:
        """Remove the log of a file that is not here any more, if it still is."""
        if owner != _inode(self._path) and log == _inode(self._beside("-wal")):
            self._clear_up()

    def _tell_owner(self) -> None:
        """Write down which file the log belongs to, for whoever opens another one in its place."""
        text = json.dumps([self._inode, self._log_inode]).encode()
        path = self._beside(_OWNER)
        with contextlib.suppress(OSError):
            if path.exists() and path.read_bytes() == text:
                return
            path.unlink(missing_ok=True)
            path.touch(0o600)
            path.write_bytes(text)

    def _make(self) -> None:
        """Make an empty file, for nobody else, as it will hold secrets; or make sure that this one can be written.

        SQLite gives the same mode to the files that it makes beside it.
        """
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not self._path.exists():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._clear_up()
        elif not os.access(self._path, os.W_OK):
            # SQLite would make its files beside it, as read-only as it is, and they would stay so.
            raise PermissionError(errno.EACCES, "it is read-only")
        else:
            # Whoever opened the file that was here before may not have noticed yet.
            with contextlib.suppress(OSError, ValueError, TypeError):
                owner, log = json.loads(self._beside(_OWNER).read_bytes())
                self._clear_up_after(tuple(owner), tuple(log))

    def _clear_up(self) -> None:
        """Remove what belongs to a file that is gone: SQLite would take it for the new one's, and damage that."""
        for ending in ("-wal", "-shm", _OWNER):
            self._beside(ending).unlink(missing_ok=True)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _alone_in(self._path.parent):
                self._make()
                connection = self._connect("rw")
                try:
                    if self._inode != _inode(self._path):
                        raise OSError(errno.ESTALE, "it was replaced while it was opened")
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(_SCHEMA)
                    if connection.execute(_HAS_UNMARKED).fetchone()[0]:
                        connection.execute(_MARK_OLDER)
                except BaseException:
                    connection.close()
                    raise
                self._log_inode = _inode(self._beside("-wal"))
                self._tell_owner()
                self._connection = connection
        return self._connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        self._inode = _inode(self._path)
        uri = f"file:{quote(str(self._path))}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)

    def _beside(self, ending: str) -> Path:
        return self._path.with_name(self._path.name + ending)

    def _has_log(self) -> bool:
        """Whether some of the content is not in the file yet."""
        log = self._beside("-wal")
        return log.exists() and log.stat().st_size > 0


def _kind(error: sqlite3.Error) -> int:
    """The error's primary result code."""
    return error.sqlite_errorcode & 0xFF


def _begin(connection: sqlite3.Connection) -> None:
    """Begin to write as soon as nobody else does. Raises `sqlite3.OperationalError` after a while.

    SQLite itself looks every 100 ms in the end, and one of several that write without a pause may then never get its
    turn.
    """
    end = time.monotonic() + _BUSY_S
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if _kind(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(random.uniform(0, 2 * _LOOK_EVERY_S))  # noqa: S311  # spreads those who wait
            else:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(_BUSY_S * 1000)}")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time open a file in the folder, or clear up beside it. Raises `OSError` after a while.

    SQLite itself refuses, without waiting, one of two processes that make the file at once.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + _BUSY_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                break
        yield
    finally:
        os.close(handle)


def _add(connection: sqlite3.Connection, counts: Mapping[Tally, float], at: float) -> None:
    if not counts:
        return
    connection.executemany(
        "INSERT INTO tallies VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(minute_of(at), *tally, number) for tally, number in counts.items()],
    )
    connection.execute("INSERT OR REPLACE INTO tally_marks VALUES (?, ?)", (minute_of(at), secrets.token_hex(8)))


def _counts(content: bytes) -> BinnedCounts:
    return np.frombuffer(content, _INTEGERS).astype(np.int64)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
