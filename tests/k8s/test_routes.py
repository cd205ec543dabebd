"""What is let in from outside: routes that the bundle has, for predictions and feedback, and nothing else."""

from typing import Any

import pytest

from k8s.custom_resources import Resource
from k8s.validate import Rendering
from tests.k8s.cluster import Cluster
from tests.support import http
from tests.support.server import Server

SECRET = ["/metrics", "/docs", "/openapi.json", "/v1/traffic-split", "/v1/models/v3/load", "/models/v2/activate",
          "/ab-test/configure", "/model/load", "/v1/metrics/v1", "/v1/drift/v1", "/v1/log", "/v1/batches",
          "/v1/experiments", "/v1/verdict", "/v1/verdict/rollback"]  # fmt: skip

Route = tuple[bool, str]
"""Whether what lies under the path is let in as well, and the path."""


def ingress_routes(ingress: Resource) -> list[Route]:
    (rule,) = ingress["spec"]["rules"]
    return [(path["pathType"] == "Prefix", path["path"]) for path in rule["http"]["paths"]]


def gateway_routes(rule: dict[str, Any]) -> list[Route]:
    return [(match["path"]["type"] == "PathPrefix", match["path"]["value"]) for match in rule["matches"]]


def let_in(routes: list[Route], path: str) -> bool:
    return any(path == route or (prefix and path.startswith(f"{route}/")) for prefix, route in routes)


@pytest.fixture
def described(server: Server) -> set[str]:
    """The paths of the API's description."""
    return set(http.get(f"{server.url}/openapi.json", timeout=20).json()["paths"])


def test_every_route_leads_to_predictions_and_none_to_what_is_not_public(
    ingress: Cluster, gateway_api: Cluster, described: set[str]
) -> None:
    route = gateway_api.named("HTTPRoute", "shokado")
    found = [
        *(ingress_routes(each) for each in ingress.of("Ingress")),
        *(gateway_routes(rule) for rule in route["spec"]["rules"]),
    ]
    assert len(found) == 4
    assert all(set(routes) == set(found[0]) for routes in found)
    for single in found[0]:
        assert any(let_in([single], path) for path in described), single
    assert not [path for path in SECRET if let_in(found[0], path)]
    assert let_in(found[0], "/v2/models/customers/infer")


def test_the_canary_is_the_same_host_and_leads_to_the_gateways_of_staging(ingress: Cluster) -> None:
    main, canary = ingress.named("Ingress", "shokado"), ingress.named("Ingress", "shokado-canary")
    assert main["spec"]["rules"][0]["host"] == canary["spec"]["rules"][0]["host"]
    annotations = canary["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    assert annotations[f"{prefix}canary"] == "true"
    assert annotations[f"{prefix}canary-by-header"] == "X-Environment"
    assert annotations[f"{prefix}canary-by-header-value"] == "staging"
    assert 0 <= int(annotations[f"{prefix}canary-weight"]) <= 100
    assert f"{prefix}canary" not in main["metadata"]["annotations"]
    for each, name in ((main, "shokado-gateway"), (canary, "shokado-staging")):
        for path in each["spec"]["rules"][0]["http"]["paths"]:
            backend = path["backend"]["service"]
            (port,) = ingress.named("Service", name)["spec"]["ports"]
            assert backend["name"] == name
            assert backend["port"] in ({"name": port["name"]}, {"number": port["port"]})


def test_another_environment_is_reached_by_the_name_that_it_has(
    ingress: Cluster, gateway_api: Cluster, staging: Cluster
) -> None:
    service = staging.named("Service", "shokado-gateway")
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    outside = ingress.named("Service", "shokado-staging")
    assert outside["spec"]["externalName"] == f"{name}.{namespace}.svc.cluster.local"
    (port,) = service["spec"]["ports"]
    assert [each["port"] for each in outside["spec"]["ports"]] == [port["port"]]
    asked, split = gateway_api.named("HTTPRoute", "shokado")["spec"]["rules"]
    for match in asked["matches"]:
        assert match["headers"] == [{"name": "X-Environment", "value": "staging"}]
    there = {"name": name, "namespace": namespace, "port": port["port"]}
    here = {"name": name, "port": port["port"]}
    assert asked["backendRefs"] == [there]
    assert split["backendRefs"] == [here | {"weight": 100}, there | {"weight": 0}]


def test_staging_lets_the_route_of_production_in(gateway_api: Cluster) -> None:
    granted = Cluster(Rendering("overlays/staging", ("gateway-api-staging",))).of("ReferenceGrant")[0]
    route = gateway_api.named("HTTPRoute", "shokado")
    assert granted["metadata"]["namespace"] == "shokado-staging"
    (source,), (target,) = granted["spec"]["from"], granted["spec"]["to"]
    assert source["namespace"] == route["metadata"]["namespace"]
    assert (source["kind"], target["kind"], target["name"]) == ("HTTPRoute", "Service", "shokado-gateway")
