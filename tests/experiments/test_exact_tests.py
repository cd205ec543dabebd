"""Exact tests of an effect: what they say is right at any number, and is what a search over all pairs would find."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shokado.experiments.confidence_sequences import proportion_sequence
from shokado.experiments.exact_tests import PairedAnswers, TwoProportions
from shokado.experiments.mixtures import beta_log_e
from shokado.experiments.moments import Moments

COUNTS = st.integers(0, 60)


def one(trials: float, events: float) -> Moments:
    """One experiment of one stage."""
    return Moments.of_events(np.array([float(events)]), np.array([float(trials)]))


def of(s: int, f: int, t: int, g: int) -> TwoProportions:
    return TwoProportions(one(s + f, s), one(t + g, t))


@settings(max_examples=30)
@given(COUNTS, COUNTS, COUNTS, COUNTS, st.floats(-0.95, 0.95))
def test_the_least_over_all_pairs_is_found(s: int, f: int, t: int, g: int, effect: float) -> None:
    """The one over a grid of pairs with at most that difference is hardly larger."""
    q = np.linspace(0, 1, 401)[:, np.newaxis]
    p = np.hstack([np.broadcast_to(q.T, (401, 401)), np.clip(q + effect, 0, 1)])
    allowed = p - q <= effect + 1e-12
    over_grid = np.where(allowed, beta_log_e(s, f, p) + beta_log_e(t, g, q), np.inf).min()
    found = float(of(s, f, t, g).log_e_above(effect))
    assert found <= over_grid + 1e-9
    assert over_grid - found < 0.15 or not np.isfinite(over_grid)


@settings(max_examples=8)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_versions_are_symmetric(s: int, f: int, t: int, g: int) -> None:
    low, high = of(s, f, t, g).bounds(0.05)
    assert -1 <= low <= high <= 1
    assert of(t, g, s, f).bounds(0.05) == pytest.approx((-high, -low), abs=1e-9)
    assert of(f, s, g, t).bounds(0.05) == pytest.approx((-high, -low), abs=1e-9)


@settings(max_examples=8)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_smaller_alpha_has_the_larger_sequence(s: int, f: int, t: int, g: int) -> None:
    (low, high), (lower, higher) = (of(s, f, t, g).bounds(alpha) for alpha in (0.05, 0.001))
    assert lower <= low <= high <= higher


def test_what_is_excluded_is_what_is_spoken_against() -> None:
    test = of(80, 20, 40, 60)
    low, high = (float(bound) for bound in test.bounds(0.01))
    assert 0 < low < 0.4 < high
    assert test.log_e_above(low) == pytest.approx(-math.log(0.01), abs=1e-6)
    assert test.log_e_below(high) == pytest.approx(-math.log(0.01), abs=1e-6)
    effects = np.linspace(-1, 1, 81)
    above = [float(test.log_e_above(effect)) for effect in effects]
    assert above == sorted(above, reverse=True)


def test_it_is_tighter_than_a_sequence_for_each_version() -> None:
    for s, f, t, g in ((80, 20, 40, 60), (500, 500, 450, 550), (20, 980, 10, 990)):
        low, high = of(s, f, t, g).bounds(0.05)
        first, second = proportion_sequence(s, f, 0.025), proportion_sequence(t, g, 0.025)
        assert high - low < (first[1] - second[0]) - (first[0] - second[1])


def test_stages_with_one_effect_are_added() -> None:
    """Their base rates differ, so their sums would say something else."""
    trials = np.array([200.0, 300.0])
    both = TwoProportions(
        Moments.of_events(np.array([40.0, 210.0]), trials), Moments.of_events(np.array([20.0, 165.0]), trials)
    )
    parts = [of(40, 160, 20, 180), of(210, 90, 165, 135)]
    for effect in (-0.1, 0.0, 0.1, 0.3):
        assert both.log_e_above(effect) == pytest.approx(sum(float(part.log_e_above(effect)) for part in parts))
    low, high = both.bounds(0.05)
    assert low < 0.1 < high


def test_nothing_seen_says_nothing() -> None:
    assert of(0, 0, 0, 0).bounds(0.05) == pytest.approx((-1, 1))
    assert PairedAnswers(Moments(np.zeros(1), np.zeros(1), np.zeros(1))).bounds(0.05) == pytest.approx((-1, 1))


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (0.05, 0.05), (0.3, 0.5)])
def test_two_proportions_expect_one_at_most(p: float, q: float) -> None:
    """Against the difference that they have, and against all that are larger."""
    n, m = 12, 25
    s, t = (part.ravel() for part in np.meshgrid(np.arange(n + 1.0), np.arange(m + 1.0), indexing="ij"))
    chance = stats.binom.pmf(s, n, p) * stats.binom.pmf(t, m, q)
    test = TwoProportions(
        Moments.of_events(s[np.newaxis], np.full((1, len(s)), float(n))),
        Moments.of_events(t[np.newaxis], np.full((1, len(t)), float(m))),
    )
    for more in (0.0, 0.1, 0.4):
        assert chance @ np.exp(test.log_e_above(p - q + more)) <= 1
        assert chance @ np.exp(test.log_e_below(p - q - more)) <= 1


def test_pairs_expect_one_at_most_and_differ_by_what_they_say() -> None:
    n, shares = 14, (0.2, 0.1, 0.7)
    won, lost = (part.ravel() for part in np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0), indexing="ij"))
    there = won + lost <= n
    won, lost = won[there], lost[there]
    chance = stats.multinomial.pmf(np.stack([won, lost, n - won - lost], axis=-1), n, shares)
    test = PairedAnswers(Moments(np.full((1, len(won)), float(n)), (won - lost)[np.newaxis], (won + lost)[np.newaxis]))
    for more in (0.0, 0.2):
        assert chance @ np.exp(test.log_e_above(0.1 + more)) <= 1
        assert chance @ np.exp(test.log_e_below(0.1 - more)) <= 1
    low, high = PairedAnswers(Moments(np.array([400.0]), np.array([40.0]), np.array([60.0]))).bounds(0.05)
    assert 0 < low < 0.1 < high
    # Two versions that answered different requests need many more.
    apart_low, apart_high = of(300, 100, 260, 140).bounds(0.05)
    assert high - low < 0.6 * (apart_high - apart_low)
