"""Arrivals: a Poisson process that neither the answers nor the caller's pace change."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.traffic.arrivals import Arrivals


def test_gaps_are_exponential() -> None:
    times = list(Arrivals(50, 10, Random(1)).until(1010))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)

    assert times[0] > 10
    assert mean == pytest.approx(1 / 50, rel=0.02)
    # The standard deviation of an exponential distribution is its mean: requests come in bunches.
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.05)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=20))
def test_when_it_is_asked_changes_nothing(pauses: list[float]) -> None:
    steady, asked = Arrivals(20, 0, Random(7)), Arrivals(20, 0, Random(7))
    now = 0.0
    found: list[float] = []
    for pause in pauses:
        now += pause
        found += asked.until(now)

    assert found == list(steady.until(now))
    assert found == sorted(found)
    assert asked.next_s > now
