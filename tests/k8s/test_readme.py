"""The commands of k8s/README.md do what it says, run as they stand there on a copy of the folder."""

import base64
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from access.keys import Role, read_keys
from k8s.validate import FOLDER, NOT_THERE, has_kubectl
from tests.k8s.test_wiring import SECRETS

TEXT = (FOLDER / "README.md").read_text()
SECTIONS = {section.partition("\n")[0]: section for section in TEXT.split("\n## ")[1:]}
needs_kubectl = pytest.mark.skipif(not has_kubectl(), reason=NOT_THERE)

NO_CLUSTER = """kubectl() {
    if [[ "$*" == *"create secret"* ]]; then
        command kubectl "$@" --dry-run=client -o yaml >>made.yaml
        echo --- >>made.yaml
    fi
}
"""
"""Secrets are made, and what else would go to a cluster is not."""


def block(section: str) -> str:
    """The section's first commands."""
    return SECTIONS[section].split("```bash\n")[1].split("```")[0]


def run(commands: str, folder: Path) -> None:
    commands = commands.replace(".venv/bin/shokado", f"{sys.executable} -m lifecycle")
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def render(folder: Path) -> list[dict[str, Any]]:
    ended = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(ended.stdout))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER, tmp_path / "k8s")
    return tmp_path


@needs_kubectl
def test_the_secrets_are_made_as_the_pods_need_them(checkout: Path) -> None:
    run(NO_CLUSTER + block("Apply"), checkout)
    made = {
        secret["metadata"]["name"]: {name: base64.b64decode(text) for name, text in secret["data"].items()}
        for secret in yaml.safe_load_all((checkout / "made.yaml").read_text())
        if secret
    }
    assert {name: set(data) for name, data in made.items()} == SECRETS
    (runner, me) = read_keys(checkout / "keys.yaml").keys
    assert made["shokado-keys"]["keys.yaml"] == (checkout / "keys.yaml").read_bytes()
    assert sha256(made["shokado-keys"]["runner-key"]).hexdigest() == runner.sha256
    assert (runner.role, me.role) == (Role.PREDICT, Role.ADMIN)
    assert re.fullmatch(rb"[0-9a-f]{48}", made["shokado-redis"]["password"])
    assert not (checkout / "runner-key").exists()


@needs_kubectl
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_version_is_added_by_three_commands(environment: str, checkout: Path) -> None:
    before = render(checkout / "k8s" / "overlays" / environment)
    run(block("Add a version"), checkout)
    after = render(checkout / "k8s" / "overlays" / environment)
    known = {(resource["kind"], resource["metadata"]["name"]) for resource in before}
    added = [resource for resource in after if (resource["kind"], resource["metadata"]["name"]) not in known]
    texts = {resource["metadata"]["name"].rpartition("-")[0]: resource["data"]["serving.yaml"]
             for resource in added if resource["kind"] == "ConfigMap"}  # fmt: skip
    assert set(texts) == {"shokado-v3", "shokado-gateway"}
    assert list(yaml.safe_load(texts["shokado-v3"])["versions"]) == ["v3"]
    versions = yaml.safe_load(texts["shokado-gateway"])["versions"]
    assert list(versions) == ["v1", "v2", "v3"]
    assert versions["v3"] == {
        "placement": "remote",
        "remote": {"url": "http://shokado-v3:3000", "key_file": "/run/secrets/shokado/runner-key"},
    }
    others = {(resource["kind"], resource["metadata"]["name"]) for resource in added if resource["kind"] != "ConfigMap"}
    kinds = ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service")
    assert others == {(kind, "shokado-v3") for kind in kinds}
    (service,) = [resource for resource in added if resource["kind"] == "Service"]
    assert service["spec"]["selector"]["app.kubernetes.io/version"] == "v3"


def test_the_picture_is_followed_by_every_folder() -> None:
    rows = "".join(line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `"))
    for folder in (FOLDER, FOLDER / "overlays"):
        for part in folder.iterdir():
            if part.is_dir() and not part.name.startswith("_") and part.name != "overlays":
                assert f"{part.name}/`" in rows


def test_the_table_names_every_component() -> None:
    rows = [line.split("|")[1] for line in SECTIONS["Components"].splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert named == {folder.name for folder in (FOLDER / "components").iterdir()}
