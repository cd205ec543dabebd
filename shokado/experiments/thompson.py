"""The `weighted` strategy: how much of the traffic each version should get, by what was observed. Pure.

In: what was counted per version, where older counts weigh less, and the current shares. Out: new weights, or None.

A version's share follows the probability that it is the best one (batched Thompson sampling: S. L. Scott, "A modern
Bayesian look at the multi-armed bandit", Applied Stochastic Models in Business and Industry 26, 2010), so a version
that was hardly observed keeps being tried, and one that is surely worse gets the least that is allowed.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from configuration.settings import WeightedSettings
from shokado.dispatch.state import Environment
from shokado.experiments.figures import Counted, Counts, Tallies, add_up
from shokado.experiments.proportions import posterior_draws
from shokado.stores.store import BUCKET_S

HALF_LIVES = 10
"""What is older weighs less than a thousandth, and does not count."""
DRAWS = 10_000
"""Draws that tell a probability to half a per cent (one standard deviation)."""

_ROUNDED = 1e-12
"""A change of a share that rounding makes, and nobody would see."""

Evidence = Mapping[str, Counts]
"""Counts of each version; the older a count, the less it weighs."""


class Criterion(StrEnum):
    """What versions are compared by."""

    REWARD = "reward"
    ACCURACY = "accuracy"
    SQUARED_ERROR = "squared error"
    """The only one where less is better."""
    ON_TIME = "answers on time"


_NEEDS = {
    Criterion.REWARD: (Counted.REWARDS,),
    Criterion.ACCURACY: (Counted.CLASS_LABELS,),
    Criterion.SQUARED_ERROR: (Counted.VALUE_LABELS,),
    Criterion.ON_TIME: (Counted.REQUESTS, Counted.FAILED),
}
"""The counts whose sum is the number of observations. What feedback says comes first."""
_TOTALS = {
    Criterion.REWARD: Counted.REWARD_SUM,
    Criterion.ACCURACY: Counted.CORRECT,
    Criterion.SQUARED_ERROR: Counted.SQUARED_ERROR,
    Criterion.ON_TIME: Counted.ON_TIME,
}


def decayed(tallies: Tallies, environment: str, now: float, half_life_s: float) -> Evidence:
    """What was counted up to `now` (Unix seconds): a minute weighs half for every half-life since it was over.

    One that lies ahead was counted before a clock was set back; it weighs as little as one that is as far behind.
    """

    def weight(minute: int) -> float:
        away_s = max(now - minute - BUCKET_S, minute - now, 0)
        return float(0.5 ** (away_s / half_life_s)) if away_s <= HALF_LIVES * half_life_s else 0.0

    return add_up(tallies, environment, weight)


def criterion_of(evidence: Evidence, versions: Sequence[str]) -> Criterion | None:
    """The first criterion by which any of the versions was observed; all of them are compared by it."""
    return next(
        (criterion for criterion in Criterion if any(observations(evidence, criterion, name) for name in versions)),
        None,
    )


def observations(evidence: Evidence, criterion: Criterion, version: str) -> float:
    """How many there are, after decay."""
    counts = evidence.get(version, {})
    return sum(counts.get(name, 0.0) for name in _NEEDS[criterion])


def estimate(evidence: Evidence, criterion: Criterion, version: str) -> float | None:
    """The observed mean; None without an observation."""
    count = observations(evidence, criterion, version)
    return _total(evidence, criterion, version) / count if count else None


def next_weights(
    environment: Environment,
    evidence: Evidence,
    settings: WeightedSettings,
    random: np.random.Generator,
    past: Collection[str] = (),
) -> dict[str, float] | None:
    """New weights, which sum to 1, for all versions of the environment's split; those without traffic stay at 0.

    None when nothing at all was observed, or when no version's part should change by `settings.min_change`. Versions
    in `past` are past a limit: what they have above the minimum goes to the others at once, in proportion to what those
    have, however large a step that is. None where that are all of them, as then nobody knows whom to give it to.
    """
    current = environment.shares
    others = [version for version in current if version not in past]
    if not others:
        return None
    floor = min(settings.min_share, 1 / len(current))
    lowered = _lowered(current, others, floor)
    target = lowered
    criterion = criterion_of(evidence, others)
    if criterion is not None:
        rest = 1 - floor * (len(current) - len(others))
        wins = chances(evidence, criterion, others, random)
        target = dict.fromkeys(current, floor) | _with_minimum(wins, floor, rest)
    moved = lowered
    if _largest_change(lowered, target) >= max(settings.min_change, _ROUNDED):
        moved = _towards(lowered, target, settings.max_step)
    elif _largest_change(current, lowered) < _ROUNDED:
        return None
    return dict.fromkeys(environment.weights, 0.0) | moved


def chances(
    evidence: Evidence, criterion: Criterion, versions: Sequence[str], random: np.random.Generator
) -> dict[str, float]:
    """The probability that each version is the best, as its part of `DRAWS` draws from what is believed of all."""
    if criterion is Criterion.SQUARED_ERROR:
        draws = -_error_draws(evidence, versions, random)
    else:
        draws = np.column_stack([_proportion_draws(evidence, criterion, name, random) for name in versions])
    wins = np.bincount(np.argmax(draws, axis=1), minlength=len(versions)) / DRAWS
    return dict(zip(versions, wins.tolist(), strict=True))


def _proportion_draws(
    evidence: Evidence, criterion: Criterion, version: str, random: np.random.Generator
) -> NDArray[np.float64]:
    total = _total(evidence, criterion, version)
    # Rounding of decayed sums can leave the rest a little below 0.
    return posterior_draws(total, observations(evidence, criterion, version) - total, DRAWS, random)


def _error_draws(evidence: Evidence, versions: Sequence[str], random: np.random.Generator) -> NDArray[np.float64]:
    """Shape (`DRAWS`, versions): from a normal posterior of each version's mean squared error.

    Each begins with one observation on loan: the mean m of all versions together, with variance m^2 (that of a normal
    deviation's square would be 2 m^2). So a version of few labels is believed to be anywhere near the others.
    """
    counts = np.array([observations(evidence, Criterion.SQUARED_ERROR, name) for name in versions])
    totals = np.array([_total(evidence, Criterion.SQUARED_ERROR, name) for name in versions])
    squares = np.array([evidence.get(name, {}).get(Counted.SQUARED_ERROR_SQUARED, 0.0) for name in versions])
    # All in units of m, which keeps numbers of any size away from overflow.
    common = totals.sum() / counts.sum() or 1.0
    means = (1 + totals / common) / (1 + counts)
    variances = np.maximum((2 + squares / common / common) / (1 + counts) - means**2, 0)
    return random.normal(means, np.sqrt(variances / (1 + counts)), (DRAWS, len(versions)))


def _total(evidence: Evidence, criterion: Criterion, version: str) -> float:
    return evidence.get(version, {}).get(_TOTALS[criterion], 0.0)


def _lowered(current: Mapping[str, float], others: Collection[str], floor: float) -> dict[str, float]:
    """The shares, without what versions that are none of the others have above the floor. Sums to 1."""
    lowered = {version: min(share, floor) for version, share in current.items() if version not in others}
    if not lowered:
        return dict(current)
    part = (1 - sum(lowered.values())) / sum(current[version] for version in others)
    return {version: lowered.get(version, share * part) for version, share in current.items()}


def _with_minimum(chances: Mapping[str, float], minimum: float, whole: float) -> dict[str, float]:
    """Everybody gets the minimum, and what is left of the whole goes by chance. Sums to the whole."""
    rest = max(whole - minimum * len(chances), 0)
    return {version: minimum + rest * chance for version, chance in chances.items()}


def _towards(current: Mapping[str, float], target: Mapping[str, float], max_step: float) -> dict[str, float]:
    """The point on the straight line from one to the other that lies at most a step away.

    Its shares sum to 1 as those of both ends do, and none falls below what it has at both ends: a version that has its
    minimum keeps it, and one that has less comes nearer to it.
    """
    part = min(max_step / _largest_change(current, target), 1)
    return {version: share + part * (target[version] - share) for version, share in current.items()}


def _largest_change(current: Mapping[str, float], target: Mapping[str, float]) -> float:
    return max(abs(target[version] - share) for version, share in current.items())
