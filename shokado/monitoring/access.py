"""Prometheus metrics of the gate, over all worker processes; labels are names of configured keys, and codes."""

from collections.abc import Mapping


class AccessMetrics:
    """Make one per process, after `shokado.monitoring.metrics.prepare_folder`."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        registry = CollectorRegistry()
        self._requests = Counter(
            "shokado_key_requests", "Requests by key, and what became of them at the gate.", ["key", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._refused = Counter(
            "shokado_refused_requests", "Requests that the gate refused, by why.", ["reason"], registry=registry
        )
        self._keys_ok = Gauge(
            "shokado_keys_file_ok", "1 while every worker can use the keys file, or there is none.",
            registry=registry, multiprocess_mode="livemin",
        )  # fmt: skip
        self._rates_shared = Gauge(
            "shokado_rates_store_up", "1 while every worker reaches the Redis of the rates, or there is none.",
            registry=registry, multiprocess_mode="livemin",
        )  # fmt: skip

    def add(self, by_key: Mapping[tuple[str, str], int], by_reason: Mapping[str, int]) -> None:
        """Add requests by (key, outcome), and refusals by reason."""
        for (key, outcome), number in by_key.items():
            self._requests.labels(key, outcome).inc(number)
        for reason, number in by_reason.items():
            self._refused.labels(reason).inc(number)

    def state(self, *, keys_ok: bool, rates_up: bool) -> None:
        """Tell whether the keys file and the rates' Redis can be used."""
        self._keys_ok.set(keys_ok)
        self._rates_shared.set(rates_up)
