"""Metrics of predictions: how they ended, each counted once, and the client's faults for no version."""

import pytest

from shokado.dispatch.fault import FELL_BACK, Fault
from shokado.dispatch.observers import Failure
from shokado.monitoring.metrics.metric_registry import NO_VERSION, MetricRegistry
from shokado.monitoring.metrics.predictions import PredictionMetrics
from tests.support.predictions import prediction_of


@pytest.fixture
def metrics() -> PredictionMetrics:
    return PredictionMetrics(MetricRegistry(["v1"]))


def test_a_flush_leaves_nothing_to_be_counted_twice_but_keeps_what_is_under_way() -> None:
    registry = MetricRegistry(["v1"])
    metrics = PredictionMetrics(registry)
    metrics.started("v1", 3)
    metrics.answered("v1", [prediction_of(latency_s=0.1), prediction_of(latency_s=0.2)])
    assert metrics.requests.pending == {("v1",): 2}
    assert metrics.latency.pending == {"v1": [0.1, 0.2]}
    registry.flush()
    assert metrics.in_flight == {"v1": 1}
    assert (metrics.requests.pending, metrics.latency.pending) == ({}, {})
    metrics.answered("v1", [prediction_of()])
    assert metrics.in_flight == {"v1": 0}


def test_predictions_are_under_way_until_they_are_answered_fail_or_are_left(metrics: PredictionMetrics) -> None:
    metrics.started("v1", 6)
    metrics.answered("v1", [prediction_of(), prediction_of()])
    metrics.failed([Failure(prediction_of(), "v1", "overloaded"), Failure(None, "v1", FELL_BACK)])
    metrics.cancelled("v1", [prediction_of()])
    assert metrics.in_flight == {"v1": 2}
    assert metrics.left.pending == {("v1",): 1}


def test_errors_are_counted_by_whose_fault_they_are(metrics: PredictionMetrics) -> None:
    metrics.started("v1", 2)
    metrics.failed(
        [
            Failure(prediction_of(), "v1", "model_failure"),
            Failure(prediction_of(), "v1", "unknown_output", Fault.CLIENT),
            Failure(None, None, "malformed_body", Fault.CLIENT),
            Failure(None, None, "overloaded"),
        ]
    )
    assert metrics.errors.pending == {
        ("v1", "model_failure", "server"): 1,
        (NO_VERSION, "unknown_output", "client"): 1,
        (NO_VERSION, "malformed_body", "client"): 1,
        (NO_VERSION, "overloaded", "server"): 1,
    }
    assert metrics.in_flight == {"v1": 0}


def test_a_version_that_comes_later_is_counted_from_then_on(metrics: PredictionMetrics) -> None:
    metrics.started("v1", 1)
    metrics.started("v3", 1)
    assert metrics.in_flight == {"v1": 1, "v3": 1}
