"""The detector of several versions: a report of each goes below one folder, and one summary over all beside them.

log, window -> rows of each version --> report of each (`drift_report.py`) --> VERSION/.., summary.json

A version that cannot be compared is told as well, with the reason: it holds up no other one, and is not passed over.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from shokado.drift.divergence import DriftVerdict
from shokado.lifecycle.detecting.drift_report import DriftOrder, DriftReport, TooFewRows, make_report, too_few
from shokado.lifecycle.detecting.logged_window import LoggedWindow, rows_of_imports, windows_between
from shokado.lifecycle.errors import LifecycleError
from shokado.request_log.segments import Folder

SUMMARY_FILE = "summary.json"
_AS_A_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Versions by whose names folders may be called: whoever writes the log names them."""


class VersionSummary(BaseModel):
    """What is said of a version."""

    version: str
    verdict: DriftVerdict
    """`not watched` where there is nothing to compare with."""
    rows: int
    """How many the window has."""
    drifted: list[str]
    reason: str | None
    """Why it was not compared; null where there is a report of it."""


class DriftSummary(BaseModel):
    """What is said of all versions, as `summary.json` has it."""

    since: datetime
    until: datetime
    threshold: float
    error_rate: float
    """The chance at most that a version is said to have drifted when it has not."""
    drifted: list[str]
    """Versions of which a column has drifted."""
    untold: list[str]
    """Versions of which it cannot be told."""
    versions: list[VersionSummary]


@dataclass(frozen=True)
class UntoldVersion:
    """A version that could not be compared.

    Attributes:
        rows: how many the window has.
        error: why, and what to do.
    """

    version: str
    rows: int
    error: LifecycleError


def make_reports(
    order: DriftOrder, log: Folder, now: float, target: Path
) -> tuple[DriftSummary, list[DriftReport | UntoldVersion]]:
    """Compare each version, and write its report into the folder of its name below `target`, and the summary.

    Returns the summary, and of each version what was found, in the order in which they are named, or of their names.
    Raises `TooFewRows` where the window has no rows at all and no version is named, `SegmentDamaged`, and `OSError`.
    """
    start = now - order.since_s
    windows = windows_between(log, start, now, order.versions or None)
    versions = tuple(dict.fromkeys(order.versions)) or tuple(windows)
    if not versions:
        raise too_few("the window of the log has none of any version", "--since 7d")
    imports = {window.logged.card for window in windows.values()}
    before = rows_of_imports(log, start - order.against_s, start, imports) if order.against_s is not None else {}
    (target / SUMMARY_FILE).unlink(missing_ok=True)
    found = [_found(order, version, windows.get(version), before, now, target) for version in versions]
    summary = _summary(order, found, now)
    target.mkdir(parents=True, exist_ok=True)
    (target / SUMMARY_FILE).write_text(summary.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return summary, found


def _found(
    order: DriftOrder,
    version: str,
    window: LoggedWindow | None,
    before: dict[bytes, LoggedWindow],
    now: float,
    target: Path,
) -> DriftReport | UntoldVersion:
    try:
        if window is None:
            raise too_few(f"the window of the log has 0 rows of {version}", "--since 7d")
        if not _AS_A_FOLDER.fullmatch(version):
            raise LifecycleError(f"No folder can be called {version!r}, as the log calls a version.")
        return make_report(order, window, before.get(window.logged.card), now, target / version)
    except LifecycleError as error:
        return UntoldVersion(version, window.of if window else 0, error)


def _summary(order: DriftOrder, found: list[DriftReport | UntoldVersion], now: float) -> DriftSummary:
    told = [_summed_up(one) for one in found]
    return DriftSummary(
        since=datetime.fromtimestamp(now - order.since_s, UTC),
        until=datetime.fromtimestamp(now, UTC),
        threshold=order.threshold,
        error_rate=order.error_rate,
        drifted=[one.version for one in told if one.verdict is DriftVerdict.DRIFT],
        untold=[one.version for one in told if one.verdict not in (DriftVerdict.DRIFT, DriftVerdict.NONE)],
        versions=told,
    )


def _summed_up(found: DriftReport | UntoldVersion) -> VersionSummary:
    if isinstance(found, DriftReport):
        return VersionSummary(
            version=found.version, verdict=found.verdict, rows=found.rows, drifted=found.drifted, reason=None
        )
    few = isinstance(found.error, TooFewRows)
    return VersionSummary(
        version=found.version,
        verdict=DriftVerdict.TOO_FEW_ROWS if few else DriftVerdict.NOT_WATCHED,
        rows=found.rows,
        drifted=[],
        reason=str(found.error),
    )
