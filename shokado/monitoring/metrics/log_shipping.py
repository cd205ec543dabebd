"""How much of the request log was sent to its sink, how far it is behind, and what the limits removed unsent."""

from shokado.monitoring.metrics.metric_registry import MetricRegistry
from shokado.request_log.shipping import Shipped


class LogShippingMetrics:
    """Metrics of the sink. They say nothing where there is none."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._segments = registry.counter(
            "shokado_log_shipped_segments", "Files of the request log that were sent.", []
        )
        self._bytes = registry.counter("shokado_log_shipped_bytes", "Size of the files that were sent.", [])
        self._failures = registry.counter(
            "shokado_log_ship_failures", "Tries to send a part of the request log that failed, by reason.", ["reason"]
        )
        self._unsent = registry.counter(
            "shokado_log_unsent_segments", "Files that the limits of size and age removed before they were sent.", []
        )
        self._lag = registry.gauge(
            "shokado_log_ship_lag_seconds", "How long the first file has been ended that is not sent.", "livemax"
        )

    def shipped(self, shipped: Shipped) -> None:
        """Add what became of segments, and show how far behind the sink is."""
        self._segments.add(number=shipped.segments)
        self._bytes.add(number=shipped.bytes)
        for reason, number in shipped.failures.items():
            self._failures.add(reason, number=number)
        self._lag.set(shipped.lag_s)

    def lost(self, segments: int) -> None:
        """Add segments that were removed before they were sent."""
        self._unsent.add(number=segments)
