"""`make all`, with servers that run already: every step in its order, and none after the first failure."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.delivery import Delivery, delivery
from tests.support.server import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MADE = ["--old-file=.venv/.dev", "--old-file=.venv/.train"]
"""What stands for the environment of the one who runs the tests."""


@pytest.fixture(scope="module")
def sites(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivery]:
    with delivery(models, tmp_path_factory.mktemp("all")) as both:
        yield both


@pytest.fixture(scope="module")
def home(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store of its own, in which bentos are built."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(models / "models" / "customers", home / "models" / "customers")
    return home


def make(home: Path, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # What `make test` itself was told is not for these.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "ARGS")}
    environment = inherited | {"BENTOML_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = ["make", *MADE, *words, "DEPLOY=", f"EXPORT_TO={folder}"]
    return subprocess.run(
        command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, timeout=1000, check=False
    )


def test_everything_is_done_in_its_order(sites: Delivery, home: Path, tmp_path: Path) -> None:
    done = make(home, tmp_path / "out", "all", "CANDIDATE=models:/customers/2")
    assert done.returncode == 0, done.stdout + done.stderr
    told = [
        "shokado:",
        "customers:v2  exported",
        "v2 is active in staging",
        "staging: all is well",
        "v2 is a candidate in",
    ]
    assert sorted(told, key=done.stdout.index) == told
    (bento,) = (home / "bentos" / "shokado").glob("*/src/configuration")
    assert (bento / "serving.yaml").exists()
    assert not (bento / "sites.yaml").exists()
    assert sorted(path.name for path in (tmp_path / "out" / "customers").iterdir()) == ["v1", "v2"]
    assert sites.split(sites.staging, "staging")["active"] == "v2"
    assert sites.split(sites.production)["shares"] == {"v1": 0.9, "v2": 0.1}
    assert sites.aliases()["staging"] == 2


def test_the_first_failure_is_the_end(sites: Delivery, home: Path, tmp_path: Path) -> None:
    before = sites.split(sites.production)
    steps = "STEPS=export staging smoke-test production"
    done = make(home, tmp_path / "out", "all", steps, "CANDIDATE=models:/customers/99", "-j4", "ARGS=--nonsense")
    assert done.returncode != 0
    assert "customers:v2  exported" in done.stdout
    assert "has no models:/customers/99" in done.stderr
    assert "staging] Error 1" in done.stderr
    assert "all is well" not in done.stdout
    assert sites.split(sites.production) == before


@pytest.mark.parametrize("target", ["export", "staging", "smoke-test", "status"])
def test_each_step_is_there_alone(target: str, sites: Delivery, home: Path, tmp_path: Path) -> None:
    done = make(home, tmp_path / "out", target, "CANDIDATE=models:/customers/2")
    assert done.returncode == 0, done.stdout + done.stderr
