"""What a real Prometheus tells of a version, over two gateways."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from shokado.lifecycle.errors import GatewayAway, GatewayRefused
from shokado.lifecycle.rollout.prometheus import MIN_WINDOW_S, Prometheus
from shokado.lifecycle.rollout.verdict import Observed
from tests.compose.prometheus_server import needs_prometheus, prometheus
from tests.support import http
from tests.support.server import ROW, Server, free_port, serving_side_by_side
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def gateways(models: Path) -> Iterator[list[Server]]:
    environment = {"SHOKADO_WORKERS": "1"}
    with serving_side_by_side(environment, environment) as both:
        yield both


def ask(gateway: Server, version: str, requests: int) -> None:
    headers = {"X-Model-Version": version}
    for _ in range(requests):
        answer = http.post(f"{gateway.url}/v1/models/predict", json={"instances": [ROW]}, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text


def ask_wrongly(gateway: Server, version: str, requests: int) -> None:
    """What is wrong is known only when the version has answered."""
    body = {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, len(ROW)], "data": ROW}],
        "outputs": [{"name": "no such"}],
    }
    for _ in range(requests):
        answer = http.post(f"{gateway.url}/v2/models/{version}/infer", json=body, timeout=20)
        assert answer.status_code == 400, answer.text


@needs_prometheus
def test_all_gateways_are_added_up(gateways: list[Server], tmp_path: Path) -> None:
    with prometheus(tmp_path, gateways) as running:
        scraped = 'min(scrape_samples_scraped{job="shokado"}) > 0 and count(up == 1) == 2'
        wait_until(lambda: running.ask(scraped))
        for gateway, requests in zip(gateways, (40, 20), strict=True):
            ask(gateway, "v1", requests)
            ask(gateway, "v2", 5)
            ask_wrongly(gateway, "v2", 5)
        everywhere = Prometheus(running.url)
        one = Prometheus(running.url, f'{{instance="127.0.0.1:{gateways[0].port}"}}')
        answered: Counter[str] = Counter()

        def all_seen() -> bool:
            answered["v1"] = everywhere.observed("v1", MIN_WINDOW_S).answered
            answered["v2"] = everywhere.observed("v2", MIN_WINDOW_S).answered
            # Prometheus extrapolates what happens between two looks: by half, after three of them.
            return 60 <= answered["v1"] <= 90 and answered["v2"] >= 10

        wait_until(all_seen, 60)
        wait_until(lambda: 40 <= one.observed("v1", MIN_WINDOW_S).answered <= 60)
        wait_until(lambda: running.ask('sum(shokado_errors_total{fault="client",kind="unknown_output"}) == 10'))
        seen = everywhere.observed("v2", MIN_WINDOW_S)
        assert (seen.errors, seen.fallbacks) == (0, 0), "what is the client's fault is not the version's error"
        assert seen.p99_ms is not None
        assert 0 < seen.p99_ms < 10_000
        assert everywhere.observed("v9", MIN_WINDOW_S) == Observed()
        assert everywhere.observed("v1", MIN_WINDOW_S - 1) == Observed(), "too short for two looks"
        with pytest.raises(GatewayRefused, match="parse error"):
            Prometheus(running.url, 'instance="').observed("v1", MIN_WINDOW_S)


def test_a_prometheus_that_is_away_is_said() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(GatewayAway, match=f"No Prometheus answers at {url}"):
        Prometheus(url).observed("v1", MIN_WINDOW_S)
