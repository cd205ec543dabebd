"""Intervals for one look at a sample that is complete, such as a replayed log, whose rows come in clusters. Pure.

A unit, such as a user, is a cluster: its rows are alike, so a thousand rows of one say less than those of a thousand.
Units are taken to be drawn independently; nothing is taken for granted of rows within one. What grows while it is
looked at has `confidence_sequences` instead.

    means       t, by variances between clusters; numbers with bounds: exact where few differ from the commonest one
    shares      Korn and Graubard: Clopper and Pearson's bounds, of as many rows as the clusters are worth
    quantiles   order statistics, whatever the distribution; of independent observations
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from shokado.experiments.comparisons import MIN_CLUSTERS, MIN_COUNT, MIN_EVENTS
from shokado.experiments.moments import ClusteredMoments
from shokado.experiments.proportions import clopper_pearson_lower, clopper_pearson_upper


class IntervalMethod(StrEnum):
    """How the bounds of an estimate came about."""

    CLUSTERED_T = "t of clusters"
    FEW_DIFFER = "bounded, by the share that differs"
    EFFECTIVE_COUNT = "Clopper-Pearson of the effective number"
    ORDER_STATISTICS = "order statistics"
    TOO_FEW = "too few"
    """Nothing can be said of the true one, on one side at least."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of a sample, and the bounds between which the true one lies; None where nothing can be said."""

    value: float
    low: float | None
    high: float | None
    method: IntervalMethod


@dataclass(frozen=True, slots=True)
class ValueBounds:
    """The bounds between which single observations are, for sure."""

    least: float
    most: float


@dataclass(frozen=True, eq=False, slots=True)
class Clusters:
    """To which cluster each observation belongs, int (observations,), numbered from 0 on without gaps."""

    of: NDArray[np.int64]

    @classmethod
    def numbered(cls, names: NDArray[np.int64]) -> "Clusters":
        """The clusters that any numbers tell apart."""
        return cls(np.unique(names, return_inverse=True)[1].astype(np.int64))

    @property
    def number(self) -> int:
        """How many clusters there are."""
        return int(self.of.max()) + 1 if len(self.of) else 0

    def moments(self, values: NDArray[np.float64]) -> ClusteredMoments:
        """Sums over clusters of an observation each, (observations,)."""
        counts, totals = (np.bincount(self.of, weights, self.number).astype(np.float64) for weights in (None, values))
        return ClusteredMoments.of_clusters(counts, totals)

    def count_of(self, those: NDArray[np.bool_]) -> int:
        """How many clusters have one of those observations."""
        return len(np.unique(self.of[those]))


def mean_estimate(
    values: NDArray[np.float64], clusters: Clusters, alpha: float, bounds: ValueBounds | None = None
) -> Estimate | None:
    """The mean, and its interval; None without observations.

    The interval is that of Student's t with one degree of freedom less than there are clusters, and the variance of
    `ClusteredMoments`, which is the sandwich of K.-Y. Liang and S. L. Zeger, "Longitudinal data analysis using
    generalized linear models", Biometrika 73 (1986), with the factor G / (G - 1). It needs `MIN_CLUSTERS` clusters
    where numbers have bounds, else `MIN_COUNT`, and `MIN_EVENTS` of them with another value than the commonest one:
    where few differ, those that differ much may not have been seen.

    Until then, numbers with bounds have those that follow from the shares of rows above and below the commonest value,
    each with half of alpha: the mean is at most that value and the largest possible step up, times its share.

    Args:
        values: (observations,).
        clusters: of the same observations.
        alpha: the chance at most with which the interval misses the true mean.
        bounds: of values; None: they have none.
    """
    if not len(values):
        return None
    mean = float(values.mean())
    commonest, differ = _commonest(values)
    enough = clusters.number >= (MIN_COUNT if bounds is None else MIN_CLUSTERS)
    if enough and clusters.count_of(differ) >= MIN_EVENTS:
        reach = _t(clusters.number - 1, alpha) * float(np.sqrt(clusters.moments(values).mean_variance))
        low, high = mean - reach, mean + reach
        if bounds is not None:
            low, high = max(low, bounds.least), min(high, bounds.most)
        return Estimate(mean, low, high, IntervalMethod.CLUSTERED_T)
    if bounds is None:
        return Estimate(mean, None, None, IntervalMethod.TOO_FEW)
    up, down = (share_bounds(side, clusters, alpha)[1] for side in (values > commonest, values < commonest))
    low, high = commonest - down * (commonest - bounds.least), commonest + up * (bounds.most - commonest)
    return Estimate(mean, min(low, mean), max(high, mean), IntervalMethod.FEW_DIFFER)


def share_estimate(events: NDArray[np.bool_], clusters: Clusters, alpha: float) -> Estimate | None:
    """The share of observations that are events, and its interval; None without observations. See `share_bounds`."""
    if not len(events):
        return None
    return Estimate(float(events.mean()), *share_bounds(events, clusters, alpha), IntervalMethod.EFFECTIVE_COUNT)


def share_bounds(events: NDArray[np.bool_], clusters: Clusters, alpha: float) -> tuple[float, float]:
    """The bounds between which the true share lies but with a chance of alpha, half of it on each side.

    E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", Survey Methodology 24 (1998): the exact bounds of as many independent observations as
    have the variance that the clusters have, less for few clusters, and never more than there are. Where each
    observation is a cluster of its own they are those of Clopper and Pearson.

    Where fewer than `MIN_EVENTS` clusters have an event, or another observation, a cluster is one at most: of those
    whose rows are all events none may have been seen, and without them the variance is far too small.
    """
    rows, number = len(events), clusters.number
    share = float(events.mean())
    known = min(clusters.count_of(events), clusters.count_of(~events)) >= MIN_EVENTS
    count = float(rows if known else number)
    if number < rows:
        variance = float(clusters.moments(events.astype(np.float64)).mean_variance)
        if number > 1 and variance > 0:
            shrunk = (_t(rows - 1, alpha) / _t(number - 1, alpha)) ** 2
            count = min(share * (1 - share) / variance * shrunk, count)
    confidence = 1 - alpha / 2
    return (
        clopper_pearson_lower(share * count, count, confidence),
        clopper_pearson_upper(share * count, count, confidence),
    )


def quantile_estimate(values: NDArray[np.float64], probability: float, alpha: float) -> Estimate | None:
    """The quantile, and its interval between two order statistics; None without observations.

    The number of observations up to the true quantile has a binomial distribution, whatever theirs is: W. R. Thompson,
    "On confidence ranges for the median and other expectation distributions for populations of unknown distribution
    form", Annals of Mathematical Statistics 7 (1936). A bound is None where too few observations lie beyond it.

    Args:
        values: independent observations, (observations,).
        probability: of the quantile, in (0, 1).
        alpha: the chance at most with which the interval misses it, half of it on each side.
    """
    from scipy.special import bdtr

    count = len(values)
    if not count:
        return None
    ordered = np.sort(values)
    # The chance of at most so many observations up to the quantile, and not one more of a discrete distribution.
    at_most = bdtr(np.arange(count), count, probability)
    below = int(np.searchsorted(at_most, alpha / 2, side="right"))
    above = int(np.searchsorted(at_most, 1 - alpha / 2, side="left"))
    low = float(ordered[below - 1]) if below else None
    high = float(ordered[above]) if above < count else None
    value = float(np.quantile(ordered, probability, method="inverted_cdf"))
    method = IntervalMethod.TOO_FEW if low is None or high is None else IntervalMethod.ORDER_STATISTICS
    return Estimate(value, low, high, method)


def _commonest(values: NDArray[np.float64]) -> tuple[float, NDArray[np.bool_]]:
    """The value that most observations have, and which have another one."""
    found, counts = np.unique(values, return_counts=True)
    commonest = float(found[counts.argmax()])
    return commonest, values != commonest


def _t(freedom: int, alpha: float) -> float:
    """The quantile of Student's t beyond which half of alpha lies."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - alpha / 2))
