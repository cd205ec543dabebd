"""Evidence of experiments in SQLite; each function is part of its caller's transaction."""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from shokado.stores.evidence import KEEP_BATCHES_S, PLAIN, Evidence, EvidenceBatch, Sighting

SCHEMA = """
CREATE TABLE IF NOT EXISTS evidence (
    experiment TEXT, scope TEXT, level INTEGER, stage INTEGER, version TEXT, cohort INTEGER, name TEXT,
    value REAL NOT NULL, PRIMARY KEY (experiment, scope, level, stage, version, cohort, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence_scopes (
    experiment TEXT, scope TEXT, lowest INTEGER NOT NULL, units INTEGER NOT NULL, PRIMARY KEY (experiment, scope)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence_units (
    experiment TEXT, scope TEXT, level INTEGER, unit BLOB, PRIMARY KEY (experiment, scope, level, unit)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence_batches (
    worker TEXT PRIMARY KEY, number INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""
SUMS = """
SELECT stage, version, name, sum(value) FROM evidence WHERE experiment = ? AND cohort < ? GROUP BY stage, version, name
"""
ROWS = """
SELECT stage, version, cohort, name, sum(value) FROM evidence WHERE experiment = ? GROUP BY stage, version, cohort, name
"""
HALVINGS = "SELECT scope, lowest FROM evidence_scopes WHERE experiment = ?"
_ADD = """
INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value
"""
_TABLES = ("evidence", "evidence_scopes", "evidence_units")


def add_batch(connection: sqlite3.Connection, batch: EvidenceBatch, at: float) -> bool:
    """Add what a batch counts, unless it was added before; whether it was not."""
    known = "SELECT 1 FROM evidence_batches WHERE worker = ? AND number >= ?"
    if connection.execute(known, (batch.worker, batch.number)).fetchone() is not None:
        return False
    connection.execute("INSERT OR REPLACE INTO evidence_batches VALUES (?, ?, ?)", (batch.worker, batch.number, at))
    count(connection, batch.counts)
    see(connection, batch.sightings)
    return True


def count(connection: sqlite3.Connection, counts: Mapping[tuple[str, Evidence], float]) -> None:
    """Add what counts in any case, by experiment and evidence."""
    rows = [(experiment, PLAIN, 0, *of, number) for (experiment, of), number in counts.items()]
    connection.executemany(_ADD, rows)


def see(connection: sqlite3.Connection, sightings: Sequence[Sighting]) -> None:
    """Count those whose units are new to their scopes."""
    scopes: defaultdict[tuple[str, str], list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        scopes[sighting.experiment, sighting.scope].append(sighting)
    for (experiment, scope), seen in scopes.items():
        _see(connection, experiment, scope, seen)


def forget(connection: sqlite3.Connection, keep: Collection[str], now: float) -> None:
    """Drop all that is of other experiments, and which batches were added long ago."""
    for (experiment,) in connection.execute("SELECT DISTINCT experiment FROM evidence").fetchall():
        if experiment not in keep:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE experiment = ?", (experiment,))  # noqa: S608  # ours
    connection.execute("DELETE FROM evidence_batches WHERE at < ?", (now - KEEP_BATCHES_S,))


def _see(connection: sqlite3.Connection, experiment: str, scope: str, sightings: Sequence[Sighting]) -> None:
    named = experiment, scope
    kept = "SELECT lowest, units FROM evidence_scopes WHERE experiment = ? AND scope = ?"
    lowest, units = connection.execute(kept, named).fetchone() or (0, 0)
    sums: defaultdict[tuple[int, Evidence], float] = defaultdict(float)
    for sighting in sightings:
        level = sighting.level
        if level < lowest:
            continue
        row = (*named, level, sighting.unit)
        if not connection.execute("INSERT OR IGNORE INTO evidence_units VALUES (?, ?, ?, ?)", row).rowcount:
            continue
        units += 1
        for of, number in sighting.counts.items():
            sums[level, of] += number
        while units > sighting.at_most:
            units -= _let_go(connection, experiment, scope, lowest, sums)
            lowest += 1
    connection.executemany(_ADD, [(*named, level, *of, number) for (level, of), number in sums.items()])
    connection.execute("INSERT OR REPLACE INTO evidence_scopes VALUES (?, ?, ?, ?)", (*named, lowest, units))


def _let_go(
    connection: sqlite3.Connection, experiment: str, scope: str, level: int, sums: dict[tuple[int, Evidence], float]
) -> int:
    """Drop all units of a level, and what was counted for them; how many they were."""
    where = "experiment = ? AND scope = ? AND level = ?"
    connection.execute(f"DELETE FROM evidence WHERE {where}", (experiment, scope, level))  # noqa: S608  # ours
    for key in [key for key in sums if key[0] == level]:
        del sums[key]
    gone = connection.execute(f"DELETE FROM evidence_units WHERE {where}", (experiment, scope, level))  # noqa: S608
    return gone.rowcount


def sums_of(rows: Sequence[tuple[int, str, str, float]]) -> Mapping[tuple[int, str, str], float]:
    """Rows of `SUMS` by stage, version and name."""
    return {(stage, version, name): value for stage, version, name, value in rows}
