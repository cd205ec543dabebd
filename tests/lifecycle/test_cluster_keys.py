"""`shokado keys --environment` as it is typed, with a real kubectl; a stand-in answers for the cluster."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from k8s.validate import NOT_THERE, has_kubectl
from shokado.access.keys import Key, KeyRing, Role, add_to, digest_of, parse_keys, text_of
from shokado.cli.app import app
from tests.lifecycle.kubernetes_api import Cluster, running

pytestmark = pytest.mark.skipif(not has_kubectl(), reason=NOT_THERE)
NAMESPACE = "shokado-staging"
PLACE = ("secrets", NAMESPACE, "shokado-keys")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster in which the environment's namespace is, and its Secret of keys as k8s/README.md makes it."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
    keys: list[Key] = []
    runner_key = add_to("", keys, "runner", Role.PREDICT)
    add_to("", keys, "me", Role.ADMIN)
    data = {"keys.yaml": text_of(keys).encode(), "runner-key": runner_key.encode()}
    with running(tmp_path / "kubeconfig") as cluster:
        cluster.add("namespaces", "", NAMESPACE)
        encoded = {name: base64.b64encode(content).decode() for name, content in data.items()}
        cluster.add("secrets", NAMESPACE, "shokado-keys", data=encoded)
        yield cluster


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments, "--environment", "staging"])


def held(cluster: Cluster) -> KeyRing:
    return parse_keys("", base64.b64decode(cluster.objects[PLACE]["data"]["keys.yaml"]))


def test_a_key_comes_and_goes_and_the_rest_of_the_secret_stays(cluster: Cluster) -> None:
    runner_key = cluster.objects[PLACE]["data"]["runner-key"]
    made = keys("create", "--name", "ci", "--role", "predict")
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    found = held(cluster).find(digest_of(secret.encode()))
    assert found is not None, "the key alone is on standard output"
    assert (found.name, found.role) == ("ci", Role.PREDICT)
    assert secret not in yaml.safe_dump(cluster.objects[PLACE])
    listed = keys("list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["runner", "me", "ci"]
    assert listed[0].endswith("  runner-key")
    assert secret not in "".join(listed)
    revoked = keys("revoke", "ci")
    assert revoked.exit_code == 0, revoked.output
    assert [key.name for key in held(cluster).keys] == ["runner", "me"]
    assert cluster.objects[PLACE]["data"]["runner-key"] == runner_key


@pytest.mark.parametrize(("name", "why"), [("runner", "no answer from the runners"), ("me", "the last admin's")])
def test_a_key_that_is_still_needed_goes_by_force_only(name: str, why: str, cluster: Cluster) -> None:
    refused = keys("revoke", name)
    assert refused.exit_code == 1
    assert why in refused.stderr
    assert f"shokado keys revoke {name} --environment staging --force" in refused.stderr
    assert name in {key.name for key in held(cluster).keys}
    assert keys("revoke", name, "--force").exit_code == 0
    assert name not in {key.name for key in held(cluster).keys}


def test_what_somebody_else_wrote_meanwhile_is_not_lost(cluster: Cluster) -> None:
    """The Secret changes after it was read: what was made of the older one is not written."""
    others = iter(["first", "second"])

    def change_first() -> None:
        if (other := next(others, None)) is not None:
            kept = list(held(cluster).keys)
            add_to("", kept, other, Role.PREDICT)
            secret = cluster.objects[PLACE]
            secret["data"]["keys.yaml"] = base64.b64encode(text_of(kept).encode()).decode()
            secret["metadata"]["resourceVersion"] = str(int(secret["metadata"]["resourceVersion"]) + 1)

    cluster.before_write = change_first
    made = keys("create", "--name", "ci", "--role", "predict")
    assert made.exit_code == 0, made.output
    assert [key.name for key in held(cluster).keys] == ["runner", "me", "first", "second", "ci"]


def test_what_cannot_be_done_is_said(cluster: Cluster) -> None:
    assert "there is a key called me" in keys("create", "--name", "me", "--role", "admin").stderr
    assert "there is no key called ci" in keys("revoke", "ci").stderr
    assert keys("list", "--file", "keys.yaml").exit_code == 2
    del cluster.objects[PLACE]
    missing = keys("list")
    assert missing.exit_code == 1
    assert "Secret shokado-keys is not in namespace shokado-staging; k8s/README.md says" in missing.stderr
