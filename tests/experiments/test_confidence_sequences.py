"""Confidence sequences: against values of other libraries, as what they are, and how often they ever miss."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shokado.experiments.confidence_sequences import (
    Score,
    proportion_sequence,
    score_of_difference,
    score_of_mean,
    score_of_pairs,
)
from shokado.experiments.mixtures import normal_bound, tightest_ratio
from shokado.experiments.moments import Moments

ALPHAS = (0.2, 0.05, 0.01, 1e-4)


def stages(*parts: tuple[float, float]) -> Moments:
    """Trials and events of each stage."""
    trials, events = np.array(parts, dtype=float).T
    return Moments.of_events(events, trials)


def known(number: int) -> np.ndarray:
    return np.ones(number, dtype=bool)


def test_the_sequence_of_a_mean_is_the_published_one() -> None:
    """`ville` 0.1.0: AsymptoticCS(alpha=0.05, t_opt=1000) of 2,000 exponential numbers with these sums."""
    moments = Moments(2000, 3931.6725656461185, 15299.141480053662)
    score = score_of_mean(moments)
    # The resolution for which the narrowest is at 1,000 observations.
    ratio = tightest_ratio(0.05)
    resolution = math.sqrt(float(moments.variance) * (1 + ratio) / 1000)
    assert score.bounds(0.05, resolution) == pytest.approx((1.8325089803320505, 2.0991635853140607), rel=1e-8)


def test_the_sequence_of_a_proportion_is_that_of_another_library() -> None:
    """`ville` 0.1.0: BernoulliCS(alpha=0.05, prior=(0.5, 0.5), intersect=False), after 159 of 500."""
    assert proportion_sequence(159, 341, 0.05) == pytest.approx((0.24738325560502156, 0.3947129558629002), abs=1e-9)


def test_nothing_seen_says_nothing() -> None:
    assert proportion_sequence(0, 0, 0.05) == pytest.approx((0, 1))
    score = score_of_mean(Moments(0.0, 0.0, 0.0))
    assert score.bounds(0.05, 0.1) == pytest.approx((-math.inf, math.inf))
    assert score.log_e(0.0, 0.05, 0.1) == 0
    assert np.isnan(score.estimate)


def test_observations_that_are_all_alike_say_nothing() -> None:
    score = score_of_mean(Moments(500.0, 500.0, 500.0))
    assert score.estimate == 1
    assert score.bounds(0.05, 0.1) == pytest.approx((-math.inf, math.inf))


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_a_smaller_alpha_has_the_larger_sequence(successes: int, failures: int) -> None:
    found = [proportion_sequence(successes, failures, alpha) for alpha in ALPHAS]
    for (low, high), (lower, higher) in pairwise(found):
        assert 0 <= lower <= low <= high <= higher <= 1


@given(st.integers(0, 500), st.integers(0, 500))
def test_failures_are_successes_seen_from_the_other_side(successes: int, failures: int) -> None:
    low, high = proportion_sequence(successes, failures, 0.05)
    assert proportion_sequence(failures, successes, 0.05) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_it_becomes_narrower_with_what_is_seen() -> None:
    widths = [np.subtract(*reversed(proportion_sequence(3 * n, 7 * n, 0.05))) for n in (1, 10, 100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)
    many = [score_of_mean(Moments.of_events(3 * n, 10 * n)).bounds(0.05, 0.01) for n in (10, 100, 1000, 10_000)]
    widths = [high - low for low, high in many]
    assert widths == sorted(widths, reverse=True)


def test_it_is_tightest_where_it_reaches_the_resolution() -> None:
    """Beside the narrowest for that number of observations it is the same; beside others it is wider."""
    for resolution in (0.01, 0.03):
        score = score_of_mean(Moments.of_events(5000, 10_000))
        ratio = tightest_ratio(0.05)
        reached = 0.25 * (1 + ratio) / resolution**2
        part = reached / 10_000
        at = Score(score.total * part, score.weight * part, score.variance * part, score.spread)
        low, high = at.bounds(0.05, resolution)
        assert (high - low) / 2 == pytest.approx(resolution, rel=1e-3)
        best = min(float(normal_bound(at.variance, rho, 0.05)) for rho in np.geomspace(0.1, 1e4, 2000))
        assert resolution * float(at.weight) == pytest.approx(best, rel=1e-3)


def test_the_difference_of_one_stage_has_the_unpooled_variance() -> None:
    first, second = stages((400, 120)), stages((900, 180))
    score = score_of_difference(first, second, known(1)[:, np.newaxis][:, 0])
    assert score.estimate == pytest.approx(0.1)
    expected = 0.3 * 0.7 / 399 + 0.2 * 0.8 / 899
    assert score.variance / score.weight**2 == pytest.approx(expected)


def test_sides_are_symmetric() -> None:
    first, second = stages((400, 120), (100, 60)), stages((900, 180), (400, 200))
    forth = score_of_difference(first, second, known(2)).bounds(0.05, 0.05)
    back = score_of_difference(second, first, known(2)).bounds(0.05, 0.05)
    assert forth == pytest.approx((-back[1], -back[0]))


def test_shares_that_change_while_rates_change_are_no_effect() -> None:
    """Both have 10 % in the first stage and 50 % in the second, but the candidate has most of its traffic there."""
    candidate, control = stages((100, 10), (9_000, 4_500)), stages((9_000, 900), (1_000, 500))
    assert np.sum(candidate.total) / np.sum(candidate.count) > 3 * np.sum(control.total) / np.sum(control.count)
    score = score_of_difference(candidate, control, known(2))
    assert score.estimate == pytest.approx(0)


def test_what_comes_later_does_not_choose_rho() -> None:
    settled = np.array([True, True])
    one = score_of_difference(stages((400, 40)), stages((400, 40)), settled[:1])
    two = score_of_difference(stages((400, 40), (400, 200)), stages((400, 40), (400, 200)), settled)
    assert two.rho(0.05, 0.01) == one.rho(0.05, 0.01)
    unsettled = score_of_difference(stages((4, 4), (400, 40)), stages((4, 4), (400, 40)), np.array([False, True]))
    assert unsettled.rho(0.05, 0.01) == pytest.approx(one.rho(0.05, 0.01), rel=0.02)


def test_a_stage_that_one_version_was_not_in_says_nothing() -> None:
    with_it = score_of_difference(stages((400, 40), (0, 0)), stages((400, 80), (500, 500)), known(2))
    without = score_of_difference(stages((400, 40)), stages((400, 80)), known(1))
    assert with_it.bounds(0.05, 0.05) == without.bounds(0.05, 0.05)


def test_pairs_fall_out_of_their_differences() -> None:
    score = score_of_pairs(Moments(np.array([1000.0]), np.array([30.0]), np.array([90.0])), known(1))
    assert score.estimate == pytest.approx(0.03)
    assert score.variance / score.weight**2 == pytest.approx((90 - 0.9) / 999 / 1000)


@given(st.floats(-0.2, 0.2), st.sampled_from(ALPHAS))
def test_what_is_excluded_is_what_is_spoken_against(value: float, alpha: float) -> None:
    score = score_of_difference(stages((300, 120)), stages((300, 99)), known(1))
    low, high = score.bounds(alpha, 0.03)
    assert (score.log_e(value, alpha, 0.03) > -math.log(alpha)) == (not low <= value <= high)


def test_a_mean_is_missed_at_most_as_often_as_stated() -> None:
    """Of 2,000 sequences that are looked at 400 times, more than 128 of 100 expected ones are one in 300 cases."""
    random = np.random.default_rng(6)
    values = random.exponential(size=(2000, 4000))
    looks = np.arange(200, 4001, 10)
    total, squares = (np.cumsum(part, axis=1)[:, looks - 1] for part in (values, values**2))
    low, high = score_of_mean(Moments(looks.astype(float), total, squares)).bounds(0.05, 0.1)
    assert 0 < ((low > 1) | (high < 1)).any(axis=1).sum() <= 128
