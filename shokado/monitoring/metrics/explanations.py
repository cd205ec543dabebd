"""What explanations were asked for, and what they cost."""

from shokado.dispatch.explainer import ExplanationCounts
from shokado.monitoring.metrics.buckets import SECONDS
from shokado.monitoring.metrics.metric_registry import MetricRegistry


class ExplanationMetrics:
    """Metrics of explanations, by version."""

    def __init__(self, registry: MetricRegistry) -> None:
        outcome = ["version", "outcome"]
        self._rows = registry.counter("shokado_explained_rows", "Rows whose scores were to be explained.", outcome)
        self._scored = registry.counter(
            "shokado_explanation_scored_rows", "Rows made up for explanations, and scored for them.", ["version"]
        )
        self._seconds = registry.counter(
            "shokado_explanation_busy_seconds", "Time that engines took for explanations.", ["version"]
        )
        self._waits = registry.histogram(
            "shokado_explanation_seconds",
            "Time from the scores of a request to their explanation, or to its deadline.",
            SECONDS,
        )
        self._refused = registry.counter(
            "shokado_refused_explanations", "Requests for explanations that would have had to wait for too long.", []
        )

    def explained(self, version: str, counts: ExplanationCounts) -> None:
        """Add what became of explanations since this was last told."""
        self._rows.add(version, "explained", number=counts.explained_rows)
        self._rows.add(version, "failed", number=counts.failed_rows)
        self._scored.add(version, number=counts.scored_rows)
        self._seconds.add(version, number=counts.busy_s)
        self._waits.pending[version] += counts.waits_s

    def refused(self, requests: int) -> None:
        """Add requests that were refused."""
        self._refused.add(number=requests)
