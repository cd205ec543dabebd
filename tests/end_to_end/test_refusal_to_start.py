"""A server that cannot serve says why in one line and ends, instead of showing its insides."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT, free_port
from tests.support.shelf import own_shelf

pytestmark = pytest.mark.slow


def serve(environment: dict[str, str], port: int | None = None) -> "subprocess.CompletedProcess[str]":
    """`bentoml serve` to its end."""
    bentoml = str(Path(sys.executable).with_name("bentoml"))
    command = [bentoml, "serve", "service:Shokado", "--port", str(port or free_port())]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=150, check=False)


def assert_one_line(ended: "subprocess.CompletedProcess[str]", *said: str) -> None:
    assert ended.returncode != 0
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert ended.stdout == ""
    for words in said:
        assert words in lines[0]


def test_without_models_it_names_the_command_that_makes_them(tmp_path: Path) -> None:
    assert_one_line(serve({"BENTOML_HOME": str(tmp_path)}), "customers:v1", "make models")


def test_without_the_keys_that_it_should_have_it_does_not_start(models: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "keys.yaml")
    assert_one_line(serve({"SHOKADO_ACCESS__KEYS_FILE": missing}), missing, "No such file")
    assert_one_line(serve({"SHOKADO_ACCESS__REQUIRED": "true"}), "keys_file", "shokado keys create")


def test_a_server_none_of_whose_versions_can_be_served_ends_with_the_reason(models: Path, tmp_path: Path) -> None:
    """As in a pod: its container is started again, and its status has the last of what it said."""
    with own_shelf("deadly") as shelf:
        tag = shelf.crashing("v1").tag
        alone = {
            "model": "customers",
            "versions": {"v1": {"tag": tag}},
            "environments": {"production": {"active": "v1", "weights": {"v1": 1}}},
        }
        (tmp_path / "serving.yaml").write_text(json.dumps(alone))
        ended = serve(
            {"SHOKADO_CONFIG": str(tmp_path / "serving.yaml"), "SHOKADO_STORE": f"sqlite:///{tmp_path / 'routing.db'}"}
        )
    assert ended.returncode == 1
    # The supervisor may have a word after it about the worker that was the last but one.
    assert "nothing can be served: v1: it kills the process that opens it: SIGSEGV" in "".join(
        ended.stdout.splitlines()[-3:]
    )
    assert ended.stderr.splitlines()[-1].endswith("the last one, has nothing to serve")
    assert "Traceback" not in ended.stdout + ended.stderr


def test_an_unknown_model_names_the_command_as_well(models: Path) -> None:
    assert_one_line(serve({"SHOKADO_MODEL": "cats"}), "cats:v1", "make models")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SHOKADO_WORKRES", "2", "SHOKADO_WORKERS"),
        ("SHOKADO_WORKERS", "many", "workers"),
        ("SHOKADO_LIMITS__MAX_ROWS", "0", "limits.max_rows"),
        ("SHOKADO_VERSIONS__V1__PLACEMENT", "moon", "versions.v1.placement"),
        ("SHOKADO_CONFIG", "/nowhere/serving.yaml", "/nowhere/serving.yaml"),
    ],
)
def test_a_wrong_setting_is_named(models: Path, variable: str, value: str, said: str) -> None:
    assert_one_line(serve({variable: value}), said)


def test_a_port_that_is_none_is_not_cut_to_another(models: Path) -> None:
    assert_one_line(serve({}, port=80_000), "--port 80000", "1 to 65535")
    made = subprocess.run(["make", "serve", "PORT=80000"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert made.stderr.startswith("make: PORT=80000: a port is a number from 1 to 65535: make serve PORT=3000\n")
