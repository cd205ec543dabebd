"""The cache of features: for so long, of so many."""

from shokado.features.entity_features import EntityFeatures
from shokado.features.feature_cache import FeatureCache
from tests.support.clock import HandClock


def features(value: float) -> EntityFeatures:
    return EntityFeatures(("age",), (value,), (True,), (None,))


def test_what_was_looked_up_is_known_for_a_while() -> None:
    clock = HandClock()
    cache = FeatureCache(5, 10, clock)
    cache.put("ann", features(1))
    clock.advance(4.99)
    assert cache.get("ann") == features(1)
    clock.advance(0.01)
    assert cache.get("ann") is None
    assert len(cache) == 0


def test_who_was_asked_for_longest_ago_is_let_go() -> None:
    cache = FeatureCache(5, 2, HandClock())
    for name in ("ann", "bob"):
        cache.put(name, features(1))
    cache.get("ann")
    cache.put("cyd", features(1))
    assert [name for name in ("ann", "bob", "cyd") if cache.get(name) is not None] == ["ann", "cyd"]


def test_without_a_time_nothing_is_kept() -> None:
    cache = FeatureCache(0, 2, HandClock())
    cache.put("ann", features(1))
    assert cache.get("ann") is None
