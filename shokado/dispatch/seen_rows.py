"""Seen rows: what the traffic names and lacks, counted while versions differ in their features.

In: the rows of requests that name no version, which the split deals out. Out: counts by environment and by what was
counted, a name for each, for whoever adds them up over all workers.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from runners.inputs.union import OpenRows, RowForm, UnionRows

SEEN_WITHIN_S = 600.0
"""How far back is looked: regular clients were heard by then, and of a client that was mended it is over soon."""
SEEN = "seen_"
"""What the names of all counts begin with."""
_ROWS = f"{SEEN}rows"
_FORM = f"{SEEN}form:"
_LACKING = f"{SEEN}lacking:"
_KNOWN = f"{SEEN}known:"
"""Rows that were seen while not every version took the feature."""

SeenCounts = Mapping[tuple[str, str], float]
"""Numbers of rows by environment and name."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a version needs, and rows that it could be given came without."""

    feature: str | None
    """None: the rows came without names, and have another version's features."""
    lacking: int
    rows: int
    """How many were seen while it mattered."""

    def __str__(self) -> str:
        within = f"of {self.rows} rows seen in the last {SEEN_WITHIN_S / 60:.0f} minutes"
        if self.feature is None:
            return f"{self.lacking} {within} came without names, and have another version's features"
        return f"it needs the feature {self.feature!r}, and {self.rows - self.lacking} {within} had it"


class SeenRows:
    """Counts what this worker's requests bring. Belongs to the event loop."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str], float] = defaultdict(float)

    def note(self, environment: str, rows: OpenRows) -> None:
        """Count the rows of a request for any version of the environment."""
        counts, number = self._counts, rows.count
        counts[environment, _ROWS] += number
        if rows.form is not RowForm.NAMED:
            counts[environment, _FORM + rows.form] += number
        for feature in rows.union.optional:
            counts[environment, _KNOWN + feature] += number
        for feature, lacking in rows.lacking.items():
            counts[environment, _LACKING + feature] += lacking

    def flush(self) -> SeenCounts:
        """Hand over what was counted since the last time."""
        counts, self._counts = self._counts, defaultdict(float)
        return counts


def shortfalls_of(counts: SeenCounts, union: UnionRows) -> dict[tuple[str, str], Shortfall]:
    """By environment and version, what most of the rows lacked that were seen; nothing of a version that fits all."""
    found: dict[tuple[str, str], Shortfall] = {}
    for environment in {environment for environment, _ in counts}:
        for version, row_format in union.formats.items():
            shortfalls = [
                Shortfall(name, lacking, round(counts.get((environment, _KNOWN + name), 0)))
                for name in row_format.feature_names
                if (lacking := round(counts.get((environment, _LACKING + name), 0)))
            ]
            unread = sum(
                round(counts.get((environment, _FORM + form), 0)) for form in RowForm if not union.reads(version, form)
            )
            if unread:
                shortfalls.append(Shortfall(None, unread, round(counts.get((environment, _ROWS), 0))))
            if shortfalls:
                found[environment, version] = max(shortfalls, key=lambda each: each.lacking)
    return found
