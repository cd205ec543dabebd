"""Off-policy estimates: what the mean had been if one version had answered everything. Pure.

For a split that moves, as that of the `weighted` strategy does, the means of versions cannot be compared: one that got
its traffic in good times looks good. What is known is with which chance each request was given to a version: the
version's share in the generation that answered. So each observation counts for all that it stands for (D. G. Horvitz
and D. J. Thompson, "A generalization of sampling without replacement from a finite universe", Journal of the American
Statistical Association 47, 1952), normalised by their sum (J. Hájek, 1971), which varies less where values are far
from 0.

What is drawn are requests, or units where a split keeps them with their version, so variances are sums over draws: rows
of a request, and requests of a unit, are no independent witnesses. Where requests are drawn one by one, the estimates
are sums of increments whose mean, given all that was before, is 0; so shares may follow earlier values, and rates may
change. Their sequence is the asymptotic one of I. Waudby-Smith et al. (2024, see `mixtures`), section 2.3; of bandits:
I. Waudby-Smith, L. Wu, A. Ramdas, N. Karampatziakis and P. Mineiro, "Anytime-valid off-policy inference for contextual
bandits", ACM/IMS Journal of Data Science 1 (2024).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shokado.experiments.comparisons import MIN_COUNT, MIN_EVENTS
from shokado.experiments.confidence_sequences import Score

MIN_DRAWS = 200
"""So many draws of a version are enough for the normal distribution to be near, where values have bounds and there are
`MIN_EVENTS` good and bad ones of them; without bounds, `MIN_COUNT` are.
"""


@dataclass(frozen=True, eq=False, slots=True)
class DealtOutcomes:
    """What was observed of the answers of all versions: one element for each observation, in their order in time.

    Whether an observation is missing must not depend on the version.
    """

    values: NDArray[np.float64]
    versions: NDArray[np.str_]
    """The one that answered."""
    splits: Sequence[Mapping[str, float]]
    """Chances by version, of each split there was."""
    split: NDArray[np.int64]
    """By which of them it was dealt out."""
    draws: NDArray[np.int64]
    """Which draw it came from: observations with the same number were dealt out at once."""
    bounded: bool = True
    """Whether all values are between 0 and 1."""

    def chances_of(self, version: str) -> NDArray[np.float64]:
        """The chance with which each was given to that version; 0 where it had no share."""
        return np.array([split.get(version, 0.0) for split in self.splits], dtype=np.float64)[self.split]

    def before(self, end: int) -> "DealtOutcomes":
        """The first ones."""
        names = ("values", "versions", "split", "draws")
        return replace(self, **{name: getattr(self, name)[:end] for name in names})


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """A mean, or a difference of two, over all observations."""

    estimate: float
    low: float
    high: float
    """Infinite where too little was seen."""
    observations: int
    """How many the version itself has, or the one of both that has fewer."""
    draws: int
    """How many draws these came from."""


def had_served(version: str, seen: DealtOutcomes, alpha: float, resolution: float) -> OffPolicyEstimate:
    """What the mean had been, had this version answered all requests.

    Args:
        version: one that had a share in every split there was.
        seen: what was observed.
        alpha: the chance at most with which the sequence ever misses the mean.
        resolution: above 0, a difference that should be told from none; see `confidence_sequences`.

    Raises:
        ValueError: the version had no share in a split, of which nothing is known then.
    """
    return _estimate([(version, 1)], seen, alpha, resolution)


def had_served_instead(
    version: str, other: str, seen: DealtOutcomes, alpha: float, resolution: float
) -> OffPolicyEstimate:
    """By how much the mean had been higher, had this version answered all requests, and not the other."""
    return _estimate([(version, 1), (other, -1)], seen, alpha, resolution)


def _estimate(
    terms: Sequence[tuple[str, int]], seen: DealtOutcomes, alpha: float, resolution: float
) -> OffPolicyEstimate:
    for version, _ in terms:
        if not (seen.chances_of(version) > 0).all():
            raise ValueError(f"{version} had no share in a split, so nobody knows how it had done there")
    counts = [(int((seen.versions == version).sum()), _draws_of(version, seen)) for version, _ in terms]
    observations, draws = min(counts)
    if not observations:
        return OffPolicyEstimate(np.nan, -np.inf, np.inf, 0, 0)
    mean, variance = _mean_and_variance(terms, seen)
    if not all(_is_enough(version, seen) for version, _ in terms):
        return OffPolicyEstimate(mean, -np.inf, np.inf, observations, draws)
    number = len(seen.values)
    # As first known, in the first draws there ever were: what is seen later must not choose how it is looked at.
    first = max(_end_of_first(version, seen) for version, _ in terms)
    _, spread = _mean_and_variance(terms, seen.before(first))
    if not spread:
        first, spread = number, variance
    parts = (mean * number, np.float64(number), variance * number**2, spread * first)
    low, high = Score(*(np.asarray(part) for part in parts)).bounds(alpha, resolution)
    return OffPolicyEstimate(mean, float(low), float(high), observations, draws)


def _mean_and_variance(terms: Sequence[tuple[str, int]], seen: DealtOutcomes) -> tuple[float, float]:
    """The sum of the versions' means, each with its sign, and its variance: that of a ratio's linear part, over draws.

    Each version has an observation.
    """
    mean, influence = 0.0, np.zeros(int(seen.draws.max()) + 1)
    for version, sign in terms:
        own = seen.versions == version
        values, stands_for = seen.values[own], 1 / seen.chances_of(version)[own]
        average = float(np.average(values, weights=stands_for))
        mean += sign * average
        deviations = sign * stands_for * (values - average) / stands_for.sum()
        influence += np.bincount(seen.draws[own], deviations, minlength=len(influence))
    return mean, float(np.square(influence).sum())


def _is_enough(version: str, seen: DealtOutcomes) -> bool:
    if not seen.bounded:
        return _draws_of(version, seen) >= MIN_COUNT
    values = seen.values[seen.versions == version]
    good, bad = values.sum(), (1 - values).sum()
    return _draws_of(version, seen) >= MIN_DRAWS and min(good, bad) >= MIN_EVENTS


def _draws_of(version: str, seen: DealtOutcomes) -> int:
    return len(np.unique(seen.draws[seen.versions == version]))


def _end_of_first(version: str, seen: DealtOutcomes) -> int:
    """The number of observations up to the version's first `MIN_DRAWS` draws, which it has."""
    own = np.flatnonzero(seen.versions == version)
    _, first = np.unique(seen.draws[own], return_index=True)
    return int(own[np.sort(first)[min(MIN_DRAWS, len(first)) - 1]]) + 1
