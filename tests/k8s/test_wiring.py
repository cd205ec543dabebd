"""How the objects fit together: each name leads to something, each selector hits pods, each port is listened at."""

import re

import pytest

from tests.k8s.cluster import Cluster, Pod

SECRETS = {"shokado-keys": {"keys.yaml", "runner-key"}, "shokado-redis": {"password"}}
"""Made by hand, as k8s/README.md says."""


def test_a_service_selects_pods_that_listen_at_its_ports(cluster: Cluster) -> None:
    for service in cluster.of("Service"):
        if service["spec"].get("type") == "ExternalName":
            continue
        (pod,) = cluster.selected(service["spec"]["selector"])
        assert pod.name == service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in pod.ports


def test_every_pod_has_a_service_at_the_agreed_port(cluster: Cluster) -> None:
    ports = {
        service["metadata"]["name"]: [port["port"] for port in service["spec"]["ports"]]
        for service in cluster.of("Service")
        if "selector" in service["spec"]
    }
    runners = {runner.name: [3000] for runner in cluster.component("runner")}
    assert ports == {"shokado-gateway": [3000], "shokado-redis": [6379]} | runners


def test_a_deployment_selects_its_own_pods_and_no_others(cluster: Cluster) -> None:
    for pod in cluster.pods:
        assert cluster.selected(pod.owner["spec"]["selector"]["matchLabels"]) == [pod]


def test_every_deployment_is_scaled_and_says_no_number_itself(cluster: Cluster) -> None:
    scalers = [*cluster.of("HorizontalPodAutoscaler"), *cluster.of("ScaledObject")]
    targets = sorted(scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers)
    assert targets == sorted(cluster.names("Deployment"))
    for scaler in scalers:
        assert scaler["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"]
    for deployment in cluster.of("Deployment"):
        assert "replicas" not in deployment["spec"]


def test_pods_may_take_a_whole_processor_and_never_more_memory_than_they_asked_for(cluster: Cluster) -> None:
    for pod in map(Pod, cluster.of("Deployment")):
        resources = pod.container["resources"]
        assert resources["limits"] == {"cpu": "1", "memory": "512Mi"}
        assert resources["requests"]["memory"] == "512Mi"


def test_every_deployment_has_a_disruption_budget_that_lets_a_node_be_drained(cluster: Cluster) -> None:
    covered = []
    for budget in cluster.of("PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1
        (pod,) = cluster.selected(budget["spec"]["selector"]["matchLabels"])
        covered.append(pod.name)
    assert sorted(covered) == sorted(cluster.names("Deployment"))


def test_pods_of_one_kind_are_spread(cluster: Cluster) -> None:
    for pod in map(Pod, cluster.of("Deployment")):
        spread = pod.spec["topologySpreadConstraints"]
        assert {constraint["topologyKey"] for constraint in spread} == {
            "kubernetes.io/hostname", "topology.kubernetes.io/zone",
        }  # fmt: skip
        for constraint in spread:
            assert cluster.selected(constraint["labelSelector"]["matchLabels"]) == [pod]


def test_what_a_pod_mounts_or_reads_is_there(cluster: Cluster) -> None:
    for pod in cluster.pods:
        for _, volume in pod.mounted():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in cluster.names("ConfigMap")
        for secret, key in pod.files().values():
            assert key in SECRETS[secret]
        for variable in pod.container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["key"] in SECRETS[reference["name"]]
        assert pod.spec["serviceAccountName"] in cluster.names("ServiceAccount")


def test_a_changed_configuration_rolls_the_pods(cluster: Cluster) -> None:
    for name in cluster.names("ConfigMap"):
        assert re.fullmatch(rf"({'|'.join(pod.name for pod in cluster.pods)})-[a-z0-9]{{10}}", name)


def test_the_runners_hold_nothing_that_only_the_gateways_need(cluster: Cluster) -> None:
    for runner in cluster.component("runner"):
        assert set(runner.files().values()) == {("shokado-keys", "keys.yaml")}
        assert "REDIS_PASSWORD" not in runner.variables


def allowed(cluster: Cluster, policy_name: str) -> list[tuple[set[str], set[str]]]:
    """Of each ingress rule: which of our pods, and which namespaces, may come."""
    policy = cluster.named("NetworkPolicy", policy_name)
    (chosen, *others) = cluster.selected(policy["spec"]["podSelector"]["matchLabels"])
    rules = []
    for rule in policy["spec"]["ingress"]:
        for port in rule["ports"]:
            for pod in (chosen, *others):
                assert port["port"] in pod.ports
        peers = rule["from"]
        pods = {
            pod.name
            for peer in peers
            if "podSelector" in peer
            for pod in cluster.selected(peer["podSelector"]["matchLabels"])
        }
        namespaces = {
            f"{name}={value}"
            for peer in peers
            if "namespaceSelector" in peer
            for name, value in peer["namespaceSelector"]["matchLabels"].items()
        }
        rules.append((pods, namespaces))
    return rules


def test_only_the_gateways_and_prometheus_reach_the_runners(cluster: Cluster) -> None:
    assert allowed(cluster, "shokado-runner") == [({"shokado-gateway"}, {"kubernetes.io/metadata.name=monitoring"})]


def test_only_the_gateways_reach_redis(cluster: Cluster) -> None:
    assert allowed(cluster, "shokado-redis") == [({"shokado-gateway"}, set())]


def test_the_gateways_are_reached_from_named_namespaces_only(cluster: Cluster) -> None:
    namespaces = {
        "kubernetes.io/metadata.name=ingress-nginx", "kubernetes.io/metadata.name=monitoring", "shokado/client=true",
    }  # fmt: skip
    assert allowed(cluster, "shokado-gateway") == [(set(), namespaces)]


def test_every_pod_has_one_policy_for_both_ways(cluster: Cluster) -> None:
    policies = cluster.of("NetworkPolicy")
    for policy in policies:
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    for pod in cluster.pods:
        chosen = [
            policy for policy in policies if pod in cluster.selected(policy["spec"]["podSelector"]["matchLabels"])
        ]
        assert len(chosen) == 1, pod.name


def test_the_gateways_may_ask_the_runners_and_redis_and_the_others_nobody(cluster: Cluster) -> None:
    egress = cluster.named("NetworkPolicy", "shokado-gateway")["spec"]["egress"]
    reached = {}
    for rule in egress:
        for peer in rule["to"]:
            for pod in cluster.selected(peer["podSelector"]["matchLabels"]) if "podSelector" in peer else []:
                (port,) = rule["ports"]
                reached[pod.name] = pod.ports[port["port"]]
    assert reached == {"shokado-redis": 6379} | {runner.name: 3000 for runner in cluster.component("runner")}
    assert {port["protocol"] for rule in egress for port in rule["ports"] if port["port"] == 53} == {"UDP", "TCP"}
    # What a runner may ask for the sake of its spans is held by `test_tracing.py`.
    for name in ("shokado-runner", "shokado-redis") if "tracing" not in cluster.rendering.components else ():
        assert cluster.named("NetworkPolicy", name)["spec"].get("egress", []) == []


def test_one_image_runs_gateways_and_runners(cluster: Cluster) -> None:
    assert len({pod.container["image"] for pod in map(Pod, cluster.of("Deployment"))}) == 1


@pytest.mark.parametrize(("environment", "least", "most"), [("staging", 1, 3), ("production", 2, 10)])
def test_each_environment_has_its_bounds(
    environment: str, least: int, most: int, request: pytest.FixtureRequest
) -> None:
    cluster: Cluster = request.getfixturevalue(environment)
    for scaler in cluster.of("HorizontalPodAutoscaler"):
        assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (least, most)
    (namespace,) = cluster.of("Namespace")
    assert namespace["metadata"]["name"] == f"shokado-{environment}"
    for resource in cluster.resources:
        assert resource["kind"] == "Namespace" or resource["metadata"]["namespace"] == f"shokado-{environment}"


def test_keda_has_the_bounds_of_its_environment_and_looks_at_it_alone(keda: Cluster) -> None:
    assert keda.of("HorizontalPodAutoscaler") == []
    for scaled in keda.of("ScaledObject"):
        assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (2, 10)
        query = scaled["spec"]["triggers"][1]["metadata"]["query"]
        name = scaled["metadata"]["name"]
        assert query == f'sum(shokado_in_flight{{namespace="shokado-production",job="{name}"}})'
