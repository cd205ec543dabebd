"""The gate: who asked, and who was refused. Labels are names of configured keys, and codes."""

from collections.abc import Mapping

from shokado.monitoring.metrics.metric_registry import MetricRegistry


class AccessMetrics:
    """Metrics of requests at the gate."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._requests = registry.counter(
            "shokado_key_requests", "Requests by key, and what became of them at the gate.", ["key", "outcome"]
        )
        self._refused = registry.counter(
            "shokado_refused_requests", "Requests that the gate refused, by why.", ["reason"]
        )
        self._keys_ok = registry.gauge(
            "shokado_keys_file_ok", "1 while every worker can use the keys file, or there is none.", "livemin"
        )
        self._rates_shared = registry.gauge(
            "shokado_rates_store_up",
            "1 while every worker reaches the Redis of the rates, or there is none.",
            "livemin",
        )

    def asked(self, by_key: Mapping[tuple[str, str], int], by_reason: Mapping[str, int]) -> None:
        """Add requests by (key, outcome), and refusals by reason."""
        for (key, outcome), number in by_key.items():
            self._requests.add(key, outcome, number=number)
        for reason, number in by_reason.items():
            self._refused.add(reason, number=number)

    def state(self, *, keys_ok: bool, rates_up: bool) -> None:
        """Tell whether the keys file and the rates' Redis can be used."""
        self._keys_ok.set(keys_ok)
        self._rates_shared.set(rates_up)
