"""`shokado k8s` as it is typed, on a copy of the manifests, with a real kustomize; gateways answer elsewhere."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from configuration.settings import load_settings
from k8s.validate import FOLDER, NOT_THERE, has_kubectl, problems
from shokado.cli.app import app
from shokado.lifecycle.rollout import version_manifests
from shokado.lifecycle.rollout.manifests import render
from shokado.lifecycle.rollout.version_files import additions

pytestmark = pytest.mark.skipif(not has_kubectl(), reason=NOT_THERE)
ENVIRONMENTS = ["production", "staging"]
NOBODY = ["--unasked", "production", "--unasked", "staging"]
KINDS = {"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"}
runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER, tmp_path / "k8s")
    return tmp_path / "k8s"


@pytest.fixture
def k8s(folder: Path) -> Callable[..., Result]:
    """`shokado k8s ..` on the copy."""
    return lambda *arguments: runner.invoke(app, ["k8s", *arguments, "--folder", str(folder)])


@pytest.fixture
def unvalidated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the schemas, which take seconds, for what is not about them."""
    monkeypatch.setattr(version_manifests, "hold_to_schemas", lambda objects: None)


def tree(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """All of a folder: mode and content by path."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def gateways(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """What they are configured with."""
    (text,) = (
        item["data"]["serving.yaml"] for item in objects if item["metadata"]["name"].startswith("shokado-gateway-")
    )
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@pytest.mark.slow
def test_a_version_comes_valid_into_every_environment_and_goes_without_a_trace(
    folder: Path, k8s: Callable[..., Result]
) -> None:
    before = tree(folder)
    old = {name: {item["metadata"]["name"] for item in rendered(folder, name)} for name in ENVIRONMENTS}
    added = k8s("add-version", "v3")
    assert added.exit_code == 0, added.output
    assert "added k8s/base/v3/serving.yaml" in added.stdout
    assert "v3 is in the manifests of production and staging, without traffic" in added.stdout
    assert "note: configuration/serving.yaml does not name v3" in added.stdout
    assert "next: shokado deploy --environment staging --image IMAGE" in added.stdout
    for name in ENVIRONMENTS:
        objects = rendered(folder, name)
        assert [problem for item in objects for problem in problems(item)] == []
        assert {item["kind"] for item in objects if item["metadata"]["name"] == "shokado-v3"} == KINDS
        assert old[name] <= {item["metadata"]["name"] for item in objects} | {
            known for known in old[name] if known.startswith("shokado-gateway-")
        }
        configured = gateways(objects)
        assert list(configured["versions"]) == ["v1", "v2", "v3"]
        assert "v3" not in configured["environments"][name]["weights"]
    removed = k8s("remove-version", "v3", *NOBODY)
    assert removed.exit_code == 0, removed.output
    assert "deleted k8s/base/v3/serving.yaml" in removed.stdout
    assert "next: shokado deploy --environment production, which deletes what v3 has there" in removed.stdout
    assert tree(folder) == before


def rendered(folder: Path, environment: str) -> list[dict[str, Any]]:
    return render(environment, overlays=folder / "overlays")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_version_is_written_as_those_are_that_are_there(version: str, folder: Path) -> None:
    written = additions(folder, version + "x", None)
    for name in ("kustomization.yaml", "serving.yaml"):
        text = (written[Path("base") / (version + "x") / name] or b"").decode()
        assert text.replace(version + "x", version) == (folder / "base" / version / name).read_text()


def test_keda_scales_it_too(folder: Path, k8s: Callable[..., Result], unvalidated: None) -> None:
    k8s("add-version", "v3")
    objects = list(yaml.safe_load_all((folder / "components" / "keda" / "scaled-objects.yaml").read_text()))
    assert [item["metadata"]["name"] for item in objects] == [
        "shokado-gateway", "shokado-v1", "shokado-v2", "shokado-v3",
    ]  # fmt: skip
    assert yaml.safe_dump(objects[3]) == yaml.safe_dump(objects[2]).replace("v2", "v3")
    assert problems(objects[3]) == []


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1e3", "no", "v" * 55])
def test_a_name_stays_a_text_whatever_yaml_makes_of_it(
    version: str, folder: Path, k8s: Callable[..., Result], unvalidated: None
) -> None:
    before = tree(folder)
    added = k8s("add-version", version, "--tag", "customers:x-2")
    assert added.exit_code == 0, added.output
    objects = rendered(folder, "staging")
    assert version in gateways(objects)["versions"]
    (deployment,) = (
        item for item in objects if (item["kind"], item["metadata"]["name"]) == ("Deployment", f"shokado-{version}")
    )
    assert deployment["spec"]["selector"]["matchLabels"]["app.kubernetes.io/version"] == version
    assert load_settings(folder / "base" / version / "serving.yaml").tag_of(version) == "customers:x-2"
    assert k8s("remove-version", version, *NOBODY).exit_code == 0
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("V3", "cannot name a version here"),
        ("v_3", "cannot name a version here"),
        ("v3-", "cannot name a version here"),
        ("../v3", "cannot name a version here"),
        ("v3\n", "cannot name a version here"),
        ("v" * 56, "at most 55 of them"),
        ("v1", "v1 is in the manifests already: k8s/base/v1, k8s/base/kustomization.yaml"),
        ("runner", "runner is in the manifests already: k8s/base/runner"),
        ("redis", "redis is in the manifests already: NetworkPolicy shokado-redis, Service shokado-redis"),
        ("a", "alias a of version v1 is taken"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    version: str, message: str, folder: Path, k8s: Callable[..., Result], unvalidated: None
) -> None:
    before = tree(folder)
    result = k8s("add-version", version)
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["v9"], "There is no version v9 in the manifests; there are v1, v2."),
        (["gateway"], "k8s/base/gateway is not the folder of a version."),
        (["../v1"], "cannot name a version"),
        (["v1"], "k8s/base/gateway/serving.yaml names v1 as the active version of production"),
        (["v2", *NOBODY], "k8s/base/gateway/serving.yaml names v2 in the weights of production"),
        (["v2", "--unasked", "moon"], "There is no environment moon"),
    ],
)
def test_what_cannot_be_removed_is_refused(
    arguments: list[str], message: str, folder: Path, k8s: Callable[..., Result]
) -> None:
    before = tree(folder)
    result = k8s("remove-version", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert tree(folder) == before


def test_a_gateway_that_is_not_reached_has_not_said_that_there_is_no_traffic(
    folder: Path, k8s: Callable[..., Result], unvalidated: None
) -> None:
    k8s("add-version", "v3")
    before = tree(folder)
    unasked = k8s("remove-version", "v3", "--unasked", "staging")
    assert "No gateway has said whether v3 has traffic in production: name one of each by --url" in unasked.stderr
    assert "next: kubectl --namespace=shokado-production port-forward service/shokado-gateway" in unasked.stderr
    away = k8s("remove-version", "v3", "--unasked", "staging", "--url", "http://127.0.0.1:1")
    assert "No gateway answers at http://127.0.0.1:1" in away.stderr
    assert (unasked.exit_code, away.exit_code) == (1, 1)
    keys = ["--url", "http://a", "--url", "http://b", "--url", "http://c", "--key-file", "a", "--key-file", "b"]
    assert k8s("remove-version", "v3", *keys).exit_code == 2
    assert tree(folder) == before


def test_a_version_that_shadows_is_not_removed(folder: Path, k8s: Callable[..., Result], unvalidated: None) -> None:
    k8s("add-version", "v3")
    file = folder / "overlays" / "staging" / "serving.yaml"
    file.write_text(file.read_text().replace("strategy: hash}", "strategy: hash, shadow: v3}"))
    result = k8s("remove-version", "v3", *NOBODY)
    assert "k8s/overlays/staging/serving.yaml names v3 as the shadow of staging" in result.stderr


def test_a_folder_without_manifests_is_said(tmp_path: Path) -> None:
    for command in (["add-version", "v3"], ["remove-version", "v3"]):
        result = runner.invoke(app, ["k8s", *command, "--folder", str(tmp_path / "k8s")])
        assert result.exit_code == 1
        assert f"There are no manifests in {tmp_path / 'k8s'}: No such file or directory." in result.stderr


def test_an_environment_that_names_its_versions_elsewhere_is_left_alone(
    folder: Path, k8s: Callable[..., Result], unvalidated: None
) -> None:
    overlay = folder / "overlays" / "staging"
    (overlay / "serving.yaml").rename(overlay / "ours.yaml")
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text().replace("[serving.yaml]", "[serving.yaml=ours.yaml]"))
    before = tree(folder)
    result = k8s("add-version", "v3")
    assert result.exit_code == 1
    assert "staging has versions that are named elsewhere than in" in result.stderr
    assert tree(folder) == before


def test_what_is_written_on_one_line_is_left_alone(folder: Path, k8s: Callable[..., Result]) -> None:
    file = folder / "base" / "kustomization.yaml"
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(content, default_flow_style=True))
    before = tree(folder)
    result = k8s("add-version", "v3")
    assert f"{file} cannot be edited: " in result.stderr
    assert tree(folder) == before


def test_a_full_disk_leaves_all_files_as_they_were(
    folder: Path, k8s: Callable[..., Result], unvalidated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert k8s("add-version", "v3").exit_code == 0
    before, replace = tree(folder), Path.replace

    def full(path: Path, target: Path) -> Path:
        if target == folder / "overlays" / "staging" / "serving.yaml":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    for command in (["add-version", "v4"], ["remove-version", "v3", *NOBODY]):
        result = k8s(*command)
        assert result.exit_code == 1
        assert "No space left on device" in result.stderr
        assert "was put back" in result.stderr
        assert tree(folder) == before
