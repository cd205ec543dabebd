"""How many rows the request log recorded, and how many it had no room for."""

from collections.abc import Mapping

from shokado.monitoring.metrics.metric_registry import MetricRegistry


class RequestLogMetrics:
    """Metrics of the request log, by version."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._recorded = registry.counter(
            "shokado_log_rows", "Rows that the request log recorded.", ["version"], zeros=True
        )
        self._dropped = registry.counter(
            "shokado_log_dropped_rows",
            "Rows that should have been recorded: memory or disk had no room.",
            ["version"],
            zeros=True,
        )

    def recorded(self, written: Mapping[str, int], dropped: Mapping[str, int]) -> None:
        """Add rows by version."""
        for version, rows in written.items():
            self._recorded.add(version, number=rows)
        for version, rows in dropped.items():
            self._dropped.add(version, number=rows)
