"""`shokado features deploy` as it is typed, with a real kubectl; a stand-in answers for the cluster."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k8s.validate import NOT_THERE, has_kubectl
from shokado.cli.app import app
from shokado.lifecycle.errors import DeployFailed
from shokado.lifecycle.rollout.deploying import Time
from shokado.lifecycle.rollout.deploying_features import FeaturesOrder, deploy_features
from tests.lifecycle.kubernetes_api import Cluster, running
from tests.support.clock import HandClock

pytestmark = pytest.mark.skipif(not has_kubectl(), reason=NOT_THERE)
NAMESPACE = "shokado-production"
JOB = "shokado-feast-0131-120000"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster in which production is, and what its Redis is asked with."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
    with running(tmp_path / "kubeconfig") as cluster:
        cluster.add("namespaces", "", NAMESPACE)
        cluster.add_secret(NAMESPACE, "shokado-redis", "password")
        yield cluster


def deploy(part: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["features", "deploy", part, "--environment", "production", *options])


def test_the_transformer_is_applied_and_rolled_out(cluster: Cluster) -> None:
    result = deploy("transformer", "--image", "registry.example:5000/team/shokado-features:1.4.0")
    assert result.exit_code == 0, result.output
    assert "roll out deployment/shokado-transformer" in result.output
    deployment = cluster.objects["deployments", NAMESPACE, "shokado-transformer"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example:5000/team/shokado-features:1.4.0"
    assert {kind.partition("/")[0] for kind in cluster.applied} == {
        "deployment", "service", "horizontalpodautoscaler", "poddisruptionbudget", "networkpolicy",
    }  # fmt: skip


def test_the_job_is_applied_and_run_once(cluster: Cluster) -> None:
    digest = "shokado-features@sha256:" + "0" * 64
    result = deploy("feast", "--image", digest)
    assert result.exit_code == 0, result.output
    (name,) = cluster.names("jobs", NAMESPACE)
    assert name.startswith("shokado-feast-")
    template = cluster.objects["jobs", NAMESPACE, name]["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == digest
    assert "completed" in result.output


def test_a_job_that_fails_or_does_not_end_is_told_with_its_logs(cluster: Cluster) -> None:
    clock = HandClock()
    passing = Time(clock, clock.advance, lambda: datetime(2026, 1, 31, 12, tzinfo=UTC))
    order = FeaturesOrder("feast", "production", timeout_s=5)
    cluster.failing = {"shokado-feast"}
    with pytest.raises(DeployFailed, match="has failed: Job has reached the specified backoff limit") as failed:
        deploy_features(order, passing)
    assert failed.value.next_command == f"kubectl logs job/{JOB} --namespace={NAMESPACE}"
    cluster.delete(("jobs", NAMESPACE, JOB))
    cluster.without_end = {JOB}
    with pytest.raises(DeployFailed, match="has not ended within 5 s"):
        deploy_features(order, passing)


def test_a_transformer_that_does_not_become_ready_is_told_with_the_reason(cluster: Cluster) -> None:
    cluster.failing = {"shokado-transformer"}
    result = deploy("transformer", "--timeout", "1")
    assert result.exit_code == 1
    assert "ErrImagePull" in result.output


def test_a_dry_run_changes_nothing(cluster: Cluster) -> None:
    before = dict(cluster.objects)
    for part in ("transformer", "feast"):
        result = deploy(part, "--dry-run")
        assert result.exit_code == 0, result.output
        assert "serverside-applied" in result.output
    assert cluster.objects == before


def test_what_is_missing_or_wrong_is_said_before_anything_is_applied(cluster: Cluster) -> None:
    cluster.objects.pop(("secrets", NAMESPACE, "shokado-redis"))
    for arguments, words in (
        (["transformer"], "Secret shokado-redis in namespace shokado-production does not hold password"),
        (["transformer", "--environment", "nowhere"], "There is no environment nowhere"),
        (["transformer", "--image", "shokado-features:latest"], "names no version"),
    ):
        result = deploy(*arguments)
        assert result.exit_code == 1, result.output
        assert words in " ".join(result.output.split())
    assert not cluster.applied
