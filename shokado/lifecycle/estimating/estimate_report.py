"""The estimate of what had been with one version alone, from a log; or why there is none.

In: logged outcomes. Out: an `EstimateReport`, whose figures and words commands print.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import numpy as np

from shokado.experiments.off_policy import OffPolicyEstimate, had_served, had_served_instead
from shokado.experiments.sample_ratio import arrival_p_value, sample_ratio_p_value
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.estimating.logged_outcomes import (
    GenerationCounts,
    LoggedOutcomes,
    OutcomeOrder,
    SeveralEnvironments,
    outcomes_in,
)
from shokado.request_log.segments import Folder

MAX_P_VALUE = 0.001
"""The p-value below which requests or labels did not come by the shares, as of experiments."""


class NoEstimate(LifecycleError):
    """Nothing can be said of such a window; the message says why, and what to do."""


class EstimateFigures(msgspec.Struct, frozen=True):
    """A mean, or a difference of two, with its confidence sequence; bounds are None where too little was seen."""

    value: float
    low: float | None
    high: float | None


class EstimateReport(msgspec.Struct, frozen=True):
    """What a window of the log says of a version.

    Attributes:
        had_served: what the mean had been, had the version answered everything.
        instead: by how much that is more than had the other version.
        plain_mean: the mean of its answers as they were, which follows the times at which it had traffic.
        served_mean: of all versions together: what users had.
        since: when the first request was answered that counts, ISO 8601, UTC.
        until: the last one.
        smallest_share: of the version, in that time.
        requests: that were dealt out, and old enough.
        observations: that they had, of all versions.
        own_observations: of the version.
        left_out: other requests, by why.
    """

    version: str
    against: str | None
    metric: str
    environment: str
    confidence: float
    had_served: EstimateFigures
    instead: EstimateFigures | None
    plain_mean: float
    served_mean: float
    since: str
    until: str
    generations: int
    smallest_share: float
    requests: int
    observations: int
    own_observations: int
    sample_ratio_p_value: float
    arrival_p_value: float
    left_out: dict[str, int]
    notes: list[str]

    @property
    def is_told(self) -> bool:
        """Whether enough was seen for an interval, of everything that was asked."""
        return all(one.low is not None for one in (self.had_served, self.instead) if one is not None)


def estimate_of(
    folder: Folder, order: OutcomeOrder, version: str, against: str | None, confidence: float, smallest_effect: float
) -> EstimateReport:
    """Estimate what a version had earned, and by how much more than another one.

    Raises `NoEstimate`, `SegmentDamaged`, and `OSError`.
    """
    try:
        found = outcomes_in(folder, order)
    except SeveralEnvironments as several:
        names = ", ".join(several.names)
        raise NoEstimate(
            f"the log has requests of several environments: {names}; name one with --environment"
        ) from None
    _check_dealt(found, [version, *([against] if against else [])])
    ratio, arrival = _checked_shares(found)
    seen, alpha = found.outcomes, 1 - confidence
    if not len(seen.values):
        raise NoEstimate(f"no answer of the window has feedback for {order.metric}{_said_of_left_out(found)}")
    own = seen.versions == version
    if not own.any() or (against and not (seen.versions == against).any()):
        raise NoEstimate(f"no answer of {against if own.any() else version} has feedback for {order.metric}")
    instead = had_served_instead(version, against, seen, alpha, smallest_effect) if against else None
    return EstimateReport(
        version=version,
        against=against,
        metric=order.metric,
        environment=found.environment,
        confidence=confidence,
        had_served=_figures(had_served(version, seen, alpha, smallest_effect)),
        instead=_figures(instead) if instead else None,
        plain_mean=float(seen.values[own].mean()),
        served_mean=float(seen.values.mean()),
        since=_spelt(min(one.first_at for one in found.generations)),
        until=_spelt(max(one.last_at for one in found.generations)),
        generations=len(found.generations),
        smallest_share=min(one.shares[version] for one in found.generations),
        requests=sum(one.requests for one in found.generations),
        observations=len(seen.values),
        own_observations=int(own.sum()),
        sample_ratio_p_value=ratio,
        arrival_p_value=arrival,
        left_out=dict(found.left_out),
        notes=_notes(found),
    )


def _check_dealt(found: LoggedOutcomes, versions: list[str]) -> None:
    """Raises `NoEstimate` where nothing was dealt out, or a version had no share at some time."""
    if not found.generations:
        raise NoEstimate(f"no request of the window was dealt out at random{_said_of_left_out(found)}")
    for version in versions:
        lacking = [one for one in found.generations if not one.shares.get(version)]
        if len(lacking) == len(found.generations):
            shared = sorted({name for one in found.generations for name in one.shares})
            raise NoEstimate(f"{version} had no share of the traffic in the window; {', '.join(shared)} had")
        if lacking:
            raise NoEstimate(_said_of_lacking(version, lacking))


def _said_of_left_out(found: LoggedOutcomes) -> str:
    return "".join(f"; {number:,} are left out, {reason}" for reason, number in found.left_out.items())


def _said_of_lacking(version: str, lacking: list[GenerationCounts]) -> str:
    numbers = sorted(one.generation for one in lacking)
    which = f"generation {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} generations up to {numbers[-1]}"
    first, last = min(one.first_at for one in lacking), max(one.last_at for one in lacking)
    requests = sum(one.requests for one in lacking)
    return (
        f"{version} had no share in {which}, {_spelt(first)} to {_spelt(last)}, of which {requests:,} requests are, so "
        "nobody knows how it had done then: choose a window without it by --since and --until"
    )


def _checked_shares(found: LoggedOutcomes) -> tuple[float, float]:
    """P-values of requests, and of their outcomes, coming by the shares. Raises `NoEstimate`."""
    ratio = sample_ratio_p_value([(one.shares, one.draws) for one in found.generations])
    if ratio < MAX_P_VALUE:
        raise NoEstimate(
            f"the log does not have as many requests of each version as the shares say ({_said_of_counts(found)}; "
            f"p = {ratio:.1g}), so what is missing may be what went badly: requests that failed, that another version "
            "answered, or that were dropped (shokado_log_dropped_rows_total)"
        )
    lacking = [{name: one.draws[name] - one.observed[name] for name in one.draws} for one in found.generations]
    arrival = arrival_p_value(
        [(one.shares, one.observed, without) for one, without in zip(found.generations, lacking, strict=True)]
    )
    if arrival < MAX_P_VALUE:
        raise NoEstimate(
            f"feedback did not come alike for all versions (p = {arrival:.1g}), so it says nothing of those that lack "
            "it: tell the failures as well as the successes, and wait as long for all (--label-delay)"
        )
    return ratio, arrival


def _said_of_counts(found: LoggedOutcomes) -> str:
    """How many draws each version has, and should have."""
    seen: dict[str, float] = {}
    expected: dict[str, float] = {}
    for one in found.generations:
        total = sum(one.draws.values())
        for version in {*one.shares, *one.draws}:
            seen[version] = seen.get(version, 0) + one.draws[version]
            expected[version] = expected.get(version, 0.0) + total * one.shares.get(version, 0.0)
    return ", ".join(f"{version} {seen[version]:,} instead of {expected[version]:,.0f}" for version in sorted(seen))


def _notes(found: LoggedOutcomes) -> list[str]:
    several: Mapping[str, int] = {version: number for version, number in found.models.items() if number > 1}
    return [
        f"{version} was {number} imports in the window, which are taken for one" for version, number in several.items()
    ]


def _figures(found: OffPolicyEstimate) -> EstimateFigures:
    low, high = (bound if np.isfinite(bound) else None for bound in (found.low, found.high))
    return EstimateFigures(found.estimate, low, high)


def _spelt(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
