"""How many spans were sent to the receiver of traces, and how many it did not get."""

from collections.abc import Mapping

from shokado.monitoring.metrics.metric_registry import MetricRegistry


class TraceMetrics:
    """Metrics of tracing."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._spans = registry.counter(
            "shokado_trace_spans",
            "Spans that the receiver took (sent), that had no room (dropped), that could not be sent (lost).",
            ["outcome"],
        )

    def exported(self, outcomes: Mapping[str, int]) -> None:
        """Add spans by what became of them."""
        for outcome, spans in outcomes.items():
            self._spans.add(outcome, number=spans)
