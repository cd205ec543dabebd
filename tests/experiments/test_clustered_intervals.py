"""Intervals of samples in clusters, against scipy's, published ones, and how often they miss in simulations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from shokado.experiments.clustered_intervals import (
    Clusters,
    Estimate,
    IntervalMethod,
    ValueBounds,
    mean_estimate,
    quantile_estimate,
    share_bounds,
    share_estimate,
)

DIFFERENCES = ValueBounds(-1, 1)


def alone(count: int) -> Clusters:
    """Each observation a cluster of its own."""
    return Clusters(np.arange(count))


def bounds(found: Estimate | None) -> tuple[float, float]:
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def test_of_independent_observations_the_mean_has_students_interval() -> None:
    values = np.random.default_rng(1).normal(0.1, 0.2, 400).clip(-1, 1)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_estimate(values, alone(400), 0.05, DIFFERENCES)
    assert found is not None
    assert found.method is IntervalMethod.CLUSTERED_T
    assert bounds(found) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_the_variance_of_clusters_is_that_of_the_sandwich() -> None:
    """Of a regression on a constant, by its matrices, as statsmodels has it with `cov_type="cluster"`."""
    random = np.random.default_rng(2)
    clusters = random.integers(0, 80, 1000)
    values = random.normal(0, 0.1, 80)[clusters] + random.normal(0.2, 0.1, 1000)
    design = np.ones((1000, 1))
    bread = np.linalg.inv(design.T @ design)
    residuals = values - values.mean()
    scores = [design[clusters == one].T @ residuals[clusters == one] for one in range(80)]
    meat = np.sum([np.outer(score, score) for score in scores], axis=0)
    error = math.sqrt((bread @ meat @ bread)[0, 0] * 80 / 79)
    reach = stats.t.ppf(0.975, 79) * error
    found = mean_estimate(values, Clusters.numbered(clusters * 7), 0.05, DIFFERENCES)
    assert bounds(found) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-9)


def test_few_clusters_say_nothing_of_numbers_without_bounds() -> None:
    values = np.random.default_rng(3).normal(size=999)
    found = mean_estimate(values, alone(999), 0.05)
    assert found == Estimate(float(values.mean()), None, None, IntervalMethod.TOO_FEW)
    assert bounds(mean_estimate(np.append(values, 0.0), alone(1000), 0.05))


def test_where_all_are_alike_others_may_not_have_been_seen() -> None:
    """The rule of three: of n that do not differ, 3.7 / n may do so at 97.5 % on each side, by the whole span."""
    found = mean_estimate(np.zeros(1000), alone(1000), 0.05, DIFFERENCES)
    assert found is not None
    assert found.method is IntervalMethod.FEW_DIFFER
    assert bounds(found) == pytest.approx((-0.003682, 0.003682), rel=1e-3)
    assert mean_estimate(np.zeros(5000), alone(5000), 0.05) == Estimate(0.0, None, None, IntervalMethod.TOO_FEW)


def test_bounds_of_few_that_differ_are_those_of_their_shares() -> None:
    values = np.zeros(500)
    values[:4] = 1
    low, high = bounds(mean_estimate(values, alone(500), 0.05, DIFFERENCES))
    exact = stats.binomtest(4, 500).proportion_ci(0.95, "exact")
    never = stats.binomtest(0, 500).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((-never.high, exact.high), rel=1e-9)


@given(st.integers(0, 300), st.integers(1, 300), st.sampled_from([0.1, 0.05, 0.001]))
def test_shares_of_independent_observations_have_exact_bounds(events: int, others: int, alpha: float) -> None:
    count = events + others
    expected = stats.binomtest(events, count).proportion_ci(1 - alpha, "exact")
    found = share_estimate(np.arange(count) < events, alone(count), alpha)
    assert bounds(found) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


def test_clusters_that_are_alike_within_count_as_one_observation_each() -> None:
    """Ten rows of each unit that all say the same are worth as many observations as there are units."""
    random = np.random.default_rng(4)
    of_unit = random.random(200) < 0.3
    found = share_bounds(np.repeat(of_unit, 10), Clusters(np.repeat(np.arange(200), 10)), 0.05)
    shrunk = (stats.t.ppf(0.975, 1999) / stats.t.ppf(0.975, 199)) ** 2
    count = 199 * shrunk
    events = of_unit.mean() * count
    expected = stats.beta.ppf(0.025, events, count - events + 1), stats.beta.ppf(0.975, events + 1, count - events)
    assert found == pytest.approx(expected, rel=1e-9)


def test_events_that_no_cluster_has_are_bounded_by_the_number_of_clusters() -> None:
    none = np.zeros(2000, dtype=bool)
    found = share_bounds(none, Clusters(np.repeat(np.arange(200), 10)), 0.05)
    assert found == pytest.approx((0, 1 - 0.025 ** (1 / 200)))


@pytest.mark.parametrize("turned", [False, True])
def test_where_few_clusters_have_an_event_each_is_one_observation_at_most(*, turned: bool) -> None:
    """One row in each of 29 units: whether others have nothing but events, so few do not tell."""
    clusters = Clusters(np.repeat(np.arange(200), 10))
    events = np.arange(2000) % 10 == 0
    events[290:] = False
    exact = stats.beta.ppf(0.025, 2.9, 198.1), stats.beta.ppf(0.975, 3.9, 197.1)
    expected = (1 - exact[1], 1 - exact[0]) if turned else exact
    assert share_bounds(events ^ turned, clusters, 0.05) == pytest.approx(expected, rel=1e-9)
    events[290] = True
    low, high = share_bounds(events ^ turned, clusters, 0.05)
    assert high - low < 0.7 * (expected[1] - expected[0]), "thirty do"


@given(st.integers(1, 400), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_have_the_interval_of_scipys_test(count: int, probability: float) -> None:
    values = np.random.default_rng(count).exponential(size=count)
    found = quantile_estimate(values, probability, 0.05)
    assert found is not None
    expected = stats.quantile_test(values, p=probability).confidence_interval(0.95)
    given_bounds = tuple(math.nan if bound is None else bound for bound in (found.low, found.high))
    assert given_bounds == pytest.approx((expected.low, expected.high), nan_ok=True)
    assert (found.method is IntervalMethod.TOO_FEW) == any(map(math.isnan, given_bounds))


def test_without_observations_there_is_no_estimate() -> None:
    nothing = np.empty(0)
    assert mean_estimate(nothing, alone(0), 0.05) is None
    assert share_estimate(nothing.astype(bool), alone(0), 0.05) is None
    assert quantile_estimate(nothing, 0.5, 0.05) is None


# How often they miss. Draws are of few units with many rows each, of numbers of unequal clusters, and of rare events,
# where intervals for independent rows are far too narrow.
RUNS = 600
ALPHA = 0.05
# Of so many runs, so many misses more than wanted are chance with a probability of 1e-4.
MOST_MISSES = int(stats.binom.ppf(1 - 1e-4, RUNS, ALPHA))


def misses(found: Estimate | None, true: float) -> bool:
    low, high = bounds(found)
    return not low <= true <= high


def drawn_clusters(random: np.random.Generator, number: int) -> NDArray[np.int64]:
    """Sizes from 1 to 20, most of them small."""
    return np.repeat(np.arange(number), random.geometric(0.3, number).clip(1, 20))


def test_intervals_of_means_miss_as_seldom_as_they_say() -> None:
    random = np.random.default_rng(5)
    missed = naive = 0
    for _ in range(RUNS):
        clusters = drawn_clusters(random, 120)
        values = (random.normal(0, 0.1, 120)[clusters] + random.normal(0.05, 0.05, len(clusters))).clip(-1, 1)
        missed += misses(mean_estimate(values, Clusters(clusters), ALPHA, DIFFERENCES), 0.05)
        naive += misses(mean_estimate(values, alone(len(values)), ALPHA, DIFFERENCES), 0.05)
    assert missed <= MOST_MISSES, "a t of 120 unequal clusters is near to exact"
    assert naive > 0.3 * RUNS, "rows that are taken for independent ones miss often"


@pytest.mark.parametrize(("number", "share"), [(60, 0.02), (200, 0.02), (200, 0.3)])
def test_intervals_of_shares_miss_as_seldom_as_they_say(number: int, share: float) -> None:
    """Half of the units that have events have them in all of their rows."""
    random = np.random.default_rng(6)
    missed = 0
    for _ in range(RUNS):
        clusters = drawn_clusters(random, number)
        whole = random.random(number)[clusters] < share / 2
        single = random.random(len(clusters)) < share / 2
        true = 1 - (1 - share / 2) ** 2
        missed += misses(share_estimate(whole | single, Clusters(clusters), ALPHA), true)
    assert missed <= MOST_MISSES


def test_intervals_where_few_differ_miss_as_seldom_as_they_say() -> None:
    """One row of 200 differs, by all there is: t alone would miss whenever none was seen."""
    random = np.random.default_rng(7)
    missed = 0
    for _ in range(RUNS):
        values = (random.random(300) < 0.005).astype(np.float64)
        missed += misses(mean_estimate(values, alone(300), ALPHA, DIFFERENCES), 0.005)
    assert missed <= MOST_MISSES


def test_intervals_of_quantiles_miss_as_seldom_as_they_say() -> None:
    random = np.random.default_rng(8)
    true = float(stats.lognorm.ppf(0.95, 1))
    missed = sum(misses(quantile_estimate(random.lognormal(0, 1, 500), 0.95, ALPHA), true) for _ in range(RUNS))
    assert missed <= MOST_MISSES
