"""Counts by segment in SQLite; each function is part of its caller's transaction."""

import sqlite3
from collections.abc import Mapping

from shokado.stores.level_counts import LevelCount, hour_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS level_counts (
    version TEXT, feature TEXT, hour INTEGER, level TEXT, name TEXT, value REAL NOT NULL,
    PRIMARY KEY (version, feature, hour, level, name)
) WITHOUT ROWID;
"""
SUMS = """
SELECT level, name, sum(value) FROM level_counts WHERE version = ? AND feature = ? AND hour >= ? GROUP BY level, name
"""
FORGET = "DELETE FROM level_counts WHERE hour < ?"
_ADD = """
INSERT INTO level_counts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value
"""


def add(connection: sqlite3.Connection, counts: Mapping[LevelCount, float], at: float) -> None:
    """Add to the hour of `at`."""
    hour = hour_of(at)
    rows = [(of.version, of.feature, hour, of.level, of.name, number) for of, number in counts.items()]
    connection.executemany(_ADD, rows)
