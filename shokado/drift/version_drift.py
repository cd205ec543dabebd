"""What is told of the drift of a version: its columns' verdicts, distances and shares, of an hour or a day. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from configuration.drift_settings import DriftSettings
from runners.artefacts.reference import Counts, Levels, OriginKind
from runners.inputs.columns import Category
from runners.inputs.schema import Feature
from shokado.drift.column_counts import ColumnCounts, WatchedColumn, rows_of
from shokado.drift.divergence import DriftVerdict, Measured, compared, verdict_of, verdict_of_all


class DriftWindow(StrEnum):
    """How far back is looked."""

    HOUR = "hour"
    DAY = "day"

    @property
    def seconds(self) -> float:
        return {DriftWindow.HOUR: 3600.0, DriftWindow.DAY: 86_400.0}[self]


class CellKind(StrEnum):
    """Which values a cell has."""

    LEVEL = "level"
    OTHER = "other"
    """Levels beside those that are told one by one."""
    BELOW = "below"
    BIN = "bin"
    ABOVE = "above"
    INFINITE = "infinite"
    MISSING = "missing"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class DriftCell(_Frozen):
    """Values of a kind, and how large a part of the rows has one."""

    kind: CellKind
    level: str | None = Field(default=None, description="Of a category.")
    up_to: float | None = Field(default=None, description="Upper bound of a bin, which begins above the one before.")
    reference: float
    served: float | None = Field(description="Null where no row was counted, and where there is no finite share.")


class Distance(_Frozen):
    """A divergence of served rows from the reference."""

    value: float = Field(description="As it is usually computed; above 0 by chance even without drift.")
    low: float = Field(description="The true value lies above, but for `drift.error_rate` of all columns together.")
    high: float
    by_chance: float = Field(description="What `value` is on average without drift, from both numbers of rows.")


class UnknownLevels(_Frozen):
    """Texts that are no level of the feature."""

    rows: int = Field(description="Counted rows that had one, where the version takes them.")
    refused_requests: int = Field(description="Refused for one, whichever version they were for.")


class ColumnDrift(_Frozen):
    """A feature or a score."""

    verdict: DriftVerdict
    psi: Distance | None = Field(description="Population stability index; null while there are too few rows.")
    jensen_shannon: Distance | None = Field(description="Divergence in bits, between 0 and 1; likewise.")
    groups: int | None = Field(description="How many groups of cells were compared.")
    missing: DriftCell
    unknown_levels: UnknownLevels | None = Field(description="Null for what has no levels.")
    cells: list[DriftCell]


class ReferenceTold(_Frozen):
    """What the version was made of."""

    rows: int
    scored_rows: int
    origin: OriginKind
    made_at: datetime


class VersionDrift(_Frozen):
    """Whether what is served is still like what a version was made of, of all workers that share the store."""

    version: str
    window: DriftWindow
    verdict: DriftVerdict = Field(description="Of all columns: drift where one has drifted.")
    note: str = Field(description="Why nothing is watched, and the command that mends it; else empty.")
    seconds: float = Field(description="Real length of the window.")
    rows_seen: int = Field(description="Scored by the version.")
    rows: int = Field(description="Of these, counted: a sample where there were many.")
    reference: ReferenceTold | None
    threshold: float
    error_rate: float
    drifted: list[str] = Field(description="Names of the features, and of the scores, that have drifted.")
    features: dict[str, ColumnDrift]
    scores: dict[str, ColumnDrift]
    not_watched: list[str] = Field(description="Features beyond `drift.max_features`, and scores beyond 32.")

    @property
    def columns(self) -> Iterator[tuple[str, str, ColumnDrift]]:
        """Kind, name and what was found, of each."""
        for name, found in self.features.items():
            yield "feature", name, found
        for name, found in self.scores.items():
            yield "score", name, found


@dataclass(frozen=True, slots=True)
class Unwatched:
    """A version of which nothing is counted."""

    why: str


def drift_of(
    version: str, columns: ColumnCounts, counts: Counts, window: DriftWindow, seconds: float, settings: DriftSettings
) -> VersionDrift:
    """What the counts say, that were added up over so many seconds."""
    # All columns together have the error rate: Bonferroni, as each pair of intervals is told, not just the smallest.
    error_rate = settings.error_rate / len(columns.columns)
    features, scores = (
        {column.name: _column(column, counts, settings.threshold, error_rate) for column in some}
        for some in (columns.features, columns.scores)
    )
    found = {**features, **scores}
    reference = columns.reference
    seen, rows = rows_of(counts)
    return VersionDrift(
        version=version,
        window=window,
        verdict=verdict_of_all(column.verdict for column in found.values()),
        note="",
        seconds=seconds,
        rows_seen=seen,
        rows=rows,
        reference=ReferenceTold(
            rows=reference.rows,
            scored_rows=reference.scored_rows,
            origin=reference.origin.kind,
            made_at=reference.made_at,
        ),
        threshold=settings.threshold,
        error_rate=settings.error_rate,
        drifted=[
            name for some in (features, scores) for name, column in some.items() if column.verdict is DriftVerdict.DRIFT
        ],
        features=features,
        scores=scores,
        not_watched=list(columns.not_watched),
    )


def nothing_of(version: str, why: str, window: DriftWindow, settings: DriftSettings) -> VersionDrift:
    """What is told of a version of which nothing is counted."""
    return VersionDrift(
        version=version,
        window=window,
        verdict=DriftVerdict.NOT_WATCHED,
        note=why,
        seconds=0,
        rows_seen=0,
        rows=0,
        reference=None,
        threshold=settings.threshold,
        error_rate=settings.error_rate,
        drifted=[],
        features={},
        scores={},
        not_watched=[],
    )


def _column(column: WatchedColumn, counts: Counts, threshold: float, error_rate: float) -> ColumnDrift:
    served = counts[column.cells]
    divergence = compared(column.reference, served, column.bins.ordered, error_rate)
    cells = list(_cells(column, served))
    unknown = None
    if column.unknown is not None:
        rows, refused = counts[column.unknown : column.unknown + 2].tolist()
        unknown = UnknownLevels(rows=rows, refused_requests=refused)
    return ColumnDrift(
        verdict=verdict_of(divergence, threshold),
        psi=_told(divergence.psi) if divergence is not None else None,
        jensen_shannon=_told(divergence.jensen_shannon) if divergence is not None else None,
        groups=divergence.groups if divergence is not None else None,
        missing=cells[-1],
        unknown_levels=unknown,
        cells=cells,
    )


def _told(measured: Measured) -> Distance:
    return Distance(value=measured.value, low=measured.low, high=measured.high, by_chance=measured.by_chance)


def _cells(column: WatchedColumn, served: Counts) -> Iterator[DriftCell]:
    """The cells in the order of the array; what is missing comes last."""
    rows = int(served.sum())
    reference = (column.reference / column.reference.sum()).tolist()
    shares = (served / rows).tolist() if rows else [None] * len(served)
    for (kind, level, up_to), before, now in zip(_names(column), reference, shares, strict=True):
        yield DriftCell(kind=kind, level=level, up_to=up_to, reference=before, served=now)


def _names(column: WatchedColumn) -> Iterator[tuple[CellKind, str | None, float | None]]:
    bins = column.bins
    if isinstance(bins, Levels):
        for level in bins.levels:
            yield CellKind.LEVEL, _spelt(column.feature, level), None
        yield CellKind.OTHER, None, None
    else:
        yield CellKind.BELOW, None, bins.lowest
        for bound in bins.bounds:
            yield CellKind.BIN, None, bound
        yield CellKind.ABOVE, None, None
        yield CellKind.INFINITE, None, None
    yield CellKind.MISSING, None, None


def _spelt(feature: Feature | None, level: float) -> str:
    """A level as requests have it."""
    if feature is None or not feature.levels:
        return f"{level:g}"
    return Category(feature.name, feature.nullable, feature.levels, feature.other).spell(level) or ""
