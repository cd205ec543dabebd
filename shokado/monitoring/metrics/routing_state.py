"""Which routing the workers go by."""

from collections.abc import Mapping

from shokado.monitoring.metrics.metric_registry import MetricRegistry


class RoutingMetrics:
    """Metrics of the routing state and its store."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._generation = registry.gauge("shokado_generation", "Routing generation of each worker.", "liveall")
        self._store_up = registry.gauge("shokado_store_up", "1 while every worker reaches the store.", "livemin")
        self._share = registry.gauge(
            "shokado_traffic_share",
            "Part of an environment's traffic that the routing gives a version.",
            "livemostrecent",
            ["environment", "version"],
        )
        self._shares: set[tuple[str, str]] = set()

    def routed(self, generation: int, shares: Mapping[tuple[str, str], float]) -> None:
        """Tell of a new generation; `shares` are parts of the traffic by (environment, version)."""
        self._generation.set(generation)
        for gone in self._shares - set(shares):
            self._share.labels(*gone).set(0)
        self._shares |= set(shares)
        for labels, share in shares.items():
            self._share.labels(*labels).set(share)

    def store(self, *, reached: bool) -> None:
        """Tell whether the store could be reached."""
        self._store_up.set(reached)
