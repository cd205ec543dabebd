"""The batch on Ray: its pods may do no more than their siblings, and its entrypoint is a command that there is."""

import re
import shlex

import pytest
import typer
from kubernetes_validate import validate
from typer.main import get_command

from k8s.validate import FOLDER, NOT_THERE, VERSIONS, Rendering, has_kubectl
from shokado.cli.batch_command import app
from shokado.lifecycle.packaging.batch_image import BATCH_IMAGE
from tests.k8s.cluster import Cluster, Pod
from tests.k8s.test_hardening import test_pods_keep_to_the_restricted_standard as keep_to_the_restricted_standard
from tests.test_locks import pins_of


class Batching(Cluster):
    """An environment of which only the pods of Ray's cluster are looked at."""

    @property
    def pods(self) -> list[Pod]:
        (job,) = self.of("RayJob")
        cluster = job["spec"]["rayClusterSpec"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        return [Pod({"metadata": job["metadata"], "spec": group}) for group in groups]


@pytest.fixture(params=["staging", "production"])
def batching(request: pytest.FixtureRequest) -> Batching:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    return Batching(Rendering(f"overlays/{request.param}", ("batch",)))


def test_its_pods_are_pods_and_as_hardened_as_the_servers(batching: Batching) -> None:
    keep_to_the_restricted_standard(batching)
    for pod in batching.pods:
        bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": pod.labels}, "spec": pod.spec}
        for version in VERSIONS:
            validate(bare, version, strict=True)
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["enableServiceLinks"] is False
        assert pod.spec["serviceAccountName"] in batching.names("ServiceAccount")
        assert re.fullmatch(r"shokado-batch:\d+\.\d+\.\d+", pod.container["image"])
        assert {pod.spec["securityContext"][who] for who in ("runAsUser", "runAsGroup", "fsGroup")} == {1034}
        resources = pod.container["resources"]
        assert resources["limits"] == resources["requests"]
        assert {path for path, _ in pod.mounted()} == {"/tmp"}


def test_rows_are_scored_by_workers_alone_and_by_the_ray_of_the_lock(batching: Batching) -> None:
    (job,) = batching.of("RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert pins_of("batch")["ray"] == cluster["rayVersion"]
    assert job["spec"]["shutdownAfterJobFinishes"] is True


def test_only_the_operator_and_its_own_pods_reach_it(batching: Batching) -> None:
    pod = batching.pods[0]
    (policy,) = [
        policy
        for policy in batching.of("NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()
    ]
    assert all(policy["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items() for pod in batching.pods)
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    among, operator = policy["spec"]["ingress"]
    assert among["from"] == [{"podSelector": policy["spec"]["podSelector"]}]
    assert operator["ports"] == [{"port": pod.ports["dashboard"], "protocol": "TCP"}]
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])} == {443, 53}
    for other in batching.of("NetworkPolicy"):
        if other is not policy:
            for rule in other["spec"].get("ingress", []):
                for peer in rule["from"]:
                    chosen = peer.get("podSelector", {}).get("matchLabels", {"nobody": ""})
                    assert not chosen.items() <= pod.labels.items(), "the gateways and Redis do not let it in"


def test_its_entrypoint_is_a_command_that_there_is(batching: Batching) -> None:
    (job,) = batching.of("RayJob")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:5] == ["python", "-m", "shokado", "batch", "run"]
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    parsed = group.commands["run"].make_context("run", words[5:]).params
    assert (parsed["model"], parsed["version"], parsed["split"]) == ("customers", "v2", False)
    assert parsed["source"].startswith("s3://")
    assert parsed["output"].startswith("s3://")
    assert "ENTRYPOINT" not in BATCH_IMAGE.dockerfile, "the operator starts Ray by commands of its own"


def test_the_readme_makes_the_secret_that_it_reads(batching: Batching) -> None:
    text = (FOLDER / "README.md").read_text()
    for pod in batching.pods:
        for variable in pod.container["env"]:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert f"generic {reference['name']} " in text
            assert f"--from-literal={reference['key']}=" in text
