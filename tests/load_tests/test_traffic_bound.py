"""The bound of a share: never too tight for chance, and tight enough for a wrong split."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.traffic.bound import FALSE_ALARM, bounds, relative_entropy


def tail(probability: float, draws: int, counts: range) -> float:
    """Exact probability that a count lies in the range."""
    return sum(math.comb(draws, k) * probability**k * (1 - probability) ** (draws - k) for k in counts)


@given(st.floats(0.01, 0.99), st.integers(1, 200), st.sampled_from([0.1, 1e-3, 1e-9]))
def test_outside_the_bounds_is_rarer_than_the_false_alarm(probability: float, draws: int, alarm: float) -> None:
    low, high = bounds(probability, draws, alarm)

    assert 0 <= low <= high <= draws
    assert tail(probability, draws, range(low)) <= alarm / 2
    assert tail(probability, draws, range(high + 1, draws + 1)) <= alarm / 2


@given(st.floats(0.01, 0.99), st.integers(1, 500))
def test_the_bounds_are_the_outermost_counts_that_chance_explains(probability: float, draws: int) -> None:
    limit = math.log(2 / FALSE_ALARM)
    counts = [k for k in range(draws + 1) if draws * relative_entropy(k / draws, probability) <= limit]

    assert bounds(probability, draws) == (counts[0], counts[-1])


def test_the_bounds_are_not_much_wider_than_they_must_be() -> None:
    # 6.1 standard deviations (65.2 of a probability of a fifth, 26,600 draws) have a tail of 1e-9.
    low, high = bounds(0.2, 26_600)

    assert 5320 - 7 * 65.2 < low < 5320 - 6 * 65.2
    assert 5320 + 6 * 65.2 < high < 5320 + 7 * 65.2


def test_what_never_happens_is_bounded_by_nothing() -> None:
    assert bounds(0.0, 1000) == (0, 0)
    assert bounds(1.0, 1000) == (1000, 1000)
    assert bounds(0.3, 0) == (0, 0)


@pytest.mark.parametrize("share", [0.15, 0.25])
def test_a_wrong_split_is_found_and_a_right_one_passes(share: float) -> None:
    draws, random = 10_000, Random(1)
    low, high = bounds(0.2, draws)

    assert low <= sum(random.random() < 0.2 for _ in range(draws)) <= high
    assert not low <= sum(random.random() < share for _ in range(draws)) <= high
