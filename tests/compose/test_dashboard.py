"""Grafana's dashboard: each of its panels asks a real Prometheus over two real servers for something that is there."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.prometheus_server import CONFIGURATION, Prometheus, needs_prometheus, prometheus
from tests.conftest import prepare
from tests.support import http
from tests.support.server import ROOT, ROW, Server, serving, serving_side_by_side
from tests.support.waiting import wait_until

pytestmark = needs_prometheus

DASHBOARD = json.loads((ROOT / "compose" / "grafana" / "shokado.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
    for panel in PANELS
    for target in panel["targets"]
}
IRIS = [5.1, 3.5, 1.4, 0.2]
TOO_SHORT = [1.0]


@pytest.fixture(scope="module")
def observed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen predictions by both versions of two models, explanations, errors, refusals by a rate,
    a cache, a request log that is sent, spans for a receiver that is away, an experiment, and a version elsewhere,
    which is the first server's."""
    prepare("iris")
    folder = tmp_path_factory.mktemp("prometheus")
    environment = {"SHOKADO_WORKERS": "1"}
    # Of the second one alone, which no other server asks. Prometheus asks from the same address, and would find its
    # rate used up.
    rates = {"SHOKADO_ACCESS__RATES__PER_ADDRESS": "10/second", "SHOKADO_ACCESS__OPEN_METRICS": "true"}
    recording = {
        "SHOKADO_LOG__SHARE": "1", "SHOKADO_LOG__FOLDER": str(folder / "log"), "SHOKADO_LOG__SEGMENT_S": "1",
        "SHOKADO_LOG__SINK__URL": f"file://{folder}/sent", "SHOKADO_CACHE__BACKEND": "memory",
        "SHOKADO_TRACING__ENDPOINT": "http://127.0.0.1:1",
    }  # fmt: skip
    with (
        serving_side_by_side(environment, environment | rates | {"SHOKADO_MODEL": "iris"}) as (first, second),
        serving(environment=environment | recording | elsewhere(first)) as third,
        prometheus(folder, [first, second, third]) as running,
    ):
        plan = {"metric": "latency", "smallest_effect": 1, "label_delay_s": 0}
        assert http.post(f"{first.url}/v1/experiments", json=plan, timeout=20).status_code == 201

        def all_show_something() -> bool:
            for server, row in ((first, ROW), (second, IRIS), (third, ROW)):
                for sent in [row, TOO_SHORT] * 30:
                    http.post(f"{server.url}/v1/models/predict", json={"instances": [sent]}, timeout=20)
            wanted = {"instances": [ROW], "version": "v1"}
            explained = http.post(f"{first.url}/v1/models/explain", json=wanted, timeout=20)
            assert explained.status_code == 200, explained.text
            return all(shows_something(running, query) for query in QUERIES.values())

        # A rate needs two looks at what is counted; who shows nothing in the end says so in a test of its own.
        with contextlib.suppress(AssertionError):
            wait_until(all_show_something, 60, look_every_s=0.5)
        yield running


def elsewhere(server: Server) -> dict[str, str]:
    """Settings by which v2 is that server's."""
    version = {"placement": "remote", "remote": {"url": server.url}}
    return {"SHOKADO_VERSIONS__V2": json.dumps(version)}


def shows_something(prometheus: Prometheus, query: str) -> bool:
    return any(sample["value"][1] != "NaN" for sample in prometheus.ask(query))


@pytest.mark.parametrize("name", QUERIES)
def test_a_panel_shows_something(observed: Prometheus, name: str) -> None:
    assert shows_something(observed, QUERIES[name]), QUERIES[name]


def test_panels_do_not_lie_on_each_other() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    taken = [cell for panel in PANELS for cell in cells(panel)]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_prometheus_accepts_its_configuration() -> None:
    checked = subprocess.run(
        ["promtool", "check", "config", CONFIGURATION], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
