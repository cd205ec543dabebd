"""Counts by segment, as stores keep them: sums of an hour, of one level of one feature of a version's rows.

They are apart from tallies, which have a row for each minute and are read every few seconds.
"""

from typing import NamedTuple

HOUR_S = 3600
"""Counts are added up per hour: a day has 24 for each level of each version."""


class LevelCount(NamedTuple):
    """What is added up."""

    version: str
    feature: str
    """Bounded by settings; another one where its levels are others."""
    level: str
    """Bounded by settings."""
    name: str
    """Bounded by code."""


def hour_of(at: float) -> int:
    """When the hour of `at` began."""
    return int(at // HOUR_S) * HOUR_S
