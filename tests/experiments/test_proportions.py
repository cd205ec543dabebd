"""Intervals and bounds of proportions, against published values and scipy's."""

import math
import subprocess
import sys
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shokado.experiments.proportions import (
    chernoff_counts,
    clopper_pearson_lower,
    clopper_pearson_upper,
    posterior_draws,
    relative_entropy,
    wilson,
)

CONFIDENCES = st.sampled_from([0.5, 0.9, 0.99, 0.999])
ALARM = 1e-9


# R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I.
PUBLISHED = [
    # successes, observations, method 3 (Wilson), method 5 (Clopper-Pearson)
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("successes", "observations", "scored", "exact"), PUBLISHED)
def test_the_intervals_are_the_published_ones(
    successes: int, observations: int, scored: tuple[float, float], exact: tuple[float, float]
) -> None:
    assert wilson(successes / observations, observations) == pytest.approx(scored, abs=5e-5)
    sides = (
        clopper_pearson_lower(successes, observations, 0.975),
        clopper_pearson_upper(successes, observations, 0.975),
    )
    assert sides == pytest.approx(exact, abs=5e-5)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_score_interval_is_that_of_scipy(successes: int, others: int) -> None:
    observations = max(successes + others, 1)
    expected = stats.binomtest(successes, observations).proportion_ci(0.95, "wilson")
    # The quantile has seven digits.
    assert wilson(successes / observations, observations) == pytest.approx((expected.low, expected.high), rel=1e-6)


@given(observations=st.integers(1, 10**9), mean=st.floats(0, 1))
def test_a_mean_lies_in_its_interval(observations: int, mean: float) -> None:
    low, high = wilson(mean, observations)
    assert 0 <= low <= mean <= high <= 1
    assert low < high


@given(mean=st.floats(0.01, 0.99), observations=st.integers(1, 10**6))
def test_more_observations_make_the_interval_narrower(mean: float, observations: int) -> None:
    widths = [high - low for low, high in (wilson(mean, count) for count in (observations, 4 * observations))]
    assert widths[1] < widths[0]


@given(st.integers(0, 60), st.integers(0, 60), CONFIDENCES)
def test_the_exact_bounds_are_those_of_the_binomial_distribution(events: int, others: int, confidence: float) -> None:
    trials = events + others
    low, high = (side(events, trials, confidence) for side in (clopper_pearson_lower, clopper_pearson_upper))
    assert 0 <= low <= high <= 1
    if events:
        assert stats.binom.sf(events - 1, trials, low) == pytest.approx(1 - confidence)
    if others:
        assert stats.binom.cdf(events, trials, high) == pytest.approx(1 - confidence)


@given(st.integers(1, 500), st.integers(1, 500), CONFIDENCES)
def test_more_of_the_same_makes_surer(events: int, others: int, confidence: float) -> None:
    once, tenfold = (clopper_pearson_lower(n * events, n * (events + others), confidence) for n in (1, 10))
    assert once <= tenfold + 1e-12 or confidence == 0.5


@pytest.mark.parametrize(("total", "rest"), [(0.0, 0.0), (3.25, 40.0), (700.0, 300.0), (-1e-12, 5.0), (5.0, -1e-12)])
def test_the_draws_are_those_of_a_beta_distribution(total: float, rest: float) -> None:
    draws = posterior_draws(total, rest, 20_000, np.random.default_rng(3))
    assert draws.shape == (20_000,)
    expected = stats.beta(1 + max(total, 0), 1 + max(rest, 0))
    assert stats.kstest(draws, expected.cdf).pvalue > 0.001


@given(st.floats(0, 1), st.just(0.0) | st.floats(1e-300, 1))
def test_the_relative_entropy_is_that_of_scipy(share: float, probability: float) -> None:
    expected = stats.entropy([share, 1 - share], [probability, 1 - probability])
    assert relative_entropy(share, probability) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.floats(0.01, 0.99), st.integers(1, 5000), st.sampled_from([0.1, 1e-3, ALARM]))
def test_outside_the_counts_is_rarer_than_the_false_alarm(probability: float, draws: int, alarm: float) -> None:
    low, high = chernoff_counts(probability, draws, alarm)

    assert 0 <= low <= high <= draws
    assert stats.binom.cdf(low - 1, draws, probability) <= alarm / 2
    assert stats.binom.sf(high, draws, probability) <= alarm / 2


@given(st.floats(0.01, 0.99), st.integers(1, 500))
def test_the_counts_are_the_outermost_that_chance_explains(probability: float, draws: int) -> None:
    limit = math.log(2 / ALARM)
    counts = [k for k in range(draws + 1) if draws * relative_entropy(k / draws, probability) <= limit]

    assert chernoff_counts(probability, draws, ALARM) == (counts[0], counts[-1])


def test_the_counts_are_not_much_further_apart_than_they_must_be() -> None:
    # 6.1 standard deviations (65.2 of a probability of a fifth, 26,600 draws) have a tail of 1e-9.
    low, high = chernoff_counts(0.2, 26_600, ALARM)

    assert 5320 - 7 * 65.2 < low < 5320 - 6 * 65.2
    assert 5320 + 6 * 65.2 < high < 5320 + 7 * 65.2


def test_what_never_happens_is_bounded_by_nothing() -> None:
    assert chernoff_counts(0.0, 1000, ALARM) == (0, 0)
    assert chernoff_counts(1.0, 1000, ALARM) == (1000, 1000)
    assert chernoff_counts(0.3, 0, ALARM) == (0, 0)


@pytest.mark.parametrize("share", [0.15, 0.25])
def test_a_wrong_split_is_found_and_a_right_one_passes(share: float) -> None:
    draws, random = 10_000, Random(1)
    low, high = chernoff_counts(0.2, draws, ALARM)

    assert low <= sum(random.random() < 0.2 for _ in range(draws)) <= high
    assert not low <= sum(random.random() < share for _ in range(draws)) <= high


def test_a_command_that_judges_by_them_loads_nothing_that_is_heavy() -> None:
    probe = (
        "import shokado.lifecycle.rollout.verdict, sys; "
        "print(sorted({'numpy', 'scipy', 'bentoml', 'fastapi', 'onnxruntime', 'xgboost'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
