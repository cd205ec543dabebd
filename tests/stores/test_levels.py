"""Counts by segment: added with their settlement, once, and by the hour."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from shokado.stores.level_counts import HOUR_S, LevelCount
from shokado.stores.store import Store
from tests.stores.backends import Backend
from tests.stores.entries import NOW, settlement

FEATURE = "region@0a1b2c3d"
ODD = 'a:b "c" {d} ü\n@7'


def count(level: str = "north", name: str = "labels", version: str = "v1", feature: str = FEATURE) -> LevelCount:
    return LevelCount(version, feature, level, name)


def settle(store: Store, key: str, levels: Mapping[LevelCount, float], at: float = NOW) -> bool:
    (counted,) = store.settle([replace(settlement(key, keep_s=10 * HOUR_S), levels=levels)], at)
    return counted


def test_counts_are_added_up_for_each_level(store: Store, backend: Backend) -> None:
    settle(store, "a", {count(): 1, count(name="correct"): 0.25, count("south"): 1})
    settle(backend.open(), "b", {count(): 1, count(name="correct"): 0.5})
    assert store.level_sums("v1", FEATURE, NOW) == {
        ("north", "labels"): 2,
        ("north", "correct"): 0.75,
        ("south", "labels"): 1,
    }


def test_what_is_settled_twice_is_counted_once(store: Store) -> None:
    assert settle(store, "a", {count(): 1})
    assert not settle(store, "a", {count(): 1})
    both = [replace(settlement("b"), levels={count(): 1})] * 2
    assert store.settle(both, NOW) == [True, False]
    assert store.level_sums("v1", FEATURE, NOW) == {("north", "labels"): 2}


def test_versions_and_features_are_apart(store: Store) -> None:
    levels = {count(version="v1"): 1, count(version="v10"): 2, count(feature=ODD): 4, count(ODD, feature=ODD): 8}
    settle(store, "a", levels)
    assert store.level_sums("v1", FEATURE, NOW) == {("north", "labels"): 1}
    assert store.level_sums("v10", FEATURE, NOW) == {("north", "labels"): 2}
    assert store.level_sums("v1", ODD, NOW) == {("north", "labels"): 4, (ODD, "labels"): 8}
    assert store.level_sums("v1", "region", NOW) == {}
    assert store.level_sums("v", f"1:{FEATURE}", NOW) == {}


def test_counts_are_of_the_hours_that_are_asked_for_and_forgotten_after_them(store: Store) -> None:
    for number in range(4):
        settle(store, f"key-{number}", {count(): 10**number}, NOW + number * HOUR_S)

    def labels(since: float) -> float:
        return store.level_sums("v1", FEATURE, since).get(("north", "labels"), 0)

    assert [labels(NOW + number * HOUR_S) for number in range(5)] == [1111, 1110, 1100, 1000, 0]
    store.forget(NOW + 2 * HOUR_S, NOW + 3 * HOUR_S)
    assert labels(0) == 1100
    store.forget(NOW + 9 * HOUR_S, NOW + 9 * HOUR_S)
    assert labels(0) == 0


def test_a_settlement_without_segments_adds_nothing(store: Store) -> None:
    settle(store, "a", {})
    assert store.level_sums("v1", FEATURE, 0) == {}


@pytest.mark.parametrize("number", [1e-9, 1e12, 0.1])
def test_numbers_are_doubles(store: Store, number: float) -> None:
    for key in "abc":
        settle(store, key, {count(): number})
    assert store.level_sums("v1", FEATURE, NOW) == {("north", "labels"): pytest.approx(3 * number, rel=1e-15)}
