"""The replay report: what was replayed, what was left out, all figures, and the verdict; as `report.json` has it."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from pydantic import BaseModel

from runners.inputs.precision import FLOAT64
from shokado.lifecycle.replaying.candidate import Candidate, ReplayedCall
from shokado.lifecycle.replaying.logged_calls import LeftOut, LoggedCall, LoggedSample
from shokado.lifecycle.replaying.paired_rows import PairedRows
from shokado.lifecycle.replaying.replay_figures import GroupFigures, ReplayComparison, figures_of
from shokado.lifecycle.replaying.replay_order import ReplayOrder
from shokado.lifecycle.replaying.replay_verdict import judge_replay
from shokado.lifecycle.replaying.row_segments import segments_by
from shokado.lifecycle.rollout.verdict import Verdict

LARGEST = 20
"""Rows with the largest differences that are named."""
BY_VERSION = "version"


class LeftOutRequests(BaseModel):
    """Requests that were not replayed; `setting` would have to be another one when the next are recorded."""

    reason: str
    setting: str
    requests: int
    rows: int


class FailedRequests(BaseModel):
    """Requests that the candidate did not answer, by the code of the error, with the words of the first one."""

    code: str
    message: str
    requests: int


class LimitFinding(BaseModel):
    """What is said of one limit."""

    verdict: Verdict
    text: str


class LargeDifference(BaseModel):
    """A row that the candidate scores otherwise; by its prediction id it is found in the log."""

    prediction_id: str
    row: int
    version: str
    original: list[float]
    candidate: list[float]
    difference: float


class GroupTable(BaseModel):
    """Rows told apart by the version that answered, or by a feature; its intervals hold together."""

    by: str
    groups: list[GroupFigures]


class ReplayReport(BaseModel):
    """What was found."""

    candidate: str
    address: str
    """Where it was asked."""
    log: str
    since: datetime
    """When the first of the requests was answered, and `until` the last."""
    until: datetime
    share: float
    """Which part of the units were drawn, all of the rows of each."""
    replayable_rows: int
    """How many there are in the log."""
    left_out: list[LeftOutRequests]
    failed: list[FailedRequests]
    confidence: float
    """The chance at least with which an interval, or all of a table of groups, have the true figure."""
    verdict: Verdict | None
    """Null where no limit was given."""
    findings: list[LimitFinding]
    quality_name: str
    """What `quality` is of such a model."""
    overall: GroupFigures
    tables: list[GroupTable]
    largest: list[LargeDifference]
    notes: list[str]
    """What to bear in mind."""


def report_of(
    order: ReplayOrder,
    log: str,
    candidate: Candidate,
    sample: LoggedSample,
    replayed: Sequence[ReplayedCall],
    compared: ReplayComparison,
) -> ReplayReport:
    """The report on calls, at least one.

    Args:
        order: what was asked for.
        log: where the log is.
        candidate: what was asked.
        sample: the calls.
        replayed: what became of each.
        compared: both, side by side.

    Raises `ReplayRefused` where rows cannot be told apart as asked for.
    """
    calls, pairs = sample.calls, compared.pairs
    overall = figures_of(compared, "all", order.alpha)
    judgement = judge_replay(order.limits, overall) if order.limits.any else None
    return ReplayReport(
        candidate=candidate.signature.version,
        address=candidate.address,
        log=log,
        since=datetime.fromtimestamp(calls[0].at, UTC),
        until=datetime.fromtimestamp(calls[-1].at, UTC),
        share=sample.share,
        replayable_rows=sample.of_rows,
        left_out=left_out_requests(sample.left_out),
        failed=_failed(replayed),
        confidence=1 - order.alpha,
        verdict=judgement.verdict if judgement else None,
        findings=[LimitFinding(verdict=one.verdict, text=one.text) for one in judgement.findings] if judgement else [],
        overall=overall,
        quality_name="accuracy" if candidate.signature.classes else "mean squared error",
        tables=[
            _by_version(compared, calls, order.alpha),
            *(_by_feature(compared, calls, feature, order.alpha) for feature in order.by),
        ],
        largest=_largest(calls, pairs) if pairs is not None else [],
        notes=_notes(sample, candidate, pairs),
    )


def left_out_requests(left_out: LeftOut) -> list[LeftOutRequests]:
    """Those with most rows first."""
    return [
        LeftOutRequests(
            reason=obstacle.reason, setting=obstacle.setting, requests=left_out.requests[obstacle], rows=rows
        )
        for obstacle, rows in left_out.rows.most_common()
    ]


def _by_version(compared: ReplayComparison, calls: Sequence[LoggedCall], alpha: float) -> GroupTable:
    versions = np.array([call.version for call in calls])
    names = sorted(set(versions.tolist()))
    groups = []
    for name in names:
        chosen = versions == name
        rows = chosen[compared.pairs.call] if compared.pairs is not None else None
        groups.append(figures_of(compared, name, alpha / len(names), chosen, rows))
    return GroupTable(by=BY_VERSION, groups=groups)


def _by_feature(compared: ReplayComparison, calls: Sequence[LoggedCall], feature: str, alpha: float) -> GroupTable:
    """A request whose rows belong to several groups counts as one of each."""
    segments, pairs = segments_by(feature, calls), compared.pairs
    counts = [len(call.batch) for call in calls]
    starts = np.cumsum([0, *counts[:-1]])
    of_call = np.repeat(np.arange(len(calls)), counts)
    of_pairs = segments.of_rows[starts[pairs.call] + pairs.index] if pairs is not None else None
    groups = []
    for at, name in enumerate(segments.names):
        chosen = np.zeros(len(calls), dtype=bool)
        chosen[of_call[segments.of_rows == at]] = True
        if not chosen.any():
            continue
        rows = of_pairs == at if of_pairs is not None else None
        groups.append(figures_of(compared, name, alpha / len(segments.names), chosen, rows))
    return GroupTable(by=feature, groups=groups)


def _failed(replayed: Sequence[ReplayedCall]) -> list[FailedRequests]:
    counts = Counter(one.fault for one in replayed if one.fault)
    words = {one.fault: one.message for one in reversed(replayed)}
    return [FailedRequests(code=code, message=words[code], requests=number) for code, number in counts.most_common()]


def _largest(calls: Sequence[LoggedCall], pairs: PairedRows) -> list[LargeDifference]:
    order = np.argsort(-pairs.difference, kind="stable")[:LARGEST]
    return [
        LargeDifference(
            prediction_id=calls[pairs.call[at]].prediction_id,
            row=int(pairs.index[at]),
            version=calls[pairs.call[at]].version,
            original=pairs.original[at].tolist(),
            candidate=pairs.candidate[at].tolist(),
            difference=float(pairs.difference[at]),
        )
        for at in order.tolist()
        if pairs.difference[at] > 0
    ]


def _notes(sample: LoggedSample, candidate: Candidate, pairs: PairedRows | None) -> list[str]:
    notes, signature = [], candidate.signature
    if sample.share < 1:
        notes.append(f"Of the log's units {sample.share:.2%} were drawn, with all of their rows.")
    if all(call.unit == call.request_id for call in sample.calls):
        notes.append(
            "No request has a unit (X-Unit-ID, log.unit), so each counts as one of its own. Where many are of the same "
            "user, intervals are too narrow."
        )
    wide = signature.row_format.schema.precision is FLOAT64
    if wide and any(call.origin.card.row_format.schema.precision is not FLOAT64 for call in sample.calls):
        notes.append(f"{signature.version} takes float64; the log has its values as float32, as they were scored.")
    if not candidate.has_latency:
        notes.append("Rows were scored many at a time and without a server, so there is no latency to compare.")
    if pairs is not None and pairs.unfit_labels:
        notes.append(f"{pairs.unfit_labels:,} labels are none of the model's, and are not counted.")
    return notes
