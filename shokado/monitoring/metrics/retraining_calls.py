"""Who was told that a version should be trained anew."""

from collections import Counter

from shokado.monitoring.metrics.metric_registry import MetricRegistry


class RetrainingMetrics:
    """Metrics of attempts to tell, by cause (`drift`, `guardrail`) and by what came of them."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._attempts = registry.counter(
            "shokado_retraining_attempts",
            "Calls of the webhook or command of retraining: done, retried later, or failed for good.",
            ["cause", "outcome"],
        )

    def called(self, counts: Counter[tuple[str, str]]) -> None:
        """Add attempts since this was last told."""
        for (cause, outcome), number in counts.items():
            self._attempts.add(cause, outcome, number=number)
