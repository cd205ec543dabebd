"""A replay from the log to the report: what `shokado replay` does."""

from collections.abc import Callable, Sequence
from pathlib import Path

from shokado.lifecycle.errors import ReplayRefused
from shokado.lifecycle.progress import say, step
from shokado.lifecycle.replaying.candidate import Candidate
from shokado.lifecycle.replaying.logged_calls import LoggedSample, labels_of_calls, models_in, sample_of
from shokado.lifecycle.replaying.obstacles import obstacles_to
from shokado.lifecycle.replaying.paired_rows import paired
from shokado.lifecycle.replaying.replay_figures import ReplayComparison
from shokado.lifecycle.replaying.replay_order import ReplayLimits, ReplayOrder
from shokado.lifecycle.replaying.replay_page import write_page
from shokado.lifecycle.replaying.replay_progress import ReplayProgress
from shokado.lifecycle.replaying.replay_report import ReplayReport, left_out_requests, report_of
from shokado.lifecycle.replaying.row_segments import segments_by
from shokado.request_log.segments import Folder

PAGE_FILE = "report.html"
REPORT_FILE = "report.json"
_REASONS = 3
"""Reasons that an error names."""


def replay_log(
    order: ReplayOrder, log: Folder, find: Callable[[Sequence[str]], Candidate], target: Path
) -> ReplayReport:
    """Replay, and write the report below `target`; what was there of an earlier one is written over.

    `find` is given the names of the models that the log has requests to.

    Raises `LifecycleError` where nothing can be replayed or compared, `SegmentDamaged`, and `OSError`.
    """
    with step("read the log") as reading:
        models = models_in(log, order)
        if not models:
            whose = f" that {order.version} has answered" if order.version is not None else ""
            raise ReplayRefused(f"The log has no requests in that time{whose}.", "shokado log list")
        candidate = find(models)
        _check_limits(order.limits, candidate)
        sample = sample_of(log, order, obstacles_to(candidate.signature, _model_of(candidate, models)))
        if not sample.calls:
            raise _nothing_left(sample)
        for feature in order.by:
            segments_by(feature, sample.calls)
        rows = sum(len(call.batch) for call in sample.calls)
        reading.outcome = _in_words(sample, rows)
    say(f"ask {candidate.address}")
    progress = ReplayProgress(len(sample.calls))
    replayed = candidate.replay(sample.calls, progress.told)
    say(progress.in_words)
    labels = labels_of_calls(log, sample.calls)
    pairs = paired(sample.calls, replayed, labels) if any(not one.fault for one in replayed) else None
    compared = ReplayComparison.of(sample.calls, replayed, pairs)
    report = report_of(order, _name_of(log), candidate, sample, replayed, compared)
    target.mkdir(parents=True, exist_ok=True)
    # The JSON comes last: where it is, the report is whole.
    (target / REPORT_FILE).unlink(missing_ok=True)
    write_page(report, compared, target / PAGE_FILE)
    (target / REPORT_FILE).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return report


def _model_of(candidate: Candidate, models: Sequence[str]) -> str | None:
    """Whose requests are the candidate's; None: those of the only model that the log has, whatever it is called."""
    if len(models) == 1:
        return None
    if candidate.signature.model is None:
        named = ", ".join(models)
        raise ReplayRefused(f"The log has requests to {named}; {candidate.address} does not say whose it is.")
    return candidate.signature.model


def _check_limits(limits: ReplayLimits, candidate: Candidate) -> None:
    """Raise `ReplayRefused` for a limit on what such a candidate does not have."""
    if limits.accuracy_loss is not None and not candidate.signature.classes:
        version = candidate.signature.version
        raise ReplayRefused(f"{version} gives values, which have no accuracy.", "shokado replay .. --max-difference")


def _name_of(log: Folder) -> str:
    return str(log) if isinstance(log, Path) else log.name


def _nothing_left(sample: LoggedSample) -> ReplayRefused:
    """Why none can be replayed, and the setting that would have to change."""
    if sample.of_rows:
        message = f"Of {sample.of_rows:,} rows, so few were to be drawn that no unit was."
        return ReplayRefused(message, f"shokado replay .. --most {sample.of_rows}")
    found = left_out_requests(sample.left_out)
    reasons = "; ".join(f"{one.rows:,} rows: {one.reason}" for one in found[:_REASONS])
    settings = [setting for one in found for setting in one.setting.split(" and ") if setting]
    if not settings:
        return ReplayRefused(f"No logged request can be replayed. {reasons}.", "shokado replay --help")
    names = " and ".join(dict.fromkeys(settings))
    variables = " ".join(f"SHOKADO_{name.upper().replace('.', '__')}='[]'" for name in dict.fromkeys(settings))
    return ReplayRefused(
        f"No logged request can be replayed. {reasons}. What is recorded after {names} in serving.yaml leaves these "
        "features alone can be.",
        f"{variables} make serve",
    )


def _in_words(sample: LoggedSample, rows: int) -> str:
    text = f"{len(sample.calls):,} requests with {rows:,} rows"
    if sample.share < 1:
        text += f", drawn of {sample.of_rows:,} rows"
    left_out = sum(sample.left_out.rows.values())
    return text + (f"; {left_out:,} rows left out" if left_out else "")
