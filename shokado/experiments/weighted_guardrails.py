"""Guardrails of the `weighted` strategy: which versions are surely past a limit, and which were and are held. Pure.

In: tallies, minute by minute. Out: a finding for each limit of each version.

What has faded, as the evidence that versions compete by, is not what a test is proven for, so every request counts once
here. With each minute a test begins, the one-sided beta-binomial mixture of that minute's requests and all that follow:
each is right at any look, also where the chance of a failure changes from request to request, as long as it keeps the
limit (see `mixtures.beta_log_e_above`). A version that becomes bad after a good week is found by the tests that began
then, which is what makes of a test a detector of changes: J. Shin, A. Ramdas and A. Rinaldo, "E-detectors: a
nonparametric framework for sequential change detection", New England Journal of Statistics in Data Science 2 (2024).
There are as many tests a day as minutes, and each has its part of `FALSE_ALARMS_A_DAY`.

A version that was found past a limit is held for a while, and until the requests of as long a while keep the limit, as
observed. Then tests begin anew.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from configuration.experiment_policy import ExperimentMetric, Guardrail
from configuration.settings import WeightedSettings
from shokado.experiments.figures import Counted, Tallies
from shokado.experiments.mixtures import bernoulli_log_likelihood, beta_log_e_above
from shokado.stores.store import BUCKET_S

FALSE_ALARMS_A_DAY = 0.001
"""The chance at most that a version which keeps a limit is found past it in a day: once in three years."""
HOLDS_LOOKED_BACK = 4
"""How far back minutes are read, in units of the time that a version is held at least. What began before is forgotten:
the version is tried again, and found anew.
"""
_ENOUGH = math.log(86_400 / BUCKET_S / FALSE_ALARMS_A_DAY)
"""The logarithm of an e-value that one of a day's tests has by chance as rarely as that."""

Minutes = NDArray[np.float64]
"""Shape (minutes, 3), ascending: when each began, in Unix seconds, how many of its requests were bad, and how many
there were, above 0.
"""


@dataclass(frozen=True, slots=True)
class LimitStanding:
    """A version and one of its limits."""

    metric: ExperimentMetric
    limit: float
    past_since: float | None
    """The minute in which it was found past the limit, in Unix seconds, where it is held for that."""
    bad: int
    requests: int
    """What it was found by; else those of the last while in which it would be held."""

    @property
    def observed(self) -> float | None:
        """The share of bad ones; None where there are no requests."""
        return self.bad / self.requests if self.requests else None

    @property
    def text(self) -> str:
        """What people read in the history."""
        found = f"{self.metric} {self.observed or 0:.3g} of {self.requests:,} requests (at most {self.limit:g})"
        if self.past_since is None:
            return found
        return f"{found}, found at {datetime.fromtimestamp(self.past_since, UTC):%H:%M} UTC"


def findings(
    tallies: Tallies, versions: Sequence[str], settings: WeightedSettings, now: float
) -> dict[str, list[LimitStanding]]:
    """What is to be said of each version, in the order of the guardrails.

    Args:
        tallies: of at least `lookback_s` seconds; requests of all environments count, as they are counted.
        versions: those that share the traffic.
        settings: guardrails, and how long a version is held.
        now: Unix seconds. Minutes that lie ahead were counted before a clock was set back, and do not count.
    """
    since = now - lookback_s(settings)
    return {
        version: [
            _finding(one, _minutes_of(tallies, version, one.metric, since, now), settings.guardrail_hold_s, now)
            for one in settings.guardrails
        ]
        for version in versions
    }


def lookback_s(settings: WeightedSettings) -> float:
    """How far back findings need tallies."""
    return HOLDS_LOOKED_BACK * settings.guardrail_hold_s if settings.guardrails else 0.0


def past_limits(found: Mapping[str, Sequence[LimitStanding]]) -> dict[str, str]:
    """The versions that are held, and why."""
    past = {version: [one.text for one in those if one.past_since is not None] for version, those in found.items()}
    return {version: "; ".join(texts) for version, texts in past.items() if texts}


def _minutes_of(tallies: Tallies, version: str, metric: ExperimentMetric, since: float, now: float) -> Minutes:
    """An error is a request without an answer, a slow one has an answer; see `Counted`."""
    counts: dict[int, dict[str, float]] = {}
    for (minute, tally), value in tallies.items():
        if tally.version == version and since <= minute <= now:
            counts.setdefault(minute, {})[tally.name] = value
    rows = []
    for minute, of in sorted(counts.items()):
        answered, failed = of.get(Counted.REQUESTS, 0.0), of.get(Counted.FAILED, 0.0)
        if metric is ExperimentMetric.ERROR_RATE:
            rows.append((minute, failed, answered + failed))
        else:
            rows.append((minute, answered - of.get(Counted.ON_TIME, 0.0), answered))
    return np.array([row for row in rows if row[2] > 0], dtype=np.float64).reshape(-1, 3)


def _finding(guardrail: Guardrail, minutes: Minutes, hold_s: float, now: float) -> LimitStanding:
    metric, limit = guardrail.metric, guardrail.limit
    assert limit is not None
    held = _held(minutes, limit, hold_s)
    if held is None:
        _, bad, requests = minutes[minutes[:, 0] > now - hold_s].sum(axis=0)
        return LimitStanding(metric, limit, None, round(bad), round(requests))
    past_since, bad, requests = held
    return LimitStanding(metric, limit, past_since, round(bad), round(requests))


def _held(minutes: Minutes, limit: float, hold_s: float) -> tuple[float, float, float] | None:
    """When a version was found past the limit that is still held, and by how many bad ones of how many requests."""
    held: tuple[float, float, float] | None = None
    first = 0
    """The minute with which tests may begin."""
    for at, (minute, bad_now, _) in enumerate(minutes):
        if held is None:
            if bad_now > 0 and (found := _surely_past(minutes[first : at + 1], limit)) is not None:
                held = (minute, *found)
        elif minute >= held[0] + hold_s:
            _, bad, requests = minutes[(minutes[:, 0] > minute - hold_s) & (minutes[:, 0] <= minute)].sum(axis=0)
            if bad <= limit * requests:
                held, first = None, at + 1
    return held


def _surely_past(minutes: Minutes, limit: float) -> tuple[float, float] | None:
    """The bad ones and the requests of the test that says most, where it says enough."""
    # Of each test: from its minute on to the end.
    bad, requests = np.cumsum(minutes[::-1, 1:], axis=0).T
    good, share = requests - bad, bad / requests
    # No mixture says more than the likeliest share does, which is found without special functions.
    most_of_any = bernoulli_log_likelihood(bad, good, share) - bernoulli_log_likelihood(bad, good, limit)
    may = (share > limit) & (most_of_any >= _ENOUGH)
    if not may.any():
        return None
    bad, good = bad[may], good[may]
    log_e = beta_log_e_above(bad, good, limit)
    most = int(np.argmax(log_e))
    return (float(bad[most]), float(bad[most] + good[most])) if log_e[most] >= _ENOUGH else None
