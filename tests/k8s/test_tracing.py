"""The pods send spans to a collector that their policies let them reach, and to nobody else."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from configuration.trace_export import trace_export
from k8s.custom_resources import Resource
from k8s.validate import NOT_THERE, Rendering, has_kubectl
from tests.k8s.cluster import Cluster
from tests.k8s.test_configuration import servers, settings_of

NAMESPACE = "kubernetes.io/metadata.name"


@pytest.fixture(params=["staging", "production"])
def traced(request: pytest.FixtureRequest) -> Cluster:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    return Cluster(Rendering(f"overlays/{request.param}", ("tracing",)))


def egress_to(cluster: Cluster, component: str, namespace: str) -> list[Resource]:
    """The rules by which pods of a component may ask those of a namespace."""
    rules = cluster.named("NetworkPolicy", f"shokado-{component}")["spec"]["egress"]
    return [rule for rule in rules if {"namespaceSelector": {"matchLabels": {NAMESPACE: namespace}}} in rule["to"]]


def test_gateways_and_runners_reach_the_collector_that_they_are_told_of(traced: Cluster, tmp_path: Path) -> None:
    assert {pod.labels["app.kubernetes.io/component"] for pod in servers(traced)} == {"gateway", "runner"}
    for pod in servers(traced):
        export = trace_export(settings_of(traced, pod, tmp_path).tracing, tmp_path, {})
        assert export is not None
        assert export.protocol == "http/protobuf"
        address = urlsplit(export.endpoint or "")
        _, namespace = str(address.hostname).split(".")
        (rule,) = egress_to(traced, pod.labels["app.kubernetes.io/component"], namespace)
        assert {"port": address.port, "protocol": "TCP"} in rule["ports"]
        assert {port["port"] for port in rule["ports"]} == {4317, 4318}


@pytest.mark.parametrize("component", ["gateway", "runner"])
def test_they_may_ask_for_its_name(traced: Cluster, component: str) -> None:
    (rule,) = egress_to(traced, component, "kube-system")
    assert {(port["port"], port["protocol"]) for port in rule["ports"]} == {(53, "UDP"), (53, "TCP")}


def test_runners_reach_nothing_but_the_collector_and_redis_nothing(traced: Cluster) -> None:
    policies = {name: traced.named("NetworkPolicy", f"shokado-{name}")["spec"] for name in ("runner", "redis")}
    allowed = egress_to(traced, "runner", "observability") + egress_to(traced, "runner", "kube-system")
    assert policies["runner"]["egress"] == allowed
    assert policies["redis"].get("egress", []) == []
