"""Features of entities: what lookups came to, how long they took, and how old what they found was."""

from shokado.features.feature_lookup import LookupCounts
from shokado.monitoring.metrics.buckets import AGES_S, SECONDS
from shokado.monitoring.metrics.metric_registry import MetricRegistry


class FeatureMetrics:
    """Metrics of lookups, which are of no version."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._entities = registry.counter(
            "shokado_feature_lookups", "Entities whose features requests wanted, by what came of it.", ["outcome"]
        )
        self._values = registry.counter(
            "shokado_feature_lacks",
            "Values that rows took of no lookup: missing in the store, stale, or unavailable; given a default or not.",
            ["feature", "lack", "defaulted"],
        )
        self._seconds = registry.histogram(
            "shokado_feature_call_seconds", "Time of calls to the transformer.", SECONDS, label="outcome"
        )
        self._ages = registry.histogram(
            "shokado_feature_age_seconds",
            "How old values were when they were looked up: since they were true, not since they were stored.",
            AGES_S,
            label="feature",
        )

    def looked_up(self, counts: LookupCounts) -> None:
        """Add what happened since this was last told."""
        for outcome, number in counts.entities.items():
            self._entities.add(outcome, number=number)
        for (feature, lack, defaulted), number in counts.lacks.items():
            self._values.add(feature, lack, str(defaulted).lower(), number=number)
        if counts.calls_s:
            self._seconds.observe("answered", counts.calls_s)
        for feature, ages in counts.ages_s.items():
            self._ages.observe(feature, ages)
