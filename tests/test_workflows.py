"""The workflows do nothing that cannot be done by hand, may do no more than they need, and run no code that can change
under them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.server import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
# A make command, or one whose output becomes the step's; no expression of GitHub's is ever part of a command.
ARGUMENTS = r"(?: [^;&|<>`(){}]*)?"
COMMAND = re.compile(
    rf"(?:sudo )?make (?P<target>[a-z0-9-]+){ARGUMENTS}"
    r'|echo "\w+=\$\(make --silent (?P<asked>[a-z-]+)\)" >> "\$GITHUB_OUTPUT"'
)
MAY_WRITE = {("image.yml", "image"), ("deliver.yml", "image")}
"""Files and jobs that publish the image."""


def workflow(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def jobs() -> list[Any]:
    found = [(path, name, job) for path in FILES for name, job in workflow(path)["jobs"].items()]
    return [pytest.param(path, name, job, id=f"{path.stem}-{name}") for path, name, job in found]


def test_there_are_workflows() -> None:
    assert {path.name for path in FILES} == {"canary.yml", "ci.yml", "deliver.yml", "image.yml"}


@pytest.mark.parametrize(("path", "name", "job"), jobs())
def test_every_command_is_a_make_target(path: Path, name: str, job: dict[str, Any]) -> None:
    commands = [step["run"] for step in job.get("steps", []) if "run" in step]
    assert commands or "uses" in job
    for command in commands:
        match = COMMAND.fullmatch(command)
        assert match, command
        assert (match["target"] or match["asked"]) in TARGETS, command


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if used := re.search(r"uses: (\S+)(.*)", line):
            local = used[1].startswith("./") and (ROOT / used[1]).is_file()
            pinned = re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used[1]) and re.fullmatch(r" # v\d+\.\d+\.\d+", used[2])
            assert local or pinned, line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_may_read_at_most(path: Path) -> None:
    assert workflow(path)["permissions"] in ({}, {"contents": "read"})


@pytest.mark.parametrize(("path", "name", "job"), jobs())
def test_a_job_may_write_only_to_publish(path: Path, name: str, job: dict[str, Any]) -> None:
    permissions = job.get("permissions", workflow(path)["permissions"])
    written = {what for what, access in permissions.items() if access == "write"}
    assert permissions["contents"] == "read"
    assert written == ({"packages", "id-token", "attestations"} if (path.name, name) in MAY_WRITE else set())


@pytest.mark.parametrize(("path", "name", "job"), jobs())
def test_secrets_belong_to_an_environment_and_to_single_steps(path: Path, name: str, job: dict[str, Any]) -> None:
    assert "secrets" not in job
    assert "secrets." not in str(job.get("env", {}))
    assert "secrets." not in str(job.get("steps", [])) or "environment" in job
    for step in job.get("steps", []):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_the_secret_of_a_cluster_becomes_a_file_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "var" / "kubeconfig"
    environment = {**os.environ, "KUBECONFIG_DATA": "kind: Config\n# $HOME \"'", "KUBECONFIG": str(file)}
    subprocess.run(["make", "kubeconfig"], cwd=ROOT, env=environment, check=True)
    assert file.read_text(encoding="utf-8").strip() == environment["KUBECONFIG_DATA"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_production_waits_for_staging_and_for_an_approval() -> None:
    deliver = workflow(ROOT / ".github" / "workflows" / "deliver.yml")["jobs"]
    assert "staging" in deliver["production"]["needs"]
    assert deliver["production"]["environment"] == "production"
    canary = workflow(ROOT / ".github" / "workflows" / "canary.yml")["jobs"]
    assert canary["promote"]["needs"] == "start"
    assert canary["promote"]["environment"] != canary["start"]["environment"]
