"""The detector of one version: its logged rows and others go in, Evidently's report and a verdict come out.

log, window -> rows --+-> columns, compared -> report.html, report.json (Evidently), verdict.json
file, or log before --+
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from configuration.drift_settings import DriftSettings
from runners.artefacts.card import Card
from shokado.drift.divergence import MIN_ROWS, DriftVerdict, verdict_of_all
from shokado.lifecycle.detecting.compared_columns import ComparedColumn, compare
from shokado.lifecycle.detecting.evidently_report import write_report
from shokado.lifecycle.detecting.logged_window import LoggedWindow
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing.reference_rows import open_table, read_sample

VERDICT_FILE = "verdict.json"


class TooFewRows(LifecycleError):
    """Nothing can be said of so few rows; the message says of which."""


@dataclass(frozen=True)
class DriftOrder:
    """What to compare.

    Attributes:
        versions: whose rows are looked at; empty: of all that have rows in the window.
        since_s: how far back the window reaches.
        reference: a CSV or Parquet file, or None;
        against_s: then, how much of the log before the window.
        threshold: the PSI beyond which a column has drifted.
        error_rate: the chance at most that any column of a version is said to have drifted when none has.
    """

    versions: tuple[str, ...]
    since_s: float
    reference: Path | None
    against_s: float | None
    threshold: float
    error_rate: float


class ColumnVerdict(BaseModel):
    """What is said of a column: PSI with its interval; null while there are too few rows."""

    name: str
    verdict: DriftVerdict
    psi: float | None
    low: float | None
    high: float | None


class DriftReport(BaseModel):
    """What was found, as `verdict.json` has it."""

    version: str
    since: datetime
    until: datetime
    reference: str
    rows: int
    """How many the window has."""
    reference_rows: int
    threshold: float
    error_rate: float
    verdict: DriftVerdict
    """Drift where a column has drifted."""
    drifted: list[str]
    left_out: list[str]
    """Features that the log drops or hashes."""
    of_another_import: int
    """Rows of the window that another import of the version has answered; they are not compared."""
    columns: list[ColumnVerdict]


@dataclass(frozen=True, eq=False)
class _Sides:
    """Columns of the window, and what they are compared with."""

    columns: list[ComparedColumn]
    reference: str
    reference_rows: int
    left_out: frozenset[str]


def make_report(
    order: DriftOrder, window: LoggedWindow, before: LoggedWindow | None, now: float, folder: Path
) -> DriftReport:
    """Compare, and write the report into the folder; what was there of an earlier one is written over.

    Args:
        window: rows of a version, those since `order.since_s` before `now`, in Unix seconds.
        before: rows of the same import, of the time before that, where there are any and no file is named.

    Raises `LifecycleError` where nothing can be compared, among others `TooFewRows`, and `OSError`.
    """
    card = window.card
    if window.of < MIN_ROWS:
        raise too_few(f"the window of the log has {window.of} rows of {card.version}", "--since 7d")
    sides = _sides(order, card, window, before)
    if not sides.columns:
        raise LifecycleError(f"The log has no values to compare: it leaves out {', '.join(sorted(sides.left_out))}.")
    report = DriftReport(
        version=card.version,
        since=datetime.fromtimestamp(now - order.since_s, UTC),
        until=datetime.fromtimestamp(now, UTC),
        reference=sides.reference,
        rows=window.of,
        reference_rows=sides.reference_rows,
        threshold=order.threshold,
        error_rate=order.error_rate,
        verdict=verdict_of_all(column.verdict for column in sides.columns),
        drifted=[column.name for column in sides.columns if column.verdict is DriftVerdict.DRIFT],
        left_out=sorted(sides.left_out),
        of_another_import=window.others,
        columns=[_verdict(column) for column in sides.columns],
    )
    folder.mkdir(parents=True, exist_ok=True)
    # The verdict comes last: where it is, the report is whole.
    (folder / VERDICT_FILE).unlink(missing_ok=True)
    write_report(sides.columns, order.threshold, folder)
    (folder / VERDICT_FILE).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return report


def too_few(found: str, more: str) -> TooFewRows:
    """What is raised where so few rows were found; `more` is an option that gives more."""
    return TooFewRows(
        f"Too few rows: {found}, and {MIN_ROWS} are needed. Rows are logged where log.share is above 0.",
        f"shokado drift report .. {more}",
    )


def _sides(order: DriftOrder, card: Card, window: LoggedWindow, before: LoggedWindow | None) -> _Sides:
    settings = DriftSettings(threshold=order.threshold, error_rate=order.error_rate)
    if order.reference is not None:
        return _beside_file(order.reference, card, window, settings)
    if before is None or before.of < MIN_ROWS:
        rows = before.of if before else 0
        raise too_few(f"the log before the window has {rows} rows of this import of {card.version}", "--against 30d")
    left_out = window.masked | before.masked
    columns = compare(card, left_out, (before.rows, window.rows), (before.scores, window.scores), settings)
    return _Sides(columns, "the log before the window", before.of, left_out)


def _beside_file(path: Path, card: Card, window: LoggedWindow, settings: DriftSettings) -> _Sides:
    sample = read_sample(open_table(path, card), card)
    # What a request cannot have is not in the log, either.
    rows = sample.rows[card.row_format.fitting(sample.rows)]
    if len(rows) < MIN_ROWS:
        raise too_few(f"{path} has {len(rows)} rows that {card.version} takes", "--reference FILE")
    columns = compare(card, window.masked, (rows, window.rows), None, settings)
    return _Sides(columns, str(path), sample.of, window.masked)


def _verdict(column: ComparedColumn) -> ColumnVerdict:
    psi = column.divergence.psi if column.divergence else None
    return ColumnVerdict(
        name=column.name,
        verdict=column.verdict,
        psi=psi.value if psi else None,
        low=psi.low if psi else None,
        high=psi.high if psi else None,
    )
