"""Proportions: between which bounds the true one lies, given what was observed, and what chance explains. Pure.

Numbers in, numbers out; each function says where its formula comes from. The commands and the load tests judge with
these as the server does, so this module loads nothing that is heavy before it is needed.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Z_95 = 1.959964
"""97.5 % quantile of the standard normal distribution."""
_HALVINGS = 40
"""Bounds are right to a trillionth."""


def wilson(mean: float, observations: int) -> tuple[float, float]:
    """The interval that has the true mean in 95 of 100 cases, given the mean of so many numbers between 0 and 1.

    The score interval of E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22 (1927), without a correction for continuity. For numbers that are not
    just 0 or 1 it is wider than it need be, as those vary less.

    Args:
        mean: in [0, 1].
        observations: at least 1.

    Returns:
        Lower and upper bound, with 0 <= lower <= mean <= upper <= 1.
    """
    z2_n = _Z_95**2 / observations
    centre = mean + z2_n / 2
    reach = math.sqrt(z2_n * (mean * (1 - mean) + z2_n / 4))
    low, high = ((centre + side * reach) / (1 + z2_n) for side in (-1, 1))
    # Rounding must not push the mean out of its interval.
    return min(max(low, 0.0), mean), max(min(high, 1.0), mean)


def clopper_pearson_lower(events: float, trials: float, confidence: float) -> float:
    """The rate below which the true one lies with a chance of at most `1 - confidence`; 0 without events.

    One side of the exact interval of C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits
    illustrated in the case of the binomial", Biometrika 26 (1934), as a quantile of a beta distribution.

    Args:
        events: from 0 to `trials`; neither need be whole, where observations are worth less than independent ones.
        trials: at least 0.
        confidence: in (0, 1).

    Returns:
        In [0, 1).
    """
    from scipy.special import betaincinv

    return float(betaincinv(events, trials - events + 1, 1 - confidence)) if events else 0.0


def clopper_pearson_upper(events: float, trials: float, confidence: float) -> float:
    """The other side: the rate above which the true one lies with a chance of at most `1 - confidence`."""
    return 1 - clopper_pearson_lower(trials - events, trials, confidence)


def hoeffding_interval(mean: float, observations: int, error_rate: float) -> tuple[float, float]:
    """The interval that has the true mean but with a chance of `error_rate` at most, at any number of observations.

    All means that the bound of W. Hoeffding, "Probability inequalities for sums of bounded random variables", Journal
    of the American Statistical Association 58 (1963), theorem 1, does not exclude (see `chernoff_counts`).
    Observations are independent numbers between 0 and 1, of whatever distributions; the true mean is that of theirs.

    Args:
        mean: in [0, 1].
        observations: at least 0.
        error_rate: in (0, 1).

    Returns:
        Lower and upper bound, with 0 <= lower <= mean <= upper <= 1; all of [0, 1] without observations.
    """
    limit = math.log(2 / error_rate)

    def bound(end: float) -> float:
        outer, inner = end, mean
        for _ in range(_HALVINGS):
            middle = (outer + inner) / 2
            excluded = observations * relative_entropy(mean, middle) > limit
            outer, inner = (middle, inner) if excluded else (outer, middle)
        return outer

    return (bound(0.0), bound(1.0)) if observations else (0.0, 1.0)


def posterior_draws(total: float, rest: float, draws: int, random: "np.random.Generator") -> "NDArray[np.float64]":
    """Draws from what is believed of a proportion: the posterior Beta(1 + total, 1 + rest), after a uniform prior.

    T. Bayes, "An essay towards solving a problem in the doctrine of chances", Philosophical Transactions 53 (1763). For
    numbers between 0 and 1 it is wider than need be (see S. Agrawal and N. Goyal, "Analysis of Thompson sampling for
    the multi-armed bandit problem", COLT 2012, on such rewards).

    Args:
        total: sum of the observations, each between 0 and 1. What rounding leaves a little below 0 counts as 0.
        rest: how many there were less that sum, likewise.
        draws: how many, at least 0.

    Returns:
        Shape (draws,), in [0, 1].
    """
    return random.beta(1 + max(total, 0), 1 + max(rest, 0), draws)


def chernoff_counts(probability: float, draws: int, false_alarm: float) -> tuple[int, int]:
    """The lowest and the highest count, of so many draws, that chance explains; what is outside has no such excuse.

    Chernoff's bound on the tails of the binomial distribution: of n draws with probability p, the probability that a
    share of x or further from p is seen is at most exp(-n KL(x, p)), see `relative_entropy`. Source: W. Hoeffding,
    "Probability inequalities for sums of bounded random variables", Journal of the American Statistical Association 58
    (1963), theorem 1. It never errs in the direction of an alarm.

    Args:
        probability: in [0, 1].
        draws: at least 0.
        false_alarm: in (0, 1), the probability that a count of just such draws lies outside, at most.

    Returns:
        Two counts, with 0 <= lowest <= highest <= draws.
    """
    limit = math.log(2 / false_alarm)

    def explained(count: int) -> bool:
        return draws * relative_entropy(count / draws, probability) <= limit

    if draws == 0:
        return 0, 0
    # The entropy falls towards the expected count and rises from there.
    expected = round(probability * draws)
    low = _first(0, expected, explained)
    high = draws - _first(0, draws - expected, lambda others: explained(draws - others))
    return low, high


def relative_entropy(share: float, probability: float) -> float:
    """KL(share, probability) of two coins, in nats; infinite where the second cannot do what the first does.

    S. Kullback and R. A. Leibler, "On information and sufficiency", Annals of Mathematical Statistics 22 (1951). Both
    arguments are in [0, 1].
    """

    def part(first: float, second: float) -> float:
        if first == 0:
            return 0.0
        return first * math.log(first / second) if second > 0 else math.inf

    return part(share, probability) + part(1 - share, 1 - probability)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest number from low to high that holds, where all above it do; high itself is taken to."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
