"""The registry: what is pending is added once, and the histogram that is added up in one go is right."""

from bisect import bisect_left
from itertools import pairwise
from math import nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from shokado.monitoring.metrics.buckets import ROWS, SECONDS
from shokado.monitoring.metrics.metric_registry import NO_VERSION, MetricRegistry, tallied_histogram

ON_THE_EDGE = [near for bucket in SECONDS for near in (bucket, nextafter(bucket, 0), nextafter(bucket, 99))]
seconds = st.one_of(st.sampled_from(ON_THE_EDGE), st.floats(0, 30), st.just(0.0))


def samples(histogram: Histogram) -> dict[tuple[str, str], float]:
    """Value by sample name and bucket, except the time of creation."""
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in histogram.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def histogram_of(kind: type[Histogram]) -> Any:
    return kind("h", "a histogram", ["version"], registry=CollectorRegistry(), buckets=SECONDS)


@given(flushes=st.lists(st.lists(seconds, max_size=30), max_size=4))
def test_atallied_histogram_equals_one_that_observes_one_by_one(flushes: list[list[float]]) -> None:
    tallied, plain = histogram_of(tallied_histogram()), histogram_of(Histogram)
    plain.labels("v1")
    tallied.labels("v1")
    for values in flushes:
        tallied.labels("v1").observe_all(values)
        for value in values:
            plain.labels("v1").observe(value)
    found, expected = samples(tallied), samples(plain)
    assert found == pytest.approx(expected)
    assert {name: value for name, value in found.items() if name[0] != "h_sum"} == {
        name: value for name, value in expected.items() if name[0] != "h_sum"
    }


def test_a_value_on_a_boundary_belongs_to_the_bucket_that_ends_there() -> None:
    tallied = histogram_of(tallied_histogram())
    tallied.labels("v1").observe_all([0.005])
    found = samples(tallied)
    assert (found["h_bucket", "0.0025"], found["h_bucket", "0.005"]) == (0, 1)


@pytest.mark.parametrize("buckets", [SECONDS, ROWS])
def test_buckets_ascend(buckets: tuple[float, ...]) -> None:
    assert all(low < high for low, high in pairwise(buckets))


@pytest.mark.parametrize("rows", [1, 2, 3, 4096, 10_000])
def test_every_batch_of_the_default_configuration_has_a_bucket(rows: int) -> None:
    assert bisect_left(ROWS, rows) < len(ROWS)


def series(registry: MetricRegistry, name: str) -> dict[tuple[str, ...], float]:
    """Values of a metric of this process by those of its labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in registry._registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_what_is_pending_is_added_once() -> None:
    registry = MetricRegistry(["v1"])
    counter = registry.counter("registry_once", "a counter", ["version", "kind"])
    histogram = registry.histogram("registry_values", "a histogram", SECONDS)
    counter.add("v1", "large")
    counter.add("v1", "large", number=2.5)
    histogram.pending["v1"] += [0.1, 0.2]
    assert series(registry, "registry_once_total") == {}
    for _ in range(2):
        registry.flush()
        assert series(registry, "registry_once_total") == {("v1", "large"): 3.5}
        assert series(registry, "registry_values_sum") == {("v1",): pytest.approx(0.3)}
    assert not counter.pending
    assert not histogram.pending


def test_what_is_done_before_a_flush_is_part_of_it() -> None:
    registry = MetricRegistry([])
    counter = registry.counter("registry_before", "a counter", ["version"])
    registry.before_flush(lambda: counter.add("v1"))
    registry.flush()
    registry.flush()
    assert series(registry, "registry_before_total") == {("v1",): 2}


def test_zeros_are_shown_of_every_version_as_soon_as_it_is_known() -> None:
    registry = MetricRegistry(["v1"])
    counter = registry.counter("registry_zeros", "a counter", ["version"], zeros=True)
    registry.counter("registry_none", "another", ["version"])
    registry.gauge("registry_gauge", "a gauge", "livesum", ["version"], zeros=True)
    counter.add("v1")
    registry.flush()
    for _ in range(2):
        registry.add_version("v1")
        registry.add_version("v3")
    assert series(registry, "registry_zeros_total") == {("v1",): 1, (NO_VERSION,): 0, ("v3",): 0}
    assert series(registry, "registry_gauge") == {("v1",): 0, (NO_VERSION,): 0, ("v3",): 0}
    assert series(registry, "registry_none_total") == {}
