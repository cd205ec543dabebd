"""`shokado k8s remove-version` asks a real gateway whether the version has traffic."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from k8s.validate import FOLDER, NOT_THERE, has_kubectl
from shokado.cli.app import app
from shokado.lifecycle.rollout import version_manifests
from tests.support import http
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not has_kubectl(), reason=NOT_THERE)
runner = CliRunner()


@pytest.fixture
def gateway(models: object) -> Iterator[Server]:
    with serving(environment={"SHOKADO_WORKERS": "1"}) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Manifests in which no split names v2."""
    shutil.copytree(FOLDER, tmp_path / "k8s")
    for file in ("base/gateway/serving.yaml", "overlays/staging/serving.yaml"):
        path = tmp_path / "k8s" / file
        path.write_text(path.read_text().replace("{v1: 100, v2: 0}", "{v1: 100}"))
    monkeypatch.setattr(version_manifests, "hold_to_schemas", lambda objects: None)
    return tmp_path / "k8s"


def test_a_version_goes_when_the_gateways_give_it_no_traffic(gateway: Server, folder: Path) -> None:
    def remove(*arguments: str) -> Result:
        return runner.invoke(app, ["k8s", "remove-version", "v2", "--folder", str(folder), *arguments])

    here = ["--url", gateway.url]
    alone = [*here, "--unasked", "staging"]

    def refused(arguments: list[str], message: str) -> None:
        result = remove(*arguments)
        assert result.exit_code == 1, result.output
        assert message in result.stderr
        assert (folder / "base" / "v2").is_dir()

    split(gateway, "staging", {"v1": 100}, shadow="v2")
    split(gateway, "production", {"v1": 99, "v2": 1})
    uses = "it is active in staging, 1 % of production, it is the shadow of staging"
    told = f"v2 has traffic, by the gateway at {gateway.url}: {uses}."
    wait_until(lambda: told in remove(*alone).stderr, 20)
    assert f"next: shokado canary status --url {gateway.url}" in remove(*alone).stderr
    split(gateway, "staging", {"v1": 100}, shadow=None, active="v1")
    split(gateway, "production", {"v1": 100, "v2": 0})
    wait_until(lambda: "No gateway has said" in remove(*here).stderr, 20)
    refused(here, "whether v2 has traffic in staging: name one of each by --url")
    refused([*here, *here], "whether v2 has traffic in staging")

    # A second environment whose gateways call themselves alike needs one of its own.
    shutil.copytree(folder / "overlays" / "production", folder / "overlays" / "europe")
    refused(alone, "whether v2 has traffic in production")
    shutil.rmtree(folder / "overlays" / "europe")

    shutil.copytree(folder, other := folder.with_name("other"))
    done = remove(*alone, "--folder", str(other))
    assert done.exit_code == 0, done.output
    assert not (other / "base" / "v2").exists()

    answer = http.post(
        f"{gateway.url}/v1/models/predict", json={"instances": [ROW]}, headers={"X-Model-Version": "v2"}, timeout=20
    )
    assert answer.json()["version"] == "v2"
    # The workers count every now and then, and until they have the version could go.
    wait_until(lambda: http.get(f"{gateway.url}/v1/metrics/v2", timeout=20).json()["recent"]["requests"] == 1, 20)
    refused(alone, "v2 has traffic")
    refused(alone, "1 requests within")


def split(gateway: Server, environment: str, weights: dict[str, float], **more: Any) -> None:
    body = {"environment": environment, "weights": weights, **more}
    answer = http.put(f"{gateway.url}/v1/traffic-split", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
