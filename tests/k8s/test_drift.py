"""The job that reports drift: it may do no more than its siblings, and its command is one that there is."""

import re

import pytest
import typer
from typer.main import get_command

from k8s.validate import FOLDER, NOT_THERE, Rendering, has_kubectl
from shokado.cli.drift import app
from shokado.lifecycle.packaging.drift_image import DRIFT_IMAGE
from tests.k8s.cluster import Cluster, Pod
from tests.k8s.test_hardening import test_pods_keep_to_the_restricted_standard as keep_to_the_restricted_standard


class Drifting(Cluster):
    """An environment of which only the job's pods are looked at."""

    @property
    def pods(self) -> list[Pod]:
        return [Pod(job["spec"]["jobTemplate"]) for job in self.of("CronJob")]


@pytest.fixture(params=["staging", "production"])
def drifting(request: pytest.FixtureRequest) -> Drifting:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    return Drifting(Rendering(f"overlays/{request.param}", ("drift",)))


def test_it_is_as_hardened_as_the_servers(drifting: Drifting) -> None:
    (pod,) = drifting.pods
    keep_to_the_restricted_standard(drifting)
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["enableServiceLinks"] is False
    assert pod.spec["serviceAccountName"] in drifting.names("ServiceAccount")
    assert re.fullmatch(r"shokado-drift:\d+\.\d+\.\d+", pod.container["image"])
    assert {pod.spec["securityContext"][who] for who in ("runAsUser", "runAsGroup", "fsGroup")} == {1034}
    resources = pod.container["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"]


def test_it_writes_its_reports_and_nothing_else(drifting: Drifting) -> None:
    (pod,) = drifting.pods
    kinds = {path: next(kind for kind in volume if kind != "name") for path, volume in pod.mounted()}
    assert kinds == {"/tmp": "emptyDir", "/reports": "persistentVolumeClaim"}
    claims = {volume["persistentVolumeClaim"]["claimName"] for _, volume in pod.mounted() if "emptyDir" not in volume}
    assert claims == drifting.names("PersistentVolumeClaim")


def test_one_policy_lets_it_ask_the_store_and_lets_nobody_in(drifting: Drifting) -> None:
    (pod,) = drifting.pods
    (policy,) = [
        policy
        for policy in drifting.of("NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()
    ]
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["spec"]["ingress"] == []
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == {443, 53}
    for other in drifting.of("NetworkPolicy"):
        for rule in other["spec"].get("ingress", []):
            for peer in rule["from"]:
                chosen = peer.get("podSelector", {}).get("matchLabels", {"nobody": ""})
                assert not chosen.items() <= pod.labels.items(), "the gateways and Redis do not let it in"


def test_it_runs_once_at_a_time_and_ends(drifting: Drifting) -> None:
    (job,) = drifting.of("CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] <= 3600


def test_its_arguments_are_those_of_the_command(drifting: Drifting) -> None:
    (pod,) = drifting.pods
    assert 'ENTRYPOINT ["python", "-m", "shokado", "drift", "report"]' in DRIFT_IMAGE.dockerfile
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    report = group.commands["report"]
    parsed = report.make_context("report", list(pod.container["args"])).params
    assert (parsed["version"], parsed["since"], parsed["against"]) == ((), 3600, 7 * 86_400), "of all versions"
    assert parsed["log"].startswith("s3://")
    assert str(parsed["target"]) in dict(pod.mounted())


def test_the_readme_makes_the_secret_that_it_reads(drifting: Drifting) -> None:
    (pod,) = drifting.pods
    text = (FOLDER / "README.md").read_text()
    for variable in pod.container["env"]:
        reference = variable["valueFrom"]["secretKeyRef"]
        assert f"generic {reference['name']} " in text
        assert f"--from-literal={reference['key']}=" in text
