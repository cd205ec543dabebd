"""The detector: logged rows of a version and others go in, Evidently's report and a verdict come out.

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
from shokado.lifecycle.detecting.logged_window import LoggedWindow, rows_between
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing.reference_rows import open_table, read_sample
from shokado.request_log.segments import Folder

VERDICT_FILE = "verdict.json"


@dataclass(frozen=True)
class DriftOrder:
    """What to compare.

    Attributes:
        since_s: how far back the window reaches.
        reference: a CSV or Parquet file, or None;
        against_s: then, how much of the log before the window.
        threshold: the PSI beyond which a column has drifted.
        error_rate: the chance at most that any column is said to have drifted when none has.
    """

    version: str
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
    """The window, and what it is compared with."""

    window: LoggedWindow
    columns: list[ComparedColumn]
    reference: str
    reference_rows: int
    left_out: frozenset[str]


def make_report(order: DriftOrder, log: Folder, now: float, target: Path) -> DriftReport:
    """Compare, and write the report below `target`; what was there of an earlier one is written over.

    Raises `LifecycleError` where there are too few rows to compare anything, `SegmentDamaged`, and `OSError`.
    """
    start = now - order.since_s
    window = rows_between(log, order.version, start, now)
    if window is None or window.of < MIN_ROWS:
        raise _too_few(f"the window of the log has {window.of if window else 0} rows of {order.version}", "--since 7d")
    sides = _sides(order, log, start, window)
    if not sides.columns:
        raise LifecycleError(f"The log has no values to compare: it leaves out {', '.join(sorted(sides.left_out))}.")
    verdicts = [_verdict(column) for column in sides.columns]
    report = DriftReport(
        version=order.version,
        since=datetime.fromtimestamp(start, UTC),
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
        columns=verdicts,
    )
    target.mkdir(parents=True, exist_ok=True)
    # The verdict comes last: where it is, the report is whole.
    (target / VERDICT_FILE).unlink(missing_ok=True)
    write_report(sides.columns, order.threshold, target)
    (target / VERDICT_FILE).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return report


def _sides(order: DriftOrder, log: Folder, start: float, window: LoggedWindow) -> _Sides:
    card = window.card
    settings = DriftSettings(threshold=order.threshold, error_rate=order.error_rate)
    if order.reference is not None:
        return _beside_file(order.reference, card, window, settings)
    assert order.against_s is not None
    before = rows_between(log, order.version, start - order.against_s, start, window.logged.card)
    if before is None or before.of < MIN_ROWS:
        rows = before.of if before else 0
        raise _too_few(f"the log before the window has {rows} rows of this import of {order.version}", "--against 30d")
    left_out = window.masked | before.masked
    columns = compare(card, left_out, (before.rows, window.rows), (before.scores, window.scores), settings)
    return _Sides(window, columns, "the log before the window", before.of, left_out)


def _beside_file(path: Path, card: Card, window: LoggedWindow, settings: DriftSettings) -> _Sides:
    sample = read_sample(open_table(path, card), card)
    # What a request cannot have is not in the log, either.
    rows = sample.rows[card.row_format.fitting(sample.rows)]
    if len(rows) < MIN_ROWS:
        raise _too_few(f"{path} has {len(rows)} rows that the version takes", "--reference FILE")
    columns = compare(card, window.masked, (rows, window.rows), None, settings)
    return _Sides(window, columns, str(path), sample.of, window.masked)


def _too_few(found: str, more: str) -> LifecycleError:
    return LifecycleError(
        f"Too few rows: {found}, and {MIN_ROWS} are needed. Rows are logged where log.share is above 0.",
        f"shokado drift report .. {more}",
    )


def _verdict(column: ComparedColumn) -> ColumnVerdict:
    psi = column.divergence.psi if column.divergence else None
    return ColumnVerdict(
        name=column.name,
        verdict=column.verdict,
        psi=psi.value if psi else None,
        low=psi.low if psi else None,
        high=psi.high if psi else None,
    )
