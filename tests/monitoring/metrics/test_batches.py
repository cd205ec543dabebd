"""Metrics of batches: sizes and times, and scores of one number a row or of several."""

from math import inf, nan

import numpy as np
import pytest

from runners.artefacts.scores import PROBABILITY_BOUNDS
from runners.batching.observer import ReleaseReason
from shokado.monitoring.metrics.batches import MAX_COUNTED_OUTPUTS, BatchMetrics
from shokado.monitoring.metrics.metric_registry import MetricRegistry
from tests.support.predictions import batch_of


def test_a_batch_is_counted_by_its_rows_its_release_its_waits_and_what_it_took() -> None:
    registry = MetricRegistry(["v1"])
    metrics = BatchMetrics(registry, PROBABILITY_BOUNDS, ())
    metrics.batch(batch_of(rows=3, release=ReleaseReason.IDLE, waits_s=(0.1, 0.2), seconds=0.5))
    metrics.batch(batch_of(rows=2, release=ReleaseReason.FULL, waits_s=(), seconds=0.25))
    assert metrics.sizes.pending == {"v1": [3, 2]}
    assert metrics.waits.pending == {"v1": [0.1, 0.2]}
    assert metrics.seconds.pending == {"v1": [0.5, 0.25]}
    assert metrics.releases.pending == {("v1", "idle"): 1, ("v1", "full"): 1}
    metrics._add_up()
    assert metrics.rows.pending == {("v1",): 5}
    registry.flush()
    assert (metrics.sizes.pending, metrics.releases.pending, metrics.rows.pending) == ({}, {}, {})


def test_scores_that_are_no_numbers_and_batches_without_scores_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MetricRegistry(["v1"])
    metrics = BatchMetrics(registry, PROBABILITY_BOUNDS, ())
    observed: list[list[float]] = []
    monkeypatch.setattr(metrics.score, "observe", lambda _, values: observed.append(list(values)))
    metrics.batch(batch_of(scores=None))
    metrics.batch(batch_of(rows=3, scores=np.array([0.5, nan, inf], np.float32)))
    metrics.batch(batch_of(scores=np.array([0.25], np.float32)))
    registry.flush()
    registry.flush()
    assert observed == [[0.5, 0.25]]


def test_rows_without_score_are_counted_by_version() -> None:
    registry = MetricRegistry(["v1"])
    metrics = BatchMetrics(registry, PROBABILITY_BOUNDS, ())
    metrics.batch(batch_of(rows=3, failures={0: "no", 2: "no"}))
    metrics.batch(batch_of(rows=3))
    assert metrics.unscored.pending == {("v1",): 2}


def test_several_values_are_counted_by_name_and_bound() -> None:
    registry = MetricRegistry(["v1"])
    metrics = BatchMetrics(registry, PROBABILITY_BOUNDS, (), {"speed": (1.0, 2.0), "cost": (0.1, 100.0)})
    metrics.batch(batch_of(rows=4, scores=np.array([[1.0, 0.1], [1.5, 100], [3, 1e9], [nan, 1]], np.float32)))
    metrics._add_up()
    # As float32, 0.1 is a little above it.
    assert metrics.outputs.pending == {
        ("v1", "speed", "1.0"): 1, ("v1", "speed", "2.0"): 1, ("v1", "speed", "+Inf"): 1,
        ("v1", "cost", "100.0"): 2, ("v1", "cost", "+Inf"): 1,
    }  # fmt: skip
    registry.flush()
    assert metrics.predicted.pending == {}


def test_of_very_many_values_the_first_are_counted() -> None:
    metrics = BatchMetrics(MetricRegistry(["v1"]), PROBABILITY_BOUNDS, (), {f"v{at}": (1.0,) for at in range(1000)})
    metrics.batch(batch_of(rows=1, scores=np.zeros((1, 1000), np.float32)))
    metrics._add_up()
    assert len(metrics.outputs.pending) == MAX_COUNTED_OUTPUTS
