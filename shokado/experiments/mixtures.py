"""Mixture martingales: how much what was seen speaks against a hypothesis, however often one looks. Pure.

Each has the value 1 before anything is seen, and an expectation of 1 at most for as long as the hypothesis is true. So
the chance that it ever reaches 1 / alpha is alpha at most (J. Ville, "Étude critique de la notion de collectif", 1939),
which a p-value that is looked at again and again does not have. Such a value is called an e-value; functions here give
its natural logarithm, as it overflows otherwise.

All are functions of sums, not of streams, and elementwise: scalars and arrays that broadcast give an array.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Elements = NDArray[Any] | float
"""A number, or an array with one for each of several experiments."""
Prior = tuple[float, float]
"""Both parameters of a beta distribution, above 0."""

JEFFREYS: Prior = (0.5, 0.5)
"""The prior of H. Jeffreys, which costs at most log(n) / 2 + log(2) beside the best guess made in hindsight, whatever
the proportion (R. E. Krichevsky and V. K. Trofimov, "The performance of universal encoding", IEEE Transactions on
Information Theory 27, 1981).
"""
_NEWTON_STEPS = 8


def tightest_ratio(alpha: float) -> float:
    """The variance at which bounds of the normal mixture are as narrow as they get, in units of its `rho`.

    Minus W(-alpha^2 / e) minus 1, where W is the lower branch of Lambert's function: I. Waudby-Smith, D. Arbour,
    R. Sinha, E. H. Kennedy and A. Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
    Annals of Statistics 52 (2024), equation for the rho that is best at a given time.

    Args:
        alpha: of both sides together, in (0, 1).
    """
    from scipy.special import lambertw

    return float(-lambertw(-(alpha**2) / math.e, k=-1).real) - 1


def normal_log_e(score: Elements, variance: Elements, rho: Elements) -> NDArray[np.float64]:
    """Against a sum of increments whose mean is 0, of which nobody knows whether it is above or below.

    H. Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical Statistics 41
    (1970): a mixture of normal likelihood ratios. In this form: S. R. Howard, A. Ramdas, J. McAuliffe and J. Sekhon,
    "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49 (2021), section 3.2.

    Args:
        score: the sum, as far as it is more than expected.
        variance: of the sum, at least 0.
        rho: above 0, of the dimension of `variance`: decides at which variance the test is the most powerful.
    """
    score, variance, rho = (np.asarray(one, dtype=np.float64) for one in (score, variance, rho))
    return np.asarray((score**2 / (variance + rho) - np.log1p(variance / rho)) / 2)


def normal_log_e_above(score: Elements, variance: Elements, rho: Elements) -> NDArray[np.float64]:
    """Against a sum of increments whose mean is 0 or less; arguments as of `normal_log_e`.

    The mixture over the half of the normal distribution that is above 0: Howard et al. (2021), equation (12).
    """
    from scipy.special import log_ndtr

    score, variance, rho = (np.asarray(one, dtype=np.float64) for one in (score, variance, rho))
    tail = log_ndtr(score / np.sqrt(variance + rho))
    return np.asarray(normal_log_e(score, variance, rho) + math.log(2) + tail)


def normal_bound(variance: Elements, rho: Elements, alpha: float) -> NDArray[np.float64]:
    """How far from 0 the sum of `normal_log_e` ever gets, on either side, but with a chance of alpha."""
    variance, rho = (np.asarray(one, dtype=np.float64) for one in (variance, rho))
    return np.asarray(np.sqrt((variance + rho) * (np.log1p(variance / rho) - 2 * math.log(alpha))))


def normal_bound_above(variance: Elements, rho: Elements, alpha: float) -> NDArray[np.float64]:
    """How far above 0 the sum of `normal_log_e_above` ever gets, but with a chance of alpha.

    The root is found by Newton's method, from above: the logarithm of the mixture is convex in the sum.
    """
    from scipy.special import log_ndtr

    variance, rho = (np.asarray(one, dtype=np.float64) for one in (variance, rho))
    # In units x of the square root of variance + rho: x^2 / 2 + log(normal distribution function of x) = goal.
    goal = np.log1p(variance / rho) / 2 - math.log(2 * alpha)
    x = np.sqrt(2 * (goal + math.log(2)))
    for _ in range(_NEWTON_STEPS):
        tail = log_ndtr(x)
        slope = x + np.exp(-(x**2) / 2 - tail) / math.sqrt(2 * math.pi)
        x = x - (x**2 / 2 + tail - goal) / slope
    return np.asarray(x * np.sqrt(variance + rho))


def beta_log_marginal(successes: Elements, failures: Elements, prior: Prior = JEFFREYS) -> NDArray[np.float64]:
    """The logarithm of the likelihood of a sequence of trials whose proportion is drawn from a beta distribution."""
    from scipy.special import betaln

    a, b = prior
    return np.asarray(betaln(np.add(successes, a), np.add(failures, b)) - betaln(a, b))


def bernoulli_log_likelihood(successes: Elements, failures: Elements, proportion: Elements) -> NDArray[np.float64]:
    """The logarithm of the likelihood of a sequence of trials with that proportion."""
    from scipy.special import xlog1py, xlogy

    return np.asarray(xlogy(successes, proportion) + xlog1py(failures, -np.asarray(proportion)))


def beta_log_e(
    successes: Elements, failures: Elements, proportion: Elements, prior: Prior = JEFFREYS
) -> NDArray[np.float64]:
    """Against trials with that proportion of successes, exactly, at any number of them.

    The beta-binomial mixture: H. Robbins (1970), example 2; Howard et al. (2021), section 3.1. It is as valid for
    numbers between 0 and 1 with that mean, whose sum is `successes`, as each factor is convex in its number.

    Args:
        successes: at least 0.
        failures: likewise: how many trials there were, less `successes`.
        proportion: in [0, 1].
        prior: of the mixture.
    """
    return np.asarray(
        beta_log_marginal(successes, failures, prior) - bernoulli_log_likelihood(successes, failures, proportion)
    )


def beta_log_e_above(
    successes: Elements, failures: Elements, limit: float, prior: Prior = JEFFREYS
) -> NDArray[np.float64]:
    """Against trials whose proportion of successes is at most `limit`; arguments as of `beta_log_e`.

    The beta distribution is cut off below the limit: Howard et al. (2021), one-sided beta-binomial mixture. The
    proportion need not stay the same, as long as it stays at the limit or below.

    Args:
        limit: in (0, 1).
    """
    from scipy.special import betainc

    a, b = prior
    with np.errstate(divide="ignore"):
        above = np.log(betainc(np.add(failures, b), np.add(successes, a), 1 - limit))
    return np.asarray(beta_log_e(successes, failures, limit, prior) + above - math.log(betainc(b, a, 1 - limit)))


def dirichlet_log_e(
    counts: NDArray[np.float64], shares: NDArray[np.float64], concentration: float
) -> NDArray[np.float64]:
    """Against draws that fall on categories by those shares, exactly, at any number of them.

    M. Lindon and A. Malek, "Anytime-valid inference for multinomial count data", Advances in Neural Information
    Processing Systems 35 (2022), section 2: a mixture over a Dirichlet distribution around the shares.

    Args:
        counts: shape (.., categories), at least 0.
        shares: likewise, in (0, 1), with a sum of 1.
        concentration: the sum of the distribution's parameters, above 0; the larger, the smaller are the deviations
            that are found with the fewest draws.
    """
    from scipy.special import gammaln, xlogy

    parameters = concentration * shares
    total = counts.sum(axis=-1)
    marginal = (gammaln(parameters + counts) - gammaln(parameters)).sum(axis=-1)
    marginal += gammaln(concentration) - gammaln(concentration + total)
    return np.asarray(marginal - xlogy(counts, shares).sum(axis=-1))
