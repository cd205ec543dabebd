"""Comparisons: exact until there is enough, asymptotic from then on, and together wrong as rarely as stated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shokado.experiments.comparisons import EXACT_PART, MIN_COUNT, MIN_EVENTS, compared, compared_in_pairs
from shokado.experiments.exact_tests import TwoProportions
from shokado.experiments.moments import ClusteredMoments, Moments


def one(trials: float, events: float) -> Moments:
    return Moments.of_events(np.array([float(events)]), np.array([float(trials)]))


def test_few_events_are_compared_exactly_and_many_asymptotically() -> None:
    few = compared(one(100, MIN_EVENTS - 1), one(100, 60), bounded=True)
    assert not few.enough
    assert few.bounds(0.05, 0.02) == TwoProportions(one(100, MIN_EVENTS - 1), one(100, 60)).bounds(0.05 * EXACT_PART)
    many = compared(one(100, MIN_EVENTS), one(100, 60), bounded=True)
    assert many.enough
    assert many.bounds(0.05, 0.02) == many.score.bounds(0.05 * (1 - EXACT_PART), 0.02)


def test_numbers_without_bounds_say_nothing_until_there_are_enough() -> None:
    few, many = (
        compared(Moments(*(np.array([x * n]) for x in (1.0, 5.0, 30.0))), one(1000, 500), bounded=False)
        for n in (MIN_COUNT - 1, MIN_COUNT)
    )
    assert few.bounds(0.05, 1.0) == pytest.approx((-np.inf, np.inf))
    assert few.p_value(0.05, 1.0) == few.p_value_above(0.05, 1.0) == 1
    assert np.isfinite(many.bounds(0.05, 1.0)).all()
    assert many.p_value(0.05, 1.0) < 1e-6


def test_an_error_rate_that_jumps_is_found_with_a_few_dozen_requests() -> None:
    """Exactly: 30 of 40 failed, and 0 of 40 of the control."""
    found = compared(one(40, 30), one(40, 0), bounded=True)
    assert not found.enough
    assert found.p_value_above(0.05, 0.01) < 1e-3
    assert found.bounds(0.05, 0.01)[0] > 0.1


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(5, 400), st.integers(5, 400), st.integers(0, 400), st.integers(0, 400), st.floats(-0.5, 0.5))
def test_the_p_value_is_of_the_sequence_that_excludes(n: int, m: int, s: int, t: int, effect: float) -> None:
    found = compared(one(n, min(s, n)), one(m, min(t, m)), bounded=True)
    p_value = float(found.p_value(0.05, 0.05, effect))
    low, high = found.bounds(0.05, 0.05)
    if abs(p_value - 0.05) > 1e-6:
        assert (p_value < 0.05) == (not low <= effect <= high)


@settings(max_examples=25)
@given(st.integers(5, 400), st.integers(5, 400), st.integers(0, 400), st.integers(0, 400), st.floats(-0.5, 0.5))
def test_the_one_sided_p_value_is_of_the_one_sided_sequence(n: int, m: int, s: int, t: int, effect: float) -> None:
    found = compared(one(n, min(s, n)), one(m, min(t, m)), bounded=True)
    p_value = float(found.p_value_above(0.05, 0.05, effect))
    at_least = float(found.at_least(0.05, 0.05))
    if abs(p_value - 0.05) > 1e-6:
        assert (p_value < 0.05) == (at_least > effect)
    # One side alone has all of alpha.
    assert at_least >= found.bounds(0.05, 0.05)[0] - 1e-9


def test_stages_are_enough_together() -> None:
    parts = Moments.of_events(np.array([20.0, 20.0]), np.array([60.0, 60.0]))
    assert compared(parts, parts, bounded=True).enough
    assert not compared(one(60, 20), one(60, 20), bounded=True).enough


def test_clusters_are_counted_and_not_their_requests() -> None:
    def of(clusters: int) -> ClusteredMoments:
        counts = np.full((1, clusters), 100.0)
        return ClusteredMoments.of_clusters(
            counts, np.random.default_rng(1).binomial(100, 0.3, counts.shape).astype(float)
        )

    assert not compared(of(49), of(49), bounded=True).enough
    assert compared(of(50), of(50), bounded=True).enough
    assert compared(of(49), of(49), bounded=True).exact is None


def test_pairs_that_do_not_differ_are_not_enough() -> None:
    few, many = (
        compared_in_pairs(Moments(np.array([5000.0]), np.array([10.0]), np.array([n])), answers=True)
        for n in (MIN_EVENTS - 2.0, MIN_EVENTS + 0.0)
    )
    assert many.enough
    assert not few.enough
    assert few.exact is not None
    assert compared_in_pairs(few.exact.differences, answers=False).exact is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_equal_versions_are_told_apart_at_most_as_often_as_stated(rate: float) -> None:
    """Of 1,000 A/A tests with a look after every 100 answers, more than 72 of 50 expected ones are one in 800 cases."""
    random = np.random.default_rng(3)
    answers = np.full((1, 60, 1000), 50.0)
    first, second = (np.cumsum(random.binomial(50, rate, answers.shape), axis=1) for _ in range(2))
    trials = np.cumsum(answers, axis=1)
    found = compared(Moments.of_events(first, trials), Moments.of_events(second, trials), bounded=True)
    assert (found.p_value(0.05, 0.1 * rate) <= 0.05).any(axis=0).sum() <= 72
