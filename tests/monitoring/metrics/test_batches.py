"""Metrics of batches: sizes and times, and scores of one number a row or of several."""

from math import inf, nan

import numpy as np
import pytest

from runners.artefacts.scores import PROBABILITY_BOUNDS
from runners.batching.observer import ReleaseReason
from shokado.monitoring.metrics.batches import BatchMetrics
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
