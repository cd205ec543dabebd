"""Mixture martingales: against published values, in their expectation, and how often they are ever large by chance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.optimize import minimize_scalar

from shokado.experiments.mixtures import (
    JEFFREYS,
    beta_log_e,
    beta_log_e_above,
    dirichlet_log_e,
    normal_bound,
    normal_bound_above,
    normal_log_e,
    normal_log_e_above,
    tightest_ratio,
)

ALPHAS = st.sampled_from([0.3, 0.05, 0.01, 1e-4])
VARIANCES = st.floats(1e-3, 1e6)

# The unit tests of confseq 0.0.11 (test/uniform_boundaries_unittest.cpp), "all target values are from a reference
# implementation in R"; its rho for a variance of 100 is an approximation of the tightest.
RHO = 12.60056
RHO_ABOVE = 100 / (2 * math.log(10) + math.log(1 + 2 * math.log(10)))


def test_the_normal_mixture_has_published_values() -> None:
    assert normal_log_e(10, 100, RHO) == pytest.approx(-0.6510052, abs=1e-6)
    assert normal_bound(100, RHO, 0.05) == pytest.approx(30.35209, abs=1e-5)
    assert normal_log_e_above(10, 100, RHO_ABOVE) == pytest.approx(-0.06502391, abs=1e-7)
    assert normal_bound_above(100, RHO_ABOVE, 0.05) == pytest.approx(27.66071, abs=1e-5)


def test_the_beta_mixture_has_published_values() -> None:
    """Theirs is of a sum of 10 beyond 625 trials with a fifth of successes, and a prior around that fifth."""
    prior = ((RHO - 0.16) / 0.8, (RHO - 0.16) / 0.2)
    assert beta_log_e(135, 490, 0.2, prior) == pytest.approx(-0.6941012, abs=1e-6)
    prior = ((RHO_ABOVE - 0.16) / 0.8, (RHO_ABOVE - 0.16) / 0.2)
    assert beta_log_e_above(135, 490, 0.2, prior) == pytest.approx(-0.07134019, abs=1e-7)


@pytest.mark.parametrize(
    ("shares", "counts", "expected"),
    [
        ([0.5, 0.5], [520, 480], -0.4731252336700891),
        ([0.5, 0.5], [5400, 4600], 29.40949278800872),
        ([0.1, 0.3, 0.6], [130, 280, 590], 1.9671907363892842),
        ([0.9, 0.1], [9000, 900], 2.3570534721247896),
    ],
)
def test_the_dirichlet_mixture_is_that_of_its_authors(shares: list[float], counts: list[int], expected: float) -> None:
    """The logarithm of `odds` of `savvi.multinomial.Multinomial`, version 0.3.1, with its k of 100."""
    found = dirichlet_log_e(np.array(counts, dtype=float), np.array(shares), 100.0)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.3, 0.05, 1e-3])
def test_the_ratio_is_where_bounds_are_tightest(alpha: float) -> None:
    best = minimize_scalar(
        lambda log_rho: float(normal_bound(1000.0, math.exp(log_rho), alpha)), bounds=(-5, 12), method="bounded"
    )
    assert 1000 / math.exp(best.x) == pytest.approx(tightest_ratio(alpha), rel=1e-3)


@given(ALPHAS, VARIANCES, VARIANCES)
def test_a_bound_is_where_the_mixture_reaches_one_over_alpha(alpha: float, variance: float, rho: float) -> None:
    both, above = normal_bound(variance, rho, alpha), normal_bound_above(variance, rho, alpha)
    assert normal_log_e(both, variance, rho) == pytest.approx(-math.log(alpha))
    assert normal_log_e_above(above, variance, rho) == pytest.approx(-math.log(alpha))
    assert above < both


@given(VARIANCES, VARIANCES)
def test_a_smaller_alpha_is_a_wider_bound(variance: float, rho: float) -> None:
    bounds = [float(normal_bound(variance, rho, alpha)) for alpha in (0.2, 0.1, 0.01, 1e-6)]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize("drift", [0.0, -0.5, -3.0])
def test_the_normal_mixtures_expect_one_at_most(drift: float) -> None:
    """Over a normal sum; the one-sided one also where the mean is below 0."""
    spread = math.sqrt(50.0)
    sums = np.linspace(-40 * spread, 40 * spread, 200_001)
    log_chance = stats.norm.logpdf(sums, drift * spread, spread)
    above = integrate.simpson(np.exp(normal_log_e_above(sums, 50.0, 20.0) + log_chance), x=sums)
    both = integrate.simpson(np.exp(normal_log_e(sums, 50.0, 20.0) + log_chance), x=sums)
    assert above <= 1 + 1e-9
    if not drift:
        assert (above, both) == pytest.approx((1, 1))


@pytest.mark.parametrize("proportion", [0.01, 0.1, 0.35, 0.5])
def test_the_beta_mixtures_expect_one_at_most(proportion: float) -> None:
    successes = np.arange(61)
    chance = stats.binom.pmf(successes, 60, proportion)
    assert chance @ np.exp(beta_log_e(successes, 60 - successes, proportion)) == pytest.approx(1)
    for limit in (proportion, proportion + 0.1, 0.9):
        expected = chance @ np.exp(beta_log_e_above(successes, 60 - successes, limit))
        assert expected == pytest.approx(1) if limit == proportion else expected <= 1


def test_the_beta_mixture_holds_for_numbers_between_none_and_one() -> None:
    """Each number that is neither 0 nor 1 has a smaller expectation than the coin with its mean."""
    for values in ([0.2, 0.6], [0.0, 0.5, 1.0], [0.4]):
        mean = float(np.mean(values))
        expected = np.mean([math.exp(float(beta_log_e(value, 1 - value, mean))) for value in values])
        assert expected <= 1 + 1e-12


def test_the_one_sided_mixture_is_an_integral() -> None:
    a, b = JEFFREYS
    above, _ = integrate.quad(
        lambda p: stats.beta.pdf(p, a, b) * (p / 0.1) ** 7 * ((1 - p) / 0.9) ** 33, 0.1, 1, epsabs=1e-12
    )
    mass = stats.beta.sf(0.1, a, b)
    assert math.exp(float(beta_log_e_above(7, 33, 0.1))) == pytest.approx(above / mass)


def test_shares_that_hold_are_expected_to_give_one() -> None:
    counts = np.array([[k, 30 - k] for k in range(31)], dtype=float)
    chance = stats.binom.pmf(np.arange(31), 30, 0.3)
    assert chance @ np.exp(dirichlet_log_e(counts, np.array([0.3, 0.7]), 100.0)) == pytest.approx(1)


@pytest.mark.slow
def test_what_is_looked_at_all_the_time_is_rarely_large_by_chance() -> None:
    """Of 2,000 experiments of 1,000 looks each, more than 128 of 100 expected ones are one in 300 cases."""
    random = np.random.default_rng(4)
    sums = np.cumsum(random.normal(size=(2000, 1000)), axis=1)
    successes = np.cumsum(random.random((2000, 1000)) < 0.2, axis=1)
    looks = np.arange(1.0, 1001)
    for log_e in (
        normal_log_e(sums, looks, 50.0),
        normal_log_e_above(sums, looks, 50.0),
        beta_log_e(successes, looks - successes, 0.2),
        beta_log_e_above(successes, looks - successes, 0.2),
        dirichlet_log_e(np.stack([successes, looks - successes], axis=-1), np.array([0.2, 0.8]), 100.0),
    ):
        ever = (log_e >= -math.log(0.05)).any(axis=1).sum()
        assert 0 < ever <= 128
