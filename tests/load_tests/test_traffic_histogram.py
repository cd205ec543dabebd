"""Histograms of times: how exact they are, and that parts add up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.traffic.histogram import Histogram

TIMES = st.lists(st.floats(1e-5, 1000), min_size=1)


def of(times: list[float]) -> Histogram:
    histogram = Histogram()
    for time in times:
        histogram.add(time)
    return histogram


@given(TIMES, st.sampled_from([1, 50, 99, 100]))
def test_a_percentile_is_never_too_low_and_at_most_two_percent_too_high(times: list[float], percent: int) -> None:
    exact = sorted(times)[math.ceil(percent / 100 * len(times)) - 1]

    assert exact * 0.999_999 <= of(times).percentile_s(percent) <= exact * 1.020_001


@given(TIMES, TIMES)
def test_parts_add_up(first: list[float], second: list[float]) -> None:
    merged = of(first)
    merged.merge(of(second))

    assert merged == of(first + second)
    assert merged.total == len(first) + len(second)


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(Histogram().percentile_s(99))
    assert of([0.0]).percentile_s(50) == pytest.approx(1e-5)
