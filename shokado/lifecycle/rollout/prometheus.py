"""What was observed of a version over all gateways, as a Prometheus that scrapes them has it.

In: its address, and the labels by which it tells the gateways from all else: a runner behind a gateway counts the same
requests under the same names. Out: `Observed`, by queries of https://prometheus.io/docs/prometheus/latest/querying/api/.
"""

import math

import httpx

from shokado.dispatch.fault import FELL_BACK, Fault
from shokado.lifecycle.errors import GatewayAway, GatewayRefused
from shokado.lifecycle.rollout.gateway_client import checked_address
from shokado.lifecycle.rollout.verdict import Observed

TIMEOUT_S = 30
"""How long a query may take; Prometheus itself gives up after two minutes."""
MIN_WINDOW_S = 60
"""A shorter window may hold fewer than two scrapes of a counter, which would tell nothing of its increase."""


class Prometheus:
    """A Prometheus, and which of its series are those of the gateways."""

    def __init__(self, url: str, selector: str = "") -> None:
        """`selector` is a list of label matchers, such as `namespace="shokado-production",job="shokado-gateway"`."""
        self._url = checked_address(url)
        self._selector = selector.strip().strip("{}")

    def observed(self, version: str, seconds: float) -> Observed:
        """What happened to a version's requests within the last `seconds`. Raises `GatewayAway`, `GatewayRefused`."""
        if seconds < MIN_WINDOW_S:
            return Observed()

        def increase(metric: str, label: str = "", by: str = "") -> str:
            labels = ",".join(part for part in (f'version="{version}"', label, self._selector) if part)
            return f"sum{by} (increase(shokado_{metric}{{{labels}}}[{seconds:.0f}s]))"

        answered, errors, fallbacks = (
            round(self._ask(query) or 0)
            for query in (
                increase("requests_total"),
                increase("errors_total", f'kind!="{FELL_BACK}",fault!="{Fault.CLIENT}"'),
                increase("errors_total", f'kind="{FELL_BACK}"'),
            )
        )
        p99_s = self._ask(f"histogram_quantile(0.99, {increase('latency_seconds_bucket', by=' by (le)')})")
        return Observed(answered, errors, fallbacks, 1000 * p99_s if p99_s is not None else None)

    def _ask(self, query: str) -> float | None:
        """The value of a query that has one; None where there is no such series."""
        try:
            answer = httpx.get(f"{self._url}/api/v1/query", params={"query": query}, timeout=TIMEOUT_S)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise GatewayAway(f"No Prometheus answers at {self._url}: {error or type(error).__name__}.") from error
        if not answer.is_success:
            raise GatewayRefused(f"The Prometheus at {self._url} refuses {query}: {answer.text[:200]}")
        result = answer.json()["data"]["result"]
        value = float(result[0]["value"][1]) if result else math.nan
        return value if math.isfinite(value) else None
