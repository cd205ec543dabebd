"""What the answer cache had."""

from shokado.dispatch.cache import CacheCounts
from shokado.monitoring.metrics.metric_registry import MetricRegistry


class CacheMetrics:
    """Metrics of requests that were looked up, by version."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._requests = registry.counter(
            "shokado_cache_requests", "Requests by what the cache had for them.", ["version", "outcome"]
        )

    def looked_up(self, version: str, counts: CacheCounts) -> None:
        """Add what became of requests since this was last told."""
        self._requests.add(version, "hit", number=counts.hits)
        self._requests.add(version, "miss", number=counts.misses)
        self._requests.add(version, "error", number=counts.errors)
