"""Metrics of drift say what was found, by version, and forget what is not known any more."""

import math

import numpy as np

from configuration.drift_settings import DriftSettings
from shokado.drift.column_counts import ColumnCounts
from shokado.drift.version_drift import DriftWindow, VersionDrift, drift_of
from shokado.monitoring.metrics.drifted_columns import DriftMetrics
from shokado.monitoring.metrics.metric_registry import MetricRegistry
from tests.drift.references import TYPED, typed_reference, typed_rows
from tests.support.cards import make_card


def found_in(version: str, rows: int, window: DriftWindow, shift: float = 0.0) -> VersionDrift:
    random = np.random.default_rng(3)
    columns = ColumnCounts(make_card(**TYPED), typed_reference(random), "digest", 100)
    counts = columns.count(typed_rows(rows, random, shift), random.random(rows).astype(np.float32), rows)
    return drift_of(version, columns, counts, window, 3600.0, DriftSettings())


def told(registry: MetricRegistry) -> dict[tuple[str, ...], float]:
    """Each value by the metric's name, without its prefix, and its labels."""
    return {
        (sample.name.removeprefix("shokado_drift_"), *sample.labels.values()): sample.value
        for family in registry._registry.collect()
        for sample in family.samples
    }


def test_each_version_is_told_and_forgotten_by_itself() -> None:
    registry = MetricRegistry(["v1", "v2"])
    metrics = DriftMetrics(registry)
    for version, shift in (("v1", 2.0), ("v2", 0.0)):
        for window in DriftWindow:
            metrics.drifted(found_in(version, 1_500, window, shift))
    before = told(registry)
    assert before["rows", "v1", "hour"] == before["rows", "v1", "day"] == 1_500
    assert (before["columns", "v1", "hour", "drift"], before["columns", "v1", "hour", "none"]) == (1, 2)
    assert (before["columns", "v2", "day", "drift"], before["columns", "v2", "day", "none"]) == (0, 3)
    assert before["psi", "v1", "feature", "width", "low"] > 0.1 > before["psi", "v1", "score", "score", "high"]
    metrics.unknown("v2")
    after = told(registry)
    assert after.keys() == before.keys()
    assert {key for key, value in after.items() if math.isnan(value)} == {key for key in before if key[1] == "v1"}
    assert {key: value for key, value in after.items() if key[1] == "v2"} == {
        key: value for key, value in before.items() if key[1] == "v2"
    }


def test_of_a_few_rows_no_index_is_told() -> None:
    registry = MetricRegistry(["v1"])
    metrics = DriftMetrics(registry)
    metrics.drifted(found_in("v1", 50, DriftWindow.HOUR, shift=9.0))
    found = told(registry)
    assert (found["columns", "v1", "hour", "drift"], found["columns", "v1", "hour", "too few rows"]) == (0, 3)
    assert all(math.isnan(value) for key, value in found.items() if key[0] == "psi")
