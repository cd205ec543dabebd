"""Replay figures: of a group of rows, how far the candidate lies from what was answered, each with its interval. Pure.

All figures of rows are of pairs: the same row, scored by both. Units are the clusters. Where a table has several
groups, its intervals hold together: each misses the true figure with a part of alpha (Bonferroni).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from runners.artefacts.card import Card
from runners.artefacts.scores import score_names
from shokado.experiments.clustered_intervals import (
    Clusters,
    Estimate,
    ValueBounds,
    mean_estimate,
    quantile_estimate,
    share_estimate,
)
from shokado.lifecycle.replaying.candidate import ReplayedCall
from shokado.lifecycle.replaying.logged_calls import LoggedCall
from shokado.lifecycle.replaying.paired_rows import PairedRows

_SHARES = ValueBounds(0, 1)
_DIFFERENCES = ValueBounds(-1, 1)


class LatencyFigures(BaseModel):
    """Percentiles of latencies, in milliseconds."""

    p50: float
    p95: float
    p99: float


class QualityFigures(BaseModel):
    """How right both were of rows with a label: accuracy, or the mean squared error."""

    labels: int
    original: float
    candidate: float
    difference: Estimate
    """The candidate's less the original's."""


class GroupFigures(BaseModel):
    """A group of rows; what is not known is null."""

    group: str
    requests: int
    failed: int
    """Requests that the candidate has not answered."""
    rows: int
    """Pairs: rows of all other requests."""
    units: int
    difference: Estimate | None
    """The mean absolute difference; of several scores a row, the largest one."""
    shifts: dict[str, Estimate]
    """The mean difference of each score, the candidate's less the original's."""
    disagreement: Estimate | None
    """The share of rows with another label, or whose values differ by more than is negligible."""
    quality: QualityFigures | None
    errors: Estimate | None
    """The share of requests that failed."""
    original_latency: LatencyFigures
    candidate_latency: LatencyFigures | None
    p95_ms: Estimate | None
    """The 95th percentile of the candidate's latency."""
    slower_ms: Estimate | None
    """The median difference within a request, the candidate's latency less the original's."""


@dataclass(frozen=True, eq=False)
class ReplayComparison:
    """All that figures are made of.

    Attributes:
        pairs: of the calls that were answered.
        unit: the number of each call's unit, (calls,).
        latencies: milliseconds, (calls, 2): of the original, and of the candidate, NaN where there is none.
        failed: which calls were not answered, (calls,).
        card: of one of the versions that answered: what all have in common is their task.
    """

    pairs: PairedRows | None
    unit: NDArray[np.int64]
    latencies: NDArray[np.float64]
    failed: NDArray[np.bool_]
    card: Card

    @classmethod
    def of(
        cls, calls: Sequence[LoggedCall], replayed: Sequence[ReplayedCall], pairs: PairedRows | None
    ) -> "ReplayComparison":
        """Calls, at least one, what became of each, and pairs of their rows, where any was answered."""
        numbers: dict[str, int] = {}
        latencies = [
            (call.latency_ms, np.nan if one.latency_ms is None else one.latency_ms)
            for call, one in zip(calls, replayed, strict=True)
        ]
        return cls(
            pairs,
            np.array([numbers.setdefault(call.unit, len(numbers)) for call in calls], dtype=np.int64),
            np.array(latencies, dtype=np.float64),
            np.array([bool(one.fault) for one in replayed]),
            calls[0].origin.card,
        )


def figures_of(
    compared: ReplayComparison,
    group: str,
    alpha: float,
    calls: NDArray[np.bool_] | None = None,
    rows: NDArray[np.bool_] | None = None,
) -> GroupFigures:
    """The figures of a group.

    Args:
        group: what it is called.
        alpha: the chance at most with which one of its intervals misses the true figure.
        calls: which calls have rows of it, (calls,); None: all.
        rows: which pairs belong to it, (pairs,); None: all.
    """
    chosen = np.ones(len(compared.unit), dtype=bool) if calls is None else calls
    failed, latencies = compared.failed[chosen], compared.latencies[chosen]
    answered = latencies[~np.isnan(latencies[:, 1])]
    of_rows = _of_rows(compared, rows, alpha)
    return GroupFigures(
        group=group,
        requests=int(chosen.sum()),
        failed=int(failed.sum()),
        units=len(np.unique(compared.unit[chosen])),
        errors=share_estimate(failed, Clusters.numbered(compared.unit[chosen]), alpha),
        original_latency=_latency(latencies[:, 0]),
        candidate_latency=_latency(answered[:, 1]) if len(answered) else None,
        p95_ms=quantile_estimate(answered[:, 1], 0.95, alpha),
        slower_ms=quantile_estimate(answered[:, 1] - answered[:, 0], 0.5, alpha),
        rows=of_rows.rows,
        difference=of_rows.difference,
        shifts=of_rows.shifts,
        disagreement=of_rows.disagreement,
        quality=of_rows.quality,
    )


@dataclass(frozen=True)
class _RowFigures:
    rows: int = 0
    difference: Estimate | None = None
    shifts: dict[str, Estimate] = field(default_factory=dict)
    disagreement: Estimate | None = None
    quality: QualityFigures | None = None


def _of_rows(compared: ReplayComparison, rows: NDArray[np.bool_] | None, alpha: float) -> _RowFigures:
    pairs = compared.pairs
    if pairs is None:
        return _RowFigures()
    chosen = np.ones(len(pairs), dtype=bool) if rows is None else rows
    if not chosen.any():
        return _RowFigures()
    clusters = Clusters.numbered(compared.unit[pairs.call[chosen]])
    card = compared.card
    bounded = card.task.has_probabilities
    shifts = (pairs.candidate - pairs.original)[chosen]
    names = score_names(card)
    found = {
        name: mean_estimate(shifts[:, at], clusters, alpha / len(names), _DIFFERENCES if bounded else None)
        for at, name in enumerate(names)
    }
    return _RowFigures(
        rows=int(chosen.sum()),
        difference=mean_estimate(pairs.difference[chosen], clusters, alpha, _SHARES if bounded else None),
        shifts={name: one for name, one in found.items() if one is not None},
        disagreement=share_estimate(pairs.disagrees[chosen], clusters, alpha),
        quality=_quality(compared, pairs, chosen, alpha),
    )


def _quality(
    compared: ReplayComparison, pairs: PairedRows, chosen: NDArray[np.bool_], alpha: float
) -> QualityFigures | None:
    labelled = chosen & pairs.labelled
    original, candidate = pairs.original_quality[labelled], pairs.candidate_quality[labelled]
    clusters = Clusters.numbered(compared.unit[pairs.call[labelled]])
    bounds = _DIFFERENCES if compared.card.classes else None
    difference = mean_estimate(candidate - original, clusters, alpha, bounds)
    if difference is None:
        return None
    return QualityFigures(
        labels=int(labelled.sum()),
        original=float(original.mean()),
        candidate=float(candidate.mean()),
        difference=difference,
    )


def _latency(values: NDArray[np.float64]) -> LatencyFigures:
    p50, p95, p99 = np.quantile(values, (0.5, 0.95, 0.99), method="inverted_cdf").tolist()
    return LatencyFigures(p50=p50, p95=p95, p99=p99)
