"""Sums say what the observations would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shokado.experiments.moments import ClusteredMoments, Moments

NUMBERS = st.lists(st.floats(-1e3, 1e3).map(lambda number: round(number, 6)), min_size=2, max_size=40)


def of(values: np.ndarray) -> Moments:
    return Moments(len(values), values.sum(), (values**2).sum())


@given(NUMBERS)
def test_mean_and_variance_are_those_of_the_observations(numbers: list[float]) -> None:
    values = np.array(numbers)
    moments = of(values)
    assert moments.mean == pytest.approx(values.mean())
    assert moments.variance == pytest.approx(values.var(ddof=1), rel=1e-6, abs=1e-11 * (values**2).sum())
    assert moments.mean_variance == moments.variance / len(values)


def test_too_few_observations_have_no_variance() -> None:
    moments = Moments(np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0, 3.0]), np.array([0.0, 9.0, 5.0]))
    assert np.isnan(moments.mean[0])
    assert moments.mean[1:].tolist() == [3, 1.5]
    assert np.isnan(moments.variance[:2]).all()
    assert moments.variance[2] == pytest.approx(0.5)


def test_what_rounding_leaves_of_sums_is_no_variance() -> None:
    """A million latencies of 0.1 ms, added one by one."""
    values = np.full(1_000_000, 0.1)
    summed = Moments(len(values), np.cumsum(values)[-1], np.cumsum(values**2)[-1])
    assert summed.variance == 0


def test_events_are_their_own_squares() -> None:
    values = np.array([1.0] * 7 + [0.0] * 13)
    assert Moments.of_events(7, 20).variance == pytest.approx(values.var(ddof=1))


@given(NUMBERS)
def test_clusters_of_one_are_independent_observations(numbers: list[float]) -> None:
    values = np.array(numbers)
    clustered = ClusteredMoments.of_clusters(np.ones(len(values)), values)
    assert clustered.mean == pytest.approx(values.mean())
    assert clustered.mean_variance == pytest.approx(of(values).mean_variance, rel=1e-6, abs=1e-11 * (values**2).sum())


def test_the_variance_of_clusters_is_how_much_their_mean_varies() -> None:
    """Units that come 1 to 9 times, and are alike each time, drawn anew 2,000 times."""
    random = np.random.default_rng(2)
    counts = random.integers(1, 10, size=(2000, 200)).astype(float)
    totals = random.binomial(counts.astype(int), random.beta(1, 4, size=counts.shape)).astype(float)
    clustered = ClusteredMoments.of_clusters(counts, totals)
    assert np.mean(clustered.mean_variance) == pytest.approx(np.var(clustered.mean), rel=0.1)
    # As if requests were independent, it would be little more than a half.
    alike = Moments.of_events(totals.sum(axis=1), counts.sum(axis=1))
    assert np.mean(alike.mean_variance) < 0.6 * np.var(clustered.mean)
