"""What an environment asks for: the sums are those of k8s/README.md, and the small one fits a node of 2 CPUs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

import pytest

from k8s.validate import FOLDER, NOT_THERE, Rendering, has_kubectl
from tests.k8s.cluster import Cluster, Pod, at

UNITS = {"": Decimal(1), "m": Decimal("0.001"), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}
TARGET = Decimal("0.7")
"""Of a pod's limit of CPU, at which HPAs aim, whatever its request is."""
SMALL = ("small",)


@dataclass(frozen=True)
class Size:
    """What pods ask for."""

    cpus: Decimal = Decimal(0)
    gib: Decimal = Decimal(0)

    def __add__(self, other: Self) -> "Size":
        return Size(self.cpus + other.cpus, self.gib + other.gib)

    def __mul__(self, number: int) -> "Size":
        return Size(self.cpus * number, self.gib * number)


def quantity(text: str) -> Decimal:
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", text).groups()  # type: ignore[union-attr]
    return Decimal(number) * UNITS[unit]


def size(pod: Pod) -> Size:
    requests = pod.container["resources"]["requests"]
    return Size(quantity(requests["cpu"]), quantity(requests["memory"]) / 2**30)


def scaled(cluster: Cluster, bound: str) -> Size:
    """With as many pods as the HPAs' `minReplicas` or `maxReplicas` say."""
    scalers = {
        scaler["spec"]["scaleTargetRef"]["name"]: scaler["spec"] for scaler in cluster.of("HorizontalPodAutoscaler")
    }
    return sum((size(pod) * scalers.get(pod.name, {bound: 1})[bound] for pod in cluster.pods), Size())


def surge(cluster: Cluster) -> Size:
    """Beside the others, while all Deployments roll."""
    deployments = map(Pod, cluster.of("Deployment"))
    return sum((size(pod) * at(pod.owner, "spec.strategy.rollingUpdate.maxSurge") for pod in deployments), Size())


def written(row: str) -> list[Size]:
    """A row of the table in k8s/README.md."""
    (cells,) = re.findall(rf"(?m)^\| {re.escape(row)} \|(.*)\|$", (FOLDER / "README.md").read_text())
    return [Size(*map(Decimal, re.findall(r"[\d.]+", cell))) for cell in cells.split("|")]


@pytest.fixture
def rendering() -> Callable[..., Cluster]:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    return lambda environment, *components: Cluster(Rendering(f"overlays/{environment}", components))


@pytest.mark.parametrize(
    ("row", "environment", "components"),
    [
        ("staging", "staging", ()),
        ("production", "production", ()),
        ("either with `small`", "staging", SMALL),
        ("either with `small`", "production", SMALL),
    ],
)
def test_the_sums_are_those_of_the_readme(
    row: str, environment: str, components: tuple[str, ...], rendering: Callable[..., Cluster]
) -> None:
    cluster = rendering(environment, *components)
    assert written(row) == [scaled(cluster, "minReplicas"), scaled(cluster, "maxReplicas"), surge(cluster)]


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_small_one_rolls_on_a_node_of_two_processors(environment: str, rendering: Callable[..., Cluster]) -> None:
    cluster = rendering(environment, *SMALL)
    a_version_more = size(cluster.component("runner")[0]) * 2
    assert (scaled(cluster, "maxReplicas") + surge(cluster) + a_version_more).cpus <= 2


def test_scaling_aims_at_the_same_load_whatever_is_asked_for(cluster: Cluster) -> None:
    """HPAs reckon in per cent of the request, and pods work up to their limit."""
    targets = {
        scaler["metadata"]["name"]: scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]
        for scaler in cluster.of("HorizontalPodAutoscaler")
    } | {
        scaler["metadata"]["name"]: scaler["spec"]["triggers"][0]["metadata"]["value"]
        for scaler in cluster.of("ScaledObject")
    }
    for pod in map(Pod, cluster.of("Deployment")):
        limit = quantity(pod.container["resources"]["limits"]["cpu"])
        assert size(pod).cpus * Decimal(targets[pod.name]) / 100 == TARGET * limit


def test_the_small_one_has_one_pod_of_each_under_keda_too(rendering: Callable[..., Cluster]) -> None:
    cluster = rendering("production", "monitoring", "keda", *SMALL)
    test_scaling_aims_at_the_same_load_whatever_is_asked_for(cluster)
    for scaler in cluster.of("ScaledObject"):
        assert (scaler["spec"]["minReplicaCount"], scaler["spec"]["maxReplicaCount"]) == (1, 1)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_an_overlay_offers_it_as_the_last_component(environment: str) -> None:
    """Patches of a component reach what the ones before it brought."""
    text = (FOLDER / "overlays" / environment / "kustomization.yaml").read_text()
    named = re.findall(r"(?m)^ +(?:# )?- \.\./\.\./components/(.+)$", text)
    assert named[-1] == "small"
