"""Pairs in SQLite; each function is part of its caller's transaction."""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence

from shokado.stores.evidence import Evidence, ShadowScores, Sighting
from shokado.stores.pairs import JoinedPair, PairedLabel
from shokado.stores.sqlite_evidence import count, see

SCHEMA = """
CREATE TABLE IF NOT EXISTS shadow_scores (
    experiment TEXT, cohort INTEGER, key TEXT, answers BLOB NOT NULL, PRIMARY KEY (experiment, cohort, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS paired_labels (
    number INTEGER PRIMARY KEY, experiment TEXT, met INTEGER, cohort INTEGER, key TEXT, row INTEGER,
    content TEXT NOT NULL, UNIQUE (experiment, met, cohort, key, row)
);
CREATE INDEX IF NOT EXISTS paired_labels_by_age ON paired_labels (experiment, met, cohort, number);
"""
MET = """
SELECT cohort, key, row, content, answers FROM paired_labels JOIN shadow_scores USING (experiment, cohort, key)
WHERE experiment = ? AND met = 1 LIMIT ?
"""
_TABLES = ("shadow_scores", "paired_labels")
_KEEP = "INSERT OR IGNORE INTO paired_labels (experiment, met, cohort, key, row, content) VALUES (?, ?, ?, ?, ?, ?)"
_LET_GO = """
DELETE FROM paired_labels WHERE number IN (
    SELECT number FROM paired_labels WHERE experiment = ? AND met = 0 AND cohort = ? ORDER BY number LIMIT ?
)
"""


def keep_scores(connection: sqlite3.Connection, scores: Sequence[ShadowScores]) -> None:
    """Keep those for which there is room, and have the labels meet them that wait."""
    kept = _Numbers(connection, "SELECT count(*) FROM shadow_scores WHERE experiment = ? AND cohort = ?")
    for one in scores:
        cohort = one.experiment, one.cohort
        if kept[cohort] >= one.at_most:
            count(connection, {(one.experiment, one.no_room): 1.0})
            continue
        kept[cohort] += 1
        row = (*cohort, one.key, one.answers)
        connection.execute("INSERT OR IGNORE INTO shadow_scores VALUES (?, ?, ?, ?)", row)
        met = "UPDATE paired_labels SET met = 1 WHERE experiment = ? AND met = 0 AND cohort = ? AND key = ?"
        connection.execute(met, (*cohort, one.key))


def keep_labels(connection: sqlite3.Connection, labels: Sequence[PairedLabel]) -> None:
    """Have them meet their scores, or wait for them in place of those that wait the longest."""
    waiting = _Numbers(connection, "SELECT count(*) FROM paired_labels WHERE experiment = ? AND met = 0 AND cohort = ?")
    for one in labels:
        count(connection, {(one.experiment, one.counted): 1.0})
        cohort = one.experiment, one.cohort
        there = "SELECT 1 FROM shadow_scores WHERE experiment = ? AND cohort = ? AND key = ?"
        met = connection.execute(there, (*cohort, one.key)).fetchone() is not None
        if not met and not one.waits:
            continue
        if not met and (many := waiting[cohort] + 1 - one.at_most) > 0:
            connection.execute(_LET_GO, (*cohort, many))
            count(connection, {(one.experiment, one.let_go): float(many)})
            waiting[cohort] -= many
        kept = connection.execute(_KEEP, (one.experiment, met, one.cohort, one.key, one.row, one.content)).rowcount
        waiting[cohort] += kept if not met else 0


def join(connection: sqlite3.Connection, experiment: str, joined: Sequence[JoinedPair]) -> None:
    """Count what those are worth that nobody has joined before."""
    sums: defaultdict[tuple[str, Evidence], float] = defaultdict(float)
    sightings: list[Sighting] = []
    for one in joined:
        row = (experiment, one.pair.cohort, one.pair.key, one.pair.row)
        taken = "DELETE FROM paired_labels WHERE experiment = ? AND met = 1 AND cohort = ? AND key = ? AND row = ?"
        if connection.execute(taken, row).rowcount:
            for of, number in one.counts.items():
                sums[experiment, of] += number
            sightings += [one.sighting] if one.sighting is not None else []
    count(connection, sums)
    see(connection, sightings)


def forget(connection: sqlite3.Connection, keep: Mapping[str, int]) -> None:
    """Drop all that is of other experiments, or of cohorts that began before those."""
    for table in _TABLES:
        for (experiment,) in connection.execute(f"SELECT DISTINCT experiment FROM {table}").fetchall():  # noqa: S608
            before = keep.get(experiment, 2**62)
            gone = f"DELETE FROM {table} WHERE experiment = ? AND cohort < ?"  # noqa: S608  # ours
            connection.execute(gone, (experiment, before))


class _Numbers(dict[tuple[str, int], int]):
    """How many there are of a cohort of an experiment: counted once, as there may be thousands."""

    def __init__(self, connection: sqlite3.Connection, query: str) -> None:
        super().__init__()
        self._connection = connection
        self._query = query

    def __missing__(self, cohort: tuple[str, int]) -> int:
        (number,) = self._connection.execute(self._query, cohort).fetchone()
        self[cohort] = number
        return int(number)
