"""Moments: the sums of observations that a mean, its variance and their tests need. Pure.

In: what a store can add up, over workers and minutes. Nothing here needs the observations themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shokado.experiments.mixtures import Elements

_ROUNDED = 2.0**-40
"""Part of a mean square below which a variance is what rounding has left of sums."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Independent observations, as sums. Fields may be arrays, one element for each of several experiments.

    For what either happened or did not (a class was right, a request failed), `total` is how often it did, and
    `squares` is the same.
    """

    count: Elements
    """How many there are."""
    total: Elements
    """Their sum."""
    squares: Elements
    """The sum of their squares."""

    @classmethod
    def of_events(cls, events: Elements, trials: Elements) -> "Moments":
        """Something that happened in so many of the trials."""
        return cls(trials, events, events)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            np.add(self.count, other.count), np.add(self.total, other.total), np.add(self.squares, other.squares)
        )

    @property
    def mean(self) -> NDArray[np.float64]:
        """NaN without an observation."""
        return _ratio(self.total, self.count)

    @property
    def variance(self) -> NDArray[np.float64]:
        """The variance of one observation, unbiased; NaN for fewer than two, 0 where sums cannot tell it from none."""
        excess = np.subtract(self.squares, np.asarray(self.total) * self.mean)
        excess = np.where(excess > _ROUNDED * np.asarray(self.squares), excess, 0.0)
        return np.where(np.greater(self.count, 1), _ratio(excess, np.subtract(self.count, 1)), np.nan)

    @property
    def mean_variance(self) -> NDArray[np.float64]:
        """The variance of the mean."""
        return _ratio(self.variance, self.count)


@dataclass(frozen=True, slots=True)
class ClusteredMoments:
    """Observations that depend on each other within clusters, such as those of one unit, as sums over the clusters.

    A cluster may be a unit, or all units of one of some hundred groups that units are hashed into, which costs less to
    keep. Units are drawn, not observations, so the mean is a ratio of two sums over clusters, and its variance that of
    the delta method: A. Deng, U. Knoblich and J. Lu, "Applying the delta method in metric analytics: a practical guide
    with novel ideas", KDD 2018, section 3.2.
    """

    clusters: Elements
    """How many clusters have an observation."""
    count: Elements
    """The sum of their numbers of observations."""
    total: Elements
    """The sum of their totals."""
    count_squares: Elements
    """The sum of the squares of their numbers."""
    total_squares: Elements
    """The sum of the squares of their totals."""
    products: Elements
    """The sum of number times total."""

    @classmethod
    def of_clusters(cls, counts: NDArray[np.float64], totals: NDArray[np.float64]) -> "ClusteredMoments":
        """Sums of clusters, over the last axis; those without an observation do not count."""
        return cls(
            clusters=(counts > 0).sum(axis=-1),
            count=counts.sum(axis=-1),
            total=totals.sum(axis=-1),
            count_squares=(counts**2).sum(axis=-1),
            total_squares=(totals**2).sum(axis=-1),
            products=(counts * totals).sum(axis=-1),
        )

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of observations; NaN without one."""
        return _ratio(self.total, self.count)

    @property
    def mean_variance(self) -> NDArray[np.float64]:
        """The variance of the mean; NaN for fewer than two clusters, and 0 where sums cannot tell it from none."""
        mean, clusters = self.mean, np.asarray(self.clusters, dtype=np.float64)
        excess = self.total_squares - 2 * mean * self.products + mean**2 * self.count_squares
        excess = np.where(excess > _ROUNDED * np.asarray(self.total_squares), excess, 0.0)
        per_count = _ratio(excess, np.asarray(self.count, dtype=np.float64) ** 2)
        return np.where(clusters > 1, per_count * _ratio(clusters, clusters - 1), np.nan)


def _ratio(above: Elements, below: Elements) -> NDArray[np.float64]:
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)
