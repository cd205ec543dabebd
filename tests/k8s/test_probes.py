"""A running bundle with keys answers what the cluster asks it, as the cluster asks it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shokado.access.keys import Role, add_key
from tests.k8s.cluster import Cluster
from tests.support import http
from tests.support.server import Server, serving


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A keys file, and the key in it that gateways show to runners."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    return file, add_key(file, "runner", Role.PREDICT)


@pytest.fixture(scope="module")
def guarded(models: Path, key: tuple[Path, str]) -> Iterator[Server]:
    """A server that asks for keys, as the pods do."""
    file, _ = key
    keys = {"SHOKADO_ACCESS__KEYS_FILE": str(file), "SHOKADO_ACCESS__REQUIRED": "true", "SHOKADO_WORKERS": "1"}
    with serving(environment=keys) as running:
        yield running


def test_probes_are_answered_without_a_key(cluster: Cluster, guarded: Server) -> None:
    for pod in cluster.component("gateway") + cluster.component("runner"):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = pod.container[probe]["httpGet"]
            assert pod.ports[asked["port"]] == 3000
            assert http.get(guarded.url + asked["path"], timeout=20).status_code == 200


def test_liveness_does_not_ask_whether_it_is_ready(cluster: Cluster) -> None:
    for pod in cluster.component("gateway") + cluster.component("runner"):
        paths = [
            pod.container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        ]
        assert paths == ["/livez", "/livez", "/readyz"]


def test_prometheus_gets_metrics_with_the_key_that_it_is_given(
    monitored: Cluster, guarded: Server, key: tuple[Path, str]
) -> None:
    (endpoint,) = monitored.named("ServiceMonitor", "shokado")["spec"]["endpoints"]
    authorization = endpoint["authorization"]
    assert authorization["credentials"] == {"name": "shokado-keys", "key": "runner-key"}
    shown = {"Authorization": f"{authorization['type']} {key[1]}"}
    assert http.get(guarded.url + endpoint["path"], headers=shown, timeout=20).status_code == 200
    assert http.get(guarded.url + endpoint["path"], timeout=20).status_code == 401


def test_prometheus_looks_at_gateways_and_runners(monitored: Cluster) -> None:
    monitor = monitored.named("ServiceMonitor", "shokado")["spec"]
    (chosen,) = monitor["selector"]["matchExpressions"]
    watched = [
        service["metadata"]["name"]
        for service in monitored.of("Service")
        if monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        and service["metadata"]["labels"][chosen["key"]] in chosen["values"]
        and monitor["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
    ]
    assert watched == ["shokado-gateway", "shokado-v1", "shokado-v2"]
