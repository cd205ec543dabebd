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

from k8s.validate import FOLDER, NOT_THERE, has_kubectl
from shokado.access.keys import Role, read_keys
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
    commands = re.sub(r"shokado (k8s .*)", r"shokado \1 --folder k8s", commands)
    commands = commands.replace(".venv/bin/shokado", f"{sys.executable} -m shokado")
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


@pytest.mark.slow
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


@pytest.mark.slow
@needs_kubectl
def test_a_version_comes_and_goes_by_a_command_each(checkout: Path) -> None:
    def files() -> dict[Path, bytes]:
        found = (path for path in checkout.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
        return {path: path.read_bytes() for path in found}

    before = files()
    come, go = (
        line for line in SECTIONS["Versions come and go"].splitlines() if line.startswith(".venv/bin/shokado k8s")
    )
    run(come, checkout)
    assert checkout / "k8s" / "base" / "v3" / "serving.yaml" in files()
    # Nothing runs here that could be asked.
    run(re.sub(r"--url \S+", "--unasked staging", go), checkout)
    assert files() == before


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
