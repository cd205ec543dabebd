"""`shokado deploy` as it is typed, with a real kubectl; a stand-in answers for the cluster."""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from lifecycle import deploying, manifests
from lifecycle.cli import app
from lifecycle.deploying import Order
from lifecycle.errors import DeployFailed, LifecycleError
from lifecycle.manifests import needed_secrets, render, services, workloads
from tests.lifecycle.kubernetes_api import Cluster, running

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="needs kubectl; on Debian 13: apt-get install kubernetes-client"
)
NAMESPACE = "shokado-staging"
WORKLOADS = [
    "statefulset/shokado-redis",
    "deployment/shokado-v1",
    "deployment/shokado-v2",
    "deployment/shokado-gateway",
]
runner = CliRunner()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster in which the environment's namespace and Secrets are."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
    with running(tmp_path / "kubeconfig") as cluster:
        cluster.add("namespaces", "", NAMESPACE)
        cluster.add_secret(NAMESPACE, "shokado-keys", "keys.yaml", "runner-key")
        cluster.add_secret(NAMESPACE, "shokado-redis", "password")
        yield cluster


@pytest.fixture
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig that leads nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "away",
        "clusters": [{"name": "away", "cluster": {"server": url}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": ""}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))


def deploy(*arguments: str) -> Result:
    return runner.invoke(app, ["deploy", "--environment", "staging", *arguments])


def test_an_environment_is_applied_and_ready(cluster: Cluster) -> None:
    result = deploy("--image", "registry.example.com/team/shokado:1.4.0")
    assert result.exit_code == 0, result.output
    assert set(WORKLOADS) <= set(cluster.applied)
    assert "staging is ready" in result.stdout
    assert "deployment.apps/shokado-v2 serverside-applied" in result.stdout
    images = {
        name: item["spec"]["template"]["spec"]["containers"][0]["image"]
        for (_, _, name), item in cluster.objects.items()
        if item["kind"] in ("Deployment", "StatefulSet")
    }
    assert {images.pop(name) for name in ("shokado-gateway", "shokado-v1", "shokado-v2")} == {
        "registry.example.com/team/shokado:1.4.0"
    }
    assert images["shokado-redis"].startswith("redis:"), "other images stay"


def test_a_rollout_that_does_not_become_ready_stops_with_the_reason_and_the_way_back(cluster: Cluster) -> None:
    assert deploy().exit_code == 0
    cluster.failing.add("shokado-v2")
    result = deploy("--timeout", "2", "--context", "test")
    assert result.exit_code == 1
    assert "error: deployment/shokado-v2 was not rolled out: timed out" in result.stderr
    assert "shokado-v2-abc: ImagePullBackOff, no such image" in result.stderr
    assert "Failed: Failed to pull image" in result.stderr
    command = "kubectl --context=test rollout undo deployment/shokado-v2 --namespace=shokado-staging"
    assert f"next: {command}" in result.stderr
    assert "roll out deployment/shokado-v1" in result.stdout
    assert "roll out deployment/shokado-gateway" not in result.stdout, "it stops at the first failure"
    assert "is ready" not in result.stdout


def test_a_first_rollout_has_no_way_back(cluster: Cluster) -> None:
    cluster.failing.add("shokado-redis")
    result = deploy("--timeout", "1")
    assert result.exit_code == 1
    assert "next: kubectl describe statefulset/shokado-redis --namespace=shokado-staging" in result.stderr


def test_a_service_that_nothing_stands_behind_is_not_ready(cluster: Cluster) -> None:
    cluster.without_endpoints.add("shokado-v1")
    result = deploy("--timeout", "5")
    assert result.exit_code == 1
    assert "Service shokado-v1 in namespace shokado-staging has no endpoint that is ready." in result.stderr


def test_endpoints_may_come_late(cluster: Cluster) -> None:
    cluster.without_endpoints.add("shokado-v1")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        labels = {"kubernetes.io/service-name": "shokado-v1"}
        cluster.add(
            "endpointslices", NAMESPACE, "late", metadata={"labels": labels}, endpoints=[{"addresses": ["10.0.0.2"]}]
        )

    deploying.deploy(Order("staging"), sleep=sleep)
    assert slept == [deploying.POLL_S]


def test_a_dry_run_changes_nothing(cluster: Cluster) -> None:
    before = dict(cluster.objects)
    result = deploy("--dry-run")
    assert result.exit_code == 0, result.output
    assert "deployment.apps/shokado-gateway serverside-applied (server dry run)" in result.stdout
    assert result.stdout.endswith("Nothing was changed.\n")
    assert (cluster.objects, cluster.applied) == (before, [])


def test_a_dry_run_before_the_first_deploy_says_what_is_missing(cluster: Cluster) -> None:
    cluster.objects.clear()
    result = deploy("--dry-run")
    assert result.exit_code == 0, result.output
    assert "namespace/shokado-staging created (dry run)" in result.stdout
    assert "missing: Secret shokado-keys in namespace shokado-staging" in result.stdout
    assert not cluster.objects


def test_a_dry_run_without_a_cluster_says_so(no_cluster: None) -> None:
    result = deploy("--dry-run")
    assert result.exit_code == 0, result.output
    assert "deployment/shokado-gateway rendered" in result.stdout
    assert "No cluster was asked, as none can be reached: " in result.stdout
    assert "neither admitted nor compared with what is there" in result.stdout


def test_a_dry_run_on_a_context_that_is_named_needs_its_cluster(no_cluster: None) -> None:
    result = deploy("--dry-run", "--context", "away")
    assert result.exit_code == 1
    assert "The cluster cannot be reached: " in result.stderr


def test_without_a_cluster_nothing_is_deployed(no_cluster: None) -> None:
    result = deploy()
    assert result.exit_code == 1
    assert "The cluster cannot be reached: " in result.stderr
    assert "refused" in result.stderr
    assert "next: kubectl config get-contexts" in result.stderr


@pytest.mark.parametrize(
    ("there", "message", "command"),
    [
        (None, "does not hold keys.yaml and runner-key", "kubectl create secret generic shokado-keys"),
        (["keys.yaml"], "does not hold runner-key", "kubectl edit secret/shokado-keys"),
    ],
)
def test_a_missing_secret_is_said_before_anything_is_applied(
    there: list[str] | None, message: str, command: str, cluster: Cluster
) -> None:
    del cluster.objects["secrets", NAMESPACE, "shokado-keys"]
    if there is not None:
        cluster.add_secret(NAMESPACE, "shokado-keys", *there)
    result = deploy()
    assert result.exit_code == 1
    assert message in result.stderr
    assert f"next: {command}" in result.stderr
    assert not cluster.applied


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--context", "moon"], 'context "moon" does not exist'),
        (["--image", "shokado"], "names no version"),
        (["--image", "shokado:latest"], "names no version"),
        (["--environment", "moon"], "There is no environment moon"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], message: str, cluster: Cluster) -> None:
    result = deploy(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not cluster.applied


def test_a_missing_kubectl_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = deploy()
    assert result.exit_code == 1
    assert "kubectl is not installed" in result.stderr


def test_manifests_that_break_the_schemas_are_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"prots": []}}
    monkeypatch.setattr(manifests, "OVERLAYS", written(tmp_path, bad))
    with pytest.raises(DeployFailed, match="prots"):
        deploying.deploy(Order("test"))


def written(folder: Path, *objects: Any) -> Path:
    """A folder of overlays with one, `test`, of these objects."""
    overlay = folder / "overlays" / "test"
    overlay.mkdir(parents=True)
    (overlay / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["objects.yaml"]}))
    return overlay.parent


@pytest.fixture
def deployment() -> Callable[..., dict[str, Any]]:
    def make(image: str = "shokado:1", **pod: Any) -> dict[str, Any]:
        labels = {"app": "a"}
        containers = [{"name": "a", "image": image, **pod.pop("container", {})}]
        template = {"metadata": {"labels": labels}, "spec": {"containers": containers, **pod}}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "a", "namespace": "n"},
            "spec": spec,
        }

    return make


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("shokado:0.1.0", "r/shokado:2"),
        ("registry:5000/x/shokado@sha256:" + "0" * 64, "r/shokado:2"),
        ("shokado-ui:1", "shokado-ui:1"),
        ("redis:7", "redis:7"),
    ],
)
def test_only_the_bundle_s_images_are_replaced(
    before: str, after: str, deployment: Callable[..., Any], tmp_path: Path
) -> None:
    (rendered,) = render("test", "r/shokado:2", written(tmp_path, deployment(before)))
    assert rendered["spec"]["template"]["spec"]["containers"][0]["image"] == after


def test_secrets_are_found_wherever_pods_name_them(deployment: Callable[..., Any]) -> None:
    def variable(**reference: Any) -> dict[str, Any]:
        return {"name": "A", "valueFrom": {"secretKeyRef": reference}}

    item = deployment(
        volumes=[
            {"name": "a", "secret": {"secretName": "whole"}},
            {"name": "b", "secret": {"secretName": "parts", "items": [{"key": "x", "path": "x"}]}},
            {"name": "c", "secret": {"secretName": "not-needed", "optional": True}},
        ],
        container={"env": [variable(name="parts", key="y"), variable(name="maybe", key="z", optional=True)]},
        initContainers=[{"name": "i", "image": "i:1", "env": [variable(name="first", key="k")]}],
    )
    assert needed_secrets([item]) == {("n", "whole"): set(), ("n", "parts"): {"x", "y"}, ("n", "first"): {"k"}}
    made = {"kind": "Secret", "metadata": {"name": "first", "namespace": "n"}}
    assert ("n", "first") not in needed_secrets([item, made])


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_gateways_are_waited_for_last(environment: str) -> None:
    objects = render(environment)
    assert [str(workload) for workload in workloads(objects)] == WORKLOADS
    names = {name for _, name in services(objects)}
    assert {"shokado-gateway", "shokado-v1", "shokado-v2", "shokado-redis"} <= names
    assert set(needed_secrets(objects)) == {(f"shokado-{environment}", f"shokado-{of}") for of in ("keys", "redis")}


def test_a_kustomization_that_is_broken_is_said(tmp_path: Path) -> None:
    overlays = written(tmp_path)
    (overlays / "test" / "objects.yaml").unlink()
    with pytest.raises(LifecycleError, match=r"objects\.yaml"):
        render("test", overlays=overlays)
