"""`shokado deploy` as it is typed, with a real kubectl; a stand-in answers for the cluster."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner, Result

from k8s.validate import NOT_THERE, has_kubectl
from shokado.cli.app import app
from shokado.lifecycle.errors import DeployFailed, LifecycleError
from shokado.lifecycle.rollout import deploying, manifests
from shokado.lifecycle.rollout.deploying import DeployOrder, Time
from shokado.lifecycle.rollout.kubectl import Kubectl
from shokado.lifecycle.rollout.manifests import Workload, needed_secrets, render, services, workloads
from shokado.lifecycle.rollout.waiting import POLL_S, reasons_of
from tests.lifecycle.kubernetes_api import Cluster, running

pytestmark = pytest.mark.skipif(not has_kubectl(), reason=NOT_THERE)
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


def kubectl(*arguments: str) -> None:
    subprocess.run(["kubectl", *arguments], check=True, capture_output=True)


def images(cluster: Cluster) -> dict[str, str]:
    """Of the bundle's workloads, by name."""
    return {
        name: item["spec"]["template"]["spec"]["containers"][0]["image"]
        for (plural, _, name), item in cluster.objects.items()
        if plural == "deployments"
    }


def managers(cluster: Cluster, plural: str, name: str) -> set[str]:
    fields = cluster.objects[plural, NAMESPACE, name]["metadata"]["managedFields"]
    return {entry["manager"] for entry in fields}


@pytest.mark.slow
def test_what_was_applied_by_hand_is_deployed_over(cluster: Cluster) -> None:
    """Also where the cluster has filled in defaults since, and where somebody has changed a field with kubectl."""
    kubectl("apply", "-k", str(manifests.OVERLAYS / "staging"))
    first = deploy()
    assert first.exit_code == 0, first.output
    assert "taken back" not in first.stdout
    kubectl("-n", NAMESPACE, "set", "image", "deployment/shokado-v2", "shokado=shokado:by-hand")
    kubectl("-n", NAMESPACE, "set", "image", "deployment/shokado-v1", "shokado=shokado:by-hand")
    second = deploy()
    assert second.exit_code == 0, second.output
    assert 'taken back: .spec.template.spec.containers[name="shokado"].image of kubectl-set\n' in second.stdout
    assert set(images(cluster).values()) == {"shokado:0.1.0"}
    assert "kubectl-set" not in managers(cluster, "deployments", "shokado-v2")


@pytest.mark.slow
def test_what_an_hpa_has_set_stays(cluster: Cluster) -> None:
    assert deploy().exit_code == 0

    def scale(deployment: dict[str, Any]) -> None:
        deployment["spec"]["replicas"] = 3

    cluster.change("deployments", NAMESPACE, "shokado-v1", "kube-controller-manager", scale)
    result = deploy()
    assert result.exit_code == 0, result.output
    assert "taken back" not in result.stdout
    assert cluster.objects["deployments", NAMESPACE, "shokado-v1"]["spec"]["replicas"] == 3


@pytest.mark.slow
def test_fields_of_another_tool_are_a_conflict_unless_by_force(cluster: Cluster) -> None:
    assert deploy().exit_code == 0

    def resize(deployment: dict[str, Any]) -> None:
        deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "250m"

    cluster.change("deployments", NAMESPACE, "shokado-v1", "vpa-recommender", resize)
    before, applied = dict(cluster.objects), len(cluster.applied)
    result = deploy("--image", "r/shokado:2")
    assert result.exit_code == 1
    assert '.spec.template.spec.containers[name="shokado"].resources.requests.cpu of vpa-recommender' in result.stderr
    assert "Nothing was applied" in result.stderr
    assert "next: shokado deploy --environment staging --force-conflicts" in result.stderr
    assert (cluster.objects, len(cluster.applied)) == (before, applied)
    assert deploy("--image", "r/shokado:2", "--force-conflicts").exit_code == 0
    assert managers(cluster, "deployments", "shokado-v1") == {"shokado"}


@pytest.mark.parametrize("at", ["rehearsal", "apply"])
def test_what_is_refused_is_not_half_applied(at: str, cluster: Cluster) -> None:
    assert deploy("--image", "r/shokado:1").exit_code == 0

    def refuse(content: dict[str, Any], dry: bool) -> str | None:
        wanted = content["kind"] == "Deployment" and content["metadata"]["name"] == "shokado-v2"
        image = content["spec"]["template"]["spec"]["containers"][0]["image"] if wanted else ""
        return "no image of today" if image == "r/shokado:2" and (at == "rehearsal" or not dry) else None

    cluster.refuses = refuse
    result = deploy("--image", "r/shokado:2")
    assert result.exit_code == 1
    assert "no image of today" in result.stderr
    assert ("nothing was applied" if at == "rehearsal" else "It was taken back") in result.stderr
    assert set(images(cluster).values()) == {"r/shokado:1"}
    result = deploy("--undo")
    assert result.exit_code == 1, "nothing was begun since the only release"


def test_a_rollout_that_does_not_become_ready_stops_with_the_reason_and_one_way_back(cluster: Cluster) -> None:
    assert deploy("--image", "r/shokado:1").exit_code == 0
    cluster.bad_images.add("r/shokado:2")
    result = deploy("--image", "r/shokado:2", "--timeout", "2", "--context", "test")
    assert result.exit_code == 1
    assert "error: deployment/shokado-v1 was not rolled out: timed out" in result.stderr
    assert "shokado-v1-abc: ImagePullBackOff, " in result.stderr
    assert result.stderr.count("no such image") == 1, "each reason once"
    assert "next: shokado deploy --environment staging --context test --undo" in result.stderr
    assert "roll out deployment/shokado-gateway" not in result.stdout, "it stops at the first failure"
    assert "is ready" not in result.stdout
    undone = deploy("--undo")
    assert undone.exit_code == 0, undone.output
    assert "staging is ready: the release of 20" in undone.stdout
    assert "(r/shokado:1)" in undone.stdout
    assert set(images(cluster).values()) == {"r/shokado:1"}, "of all, and not only of the one that was waited for"
    after = deploy("--image", "r/shokado:3")
    assert after.exit_code == 0, after.output
    assert "taken back" not in after.stdout


@pytest.mark.slow
def test_what_fails_is_undone_at_once_where_that_is_wanted(cluster: Cluster) -> None:
    assert deploy("--image", "r/shokado:1").exit_code == 0
    cluster.bad_images.add("r/shokado:2")
    result = deploy("--image", "r/shokado:2", "--timeout", "2", "--rollback-on-failure")
    assert result.exit_code == 1
    assert "It was undone: the release of 20" in result.stderr
    assert "is ready again" in result.stderr
    assert set(images(cluster).values()) == {"r/shokado:1"}


@pytest.mark.slow
def test_a_release_that_was_ready_can_be_undone_and_the_undo_too(cluster: Cluster) -> None:
    for number in (1, 2, 2):
        assert deploy("--image", f"r/shokado:{number}").exit_code == 0
    assert "(r/shokado:1)" in deploy("--undo").stdout
    assert set(images(cluster).values()) == {"r/shokado:1"}
    assert "(r/shokado:2)" in deploy("--undo").stdout
    assert set(images(cluster).values()) == {"r/shokado:2"}


@pytest.mark.slow
def test_a_first_rollout_has_no_way_back(cluster: Cluster) -> None:
    cluster.failing.add("shokado-redis")
    result = deploy("--timeout", "1", "--rollback-on-failure")
    assert result.exit_code == 1
    assert "next: kubectl describe statefulset/shokado-redis --namespace=shokado-staging" in result.stderr
    undone = deploy("--undo")
    assert undone.exit_code == 1
    assert "knows no release to go back to" in undone.stderr
    assert "next: kubectl describe pods --namespace=shokado-staging" in undone.stderr


@pytest.mark.slow
def test_what_is_not_in_the_manifests_any_more_does_not_go_on_running(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def k8s(*arguments: str) -> None:
        result = runner.invoke(app, ["k8s", *arguments, "--folder", str(tmp_path / "k8s")])
        assert result.exit_code == 0, result.output

    shutil.copytree(manifests.OVERLAYS.parent, tmp_path / "k8s")
    monkeypatch.setattr(manifests, "OVERLAYS", tmp_path / "k8s" / "overlays")
    k8s("add-version", "v3")
    assert deploy().exit_code == 0
    cluster.add("services", NAMESPACE, "shokado-v3-of-somebody-else")
    there = {place for place in cluster.objects if place[2] == "shokado-v3"}
    assert {plural for plural, _, _ in there} == {
        "deployments", "services", "horizontalpodautoscalers", "poddisruptionbudgets",
    }  # fmt: skip
    k8s("remove-version", "v3", "--unasked", "production", "--unasked", "staging")
    assert (
        "deployment/shokado-v3 would be deleted, as it is not in the manifests any more" in deploy("--dry-run").stdout
    )
    assert there <= cluster.objects.keys()
    result = deploy()
    assert result.exit_code == 0, result.output
    assert 'deployment.apps "shokado-v3" deleted' in result.stdout
    assert not there & cluster.objects.keys()
    assert {name for name in cluster.names("services", NAMESPACE) if "v3" in name} == {"shokado-v3-of-somebody-else"}
    assert deploy("--undo").exit_code == 0
    assert there <= cluster.objects.keys()


@pytest.mark.slow
def test_what_a_failed_deploy_added_is_gone_after_the_undo(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deploy().exit_code == 0
    overlays = tmp_path / "k8s" / "overlays"
    shutil.copytree(manifests.OVERLAYS.parent, overlays.parent)
    (overlays / "staging" / "more.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "more"}})
    )
    file = overlays / "staging" / "kustomization.yaml"
    file.write_text(file.read_text().replace("  - ../../base\n", "  - ../../base\n  - more.yaml\n"))
    monkeypatch.setattr(manifests, "OVERLAYS", overlays)
    cluster.bad_images.add("r/shokado:2")
    assert deploy("--image", "r/shokado:2", "--timeout", "1").exit_code == 1
    assert "more" in cluster.names("serviceaccounts", NAMESPACE)
    assert deploy("--undo").exit_code == 0
    assert cluster.names("serviceaccounts", NAMESPACE) == {"shokado"}


def deadlines(objects: Iterable[dict[str, Any]]) -> set[int]:
    return {item["spec"]["progressDeadlineSeconds"] for item in objects if item["kind"] == "Deployment"}


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_manifests_give_a_rollout_as_long_as_deploy_waits(environment: str) -> None:
    command = get_command(app).commands["deploy"]  # type: ignore[attr-defined]
    (timeout,) = [option.default for option in command.params if option.name == "timeout"]
    assert deadlines(render(environment)) == {timeout} == {DeployOrder(environment).timeout_s}


@pytest.mark.slow
def test_the_time_to_wait_is_the_deployments_too(cluster: Cluster) -> None:
    assert deploy("--timeout", "77").exit_code == 0
    assert deadlines(cluster.objects.values()) == {77}


def test_a_pod_that_is_not_ready_tells_why_by_its_log(cluster: Cluster) -> None:
    cluster.failing.add("shokado-gateway")
    cluster.logs["shokado-gateway"] = "started\nW 2026 not ready: v1; v1: connection refused\nGET /readyz 503\n"
    cluster.add_event(
        NAMESPACE, "a", "HorizontalPodAutoscaler", "shokado-gateway", "FailedGetResourceMetric", "no metrics"
    )
    cluster.add_event(NAMESPACE, "b", "Pod", "shokado-gateway-abc", "Unhealthy", "Readiness probe failed: 503")
    cluster.add_event(NAMESPACE, "c", "ReplicaSet", "shokado-gateway-5d", "FailedCreate", "exceeded quota")
    result = deploy("--timeout", "1")
    assert result.exit_code == 1
    assert (
        "shokado-gateway-abc: not ready: v1; v1: connection refused; FailedCreate: exceeded quota.\n" in result.stderr
    )
    assert "no metrics" not in result.stderr
    assert "Unhealthy" not in result.stderr


def test_a_pod_that_ended_tells_its_last_words_once(cluster: Cluster) -> None:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container=shokado"}
    ended = {"reason": "Error", "exitCode": 1, "message": "error: store: nothing can be read\n"}
    status = {
        "containerStatuses": [{"name": "shokado", "state": {"waiting": waiting}, "lastState": {"terminated": ended}}]
    }
    for name in ("shokado-v1-a", "shokado-v1-b"):
        cluster.add("pods", NAMESPACE, name, metadata={"labels": {"app": "v1"}}, status=status)
    found = reasons_of(Kubectl(), Workload("Deployment", "shokado-v1", NAMESPACE, {"app": "v1"}))
    assert found == ["shokado-v1-a: Error, exit code 1, error: store: nothing can be read"]


@pytest.mark.slow
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

    deploying.deploy(DeployOrder("staging"), Time(sleep=sleep))
    assert slept == [POLL_S]


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
    assert "namespace/shokado-staging is not there yet" in result.stdout
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


def test_missing_secrets_are_said_together_before_anything_is_applied(cluster: Cluster) -> None:
    cluster.objects.clear()
    result = deploy()
    assert result.exit_code == 1
    assert "Secret shokado-keys in namespace shokado-staging does not hold keys.yaml and runner-key; " in result.stderr
    assert (
        "Secret shokado-redis in namespace shokado-staging does not hold password: pods cannot start." in result.stderr
    )
    keys = '--from-file=keys.yaml --from-literal=runner-key="$(cat runner-key)"'
    redis = '--from-literal=password="$(openssl rand -hex 24)"'
    assert (
        "next: kubectl create namespace shokado-staging"
        f" && kubectl create secret generic shokado-keys --namespace=shokado-staging {keys}"
        f" && kubectl create secret generic shokado-redis --namespace=shokado-staging {redis}\n"
    ) in result.stderr
    assert not cluster.objects


def test_a_secret_that_lacks_a_key_is_said(cluster: Cluster) -> None:
    cluster.add_secret(NAMESPACE, "shokado-keys", "keys.yaml")
    result = deploy()
    assert result.exit_code == 1
    assert "does not hold runner-key" in result.stderr
    assert "next: kubectl edit secret/shokado-keys" in result.stderr
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
        deploying.deploy(DeployOrder("test"))


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
