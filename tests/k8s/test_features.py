"""The transformer and materialization: as hardened as their siblings, and reached by whom they should be."""

import re
from typing import Any

import pytest
import typer
from typer.main import get_command

from k8s.validate import FOLDER, NOT_THERE, Rendering, has_kubectl
from shokado.cli.features import app
from shokado.lifecycle.packaging.features_image import DATA, FEATURES_IMAGE
from tests.k8s.cluster import Cluster, Pod
from tests.k8s.test_configuration import settings_of
from tests.k8s.test_hardening import test_pods_keep_to_the_restricted_standard as keep_to_the_restricted_standard


class Alone(Cluster):
    """What stands beside an environment."""

    @property
    def pods(self) -> list[Pod]:
        jobs = [Pod(job["spec"]["jobTemplate"]) for job in self.of("CronJob")]
        return jobs + [Pod(deployment) for deployment in self.of("Deployment")]


@pytest.fixture(params=["transformer", "feast"])
def alone(request: pytest.FixtureRequest) -> Alone:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    return Alone(Rendering(request.param))


@pytest.fixture(params=["staging", "production"])
def looking_up(request: pytest.FixtureRequest) -> Cluster:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    return Cluster(Rendering(f"overlays/{request.param}", ("features",)))


def test_it_is_as_hardened_as_the_servers(alone: Alone) -> None:
    (pod,) = alone.pods
    keep_to_the_restricted_standard(alone)
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["enableServiceLinks"] is False
    assert re.fullmatch(r"shokado-features:\d+\.\d+\.\d+", pod.container["image"])
    assert {pod.spec["securityContext"][who] for who in ("runAsUser", "runAsGroup", "fsGroup")} == {1034}
    resources = pod.container["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"]


def test_its_arguments_are_those_of_the_command(alone: Alone) -> None:
    (pod,) = alone.pods
    dockerfile = FEATURES_IMAGE.dockerfile
    assert 'ENTRYPOINT ["python", "-m", "shokado", "features"]' in dockerfile
    name, *arguments = pod.container["args"]
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    parsed: dict[str, Any] = group.commands[name].make_context(name, list(arguments)).params
    assert parsed["apply"] is True
    if name == "serve":
        assert (parsed["host"], parsed["port"]) == ("0.0.0.0", pod.ports["http"])
    repository = re.search(r"FEATURE_REPO=(\S+)", dockerfile)
    assert repository is not None
    assert set(dict(pod.mounted())) == {"/tmp", f"{repository[1]}/{DATA}"}


def test_gateways_reach_the_transformer_and_nobody_else_does(looking_up: Cluster, tmp_path: Any) -> None:
    transformer = Alone(Rendering("transformer"))
    (pod,) = transformer.pods
    (gateway,) = looking_up.component("gateway")
    features = settings_of(looking_up, gateway, tmp_path).features
    (service,) = transformer.of("Service")
    assert features.url == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert features.entities
    assert service["spec"]["selector"].items() <= pod.labels.items()

    def lets(rules: list[Any], side: str, labels: Any) -> list[Any]:
        """The ports by which these pods may come, or be asked."""
        peers = [(peer.get("podSelector"), rule["ports"]) for rule in rules for peer in rule[side]]
        return [ports for peer, ports in peers if peer is not None and peer["matchLabels"].items() <= labels.items()]

    out = looking_up.named("NetworkPolicy", "shokado-gateway")["spec"]["egress"]
    assert lets(out, "to", pod.labels) == [[{"port": "http", "protocol": "TCP"}]]
    (policy,) = transformer.of("NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()
    assert lets(policy["spec"]["ingress"], "from", gateway.labels) == [[{"port": "http", "protocol": "TCP"}]]
    assert len(policy["spec"]["ingress"][0]["from"]) == 1
    redis = looking_up.named("NetworkPolicy", "shokado-redis")["spec"]["ingress"]
    for part in (transformer, Alone(Rendering("feast"))):
        assert lets(redis, "from", part.pods[0].labels) == [[{"port": "redis", "protocol": "TCP"}]]
        (own,) = part.of("NetworkPolicy")
        (runner, *_) = looking_up.component("runner")
        assert lets(own["spec"]["egress"], "to", looking_up.component("redis")[0].labels)
        assert not lets(own["spec"]["egress"], "to", runner.labels)
    assert not lets(redis, "from", looking_up.component("runner")[0].labels)


def test_materialization_runs_once_at_a_time_and_ends() -> None:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    (job,) = Alone(Rendering("feast")).of("CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] <= 3600


def test_the_readme_names_what_is_deployed() -> None:
    text = (FOLDER / "README.md").read_text()
    for words in ("make deploy-feast", "make deploy-transformer", "shokado-feast", "components/features"):
        assert words in text
