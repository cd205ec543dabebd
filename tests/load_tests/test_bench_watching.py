"""Legs take turns, and neighbours are compared."""

import os
import time

import pytest

from load_tests.bench import process_tree
from load_tests.bench.watching import COST, RATE, Leg, LegComparison, compare


def test_the_one_that_begins_changes_with_each_pair() -> None:
    run = list[str]()

    def leg(name: str) -> Leg:
        run.append(name)
        return Leg(float(len(run)), 1.0)

    found = compare(lambda: leg("off"), lambda: leg("on"), 3)

    assert run == ["off", "on", "on", "off", "off", "on"]
    assert [one.requests_per_second for one in found.without] == [1, 4, 5]
    assert [one.requests_per_second for one in found.watched] == [2, 3, 6]


def test_ratios_are_of_neighbours_so_that_a_machine_that_slows_down_makes_no_difference() -> None:
    without = [Leg(rate, 10) for rate in (1000, 500, 250, 100)]
    watched = [Leg(rate, 11) for rate in (900, 450, 225, 50)]
    found = LegComparison(without, watched)

    lower, median, upper = found.quartiles(RATE)

    assert (lower, median, upper) == pytest.approx((0.8, 0.9, 0.9))
    assert found.quartiles(COST) == pytest.approx((1.1, 1.1, 1.1))


def test_one_pair_has_no_spread() -> None:
    found = LegComparison([Leg(100, 1)], [Leg(95, 1)])

    assert found.quartiles(RATE) == pytest.approx((0.95, 0.95, 0.95))


def test_processor_time_is_what_a_process_has_taken() -> None:
    before, spent = process_tree.cpu_seconds([os.getpid()]), time.process_time()
    while time.process_time() < spent + 0.3:
        pass

    assert process_tree.cpu_seconds([os.getpid(), 2**22 + 1]) - before == pytest.approx(0.3, abs=0.1)
