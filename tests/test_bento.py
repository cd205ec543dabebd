"""The bento runs without the checkout: exported, imported into an empty home, served from an empty folder by an
environment that holds the bento's own requirements and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import bentoml
import pytest
import yaml

from shokado import __version__
from tests.support import http
from tests.support.server import ROOT, ROW, serving

pytestmark = pytest.mark.timeout(600)


def run(*command: str | Path, home: Path | None = None) -> str:
    environment = {**os.environ, **({"BENTOML_HOME": str(home)} if home else {})}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}:\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def bento(models: Path) -> bentoml.Bento:
    """What `make build` builds."""
    run(sys.executable, "-m", "shokado", "build")
    return bentoml.bentos.get("shokado:latest")


@pytest.fixture(scope="module")
def bare_environment(bento: bentoml.Bento, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the bento's requirements; its programs' folder."""
    folder = tmp_path_factory.mktemp("environment")
    uv = Path(sys.executable).with_name("uv")
    run(uv, "venv", "--quiet", "--python", sys.executable, folder)
    requirements = Path(bento.path) / "env" / "python" / "requirements.txt"
    run(uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "-r", requirements)
    return folder / "bin"


@pytest.fixture(scope="module")
def carried_home(bento: bentoml.Bento, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BentoML home that knows the bento and nothing else."""
    folder = tmp_path_factory.mktemp("carried")
    bentoml_program = Path(sys.executable).with_name("bentoml")
    run(bentoml_program, "export", str(bento.tag), folder / "shokado.bento")
    run(bentoml_program, "import", folder / "shokado.bento", home=folder / "home")
    return folder / "home"


@pytest.mark.slow
def test_the_bento_is_served_from_an_empty_folder(bare_environment: Path, carried_home: Path, tmp_path: Path) -> None:
    environment = {"BENTOML_HOME": str(carried_home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    program = bare_environment / "bentoml"
    with serving("shokado:latest", cwd=tmp_path, environment=environment, program=program) as server:
        for version in ("v1", "v2"):
            body = {"instances": [ROW], "version": version}
            answer = http.post(f"{server.url}/v1/models/predict", json=body, timeout=20).json()
            assert answer["version"] == version
            assert 0 <= answer["predictions"][0] <= 1
        versions = http.get(f"{server.url}/v1/models", timeout=20).json()["versions"]
        assert {entry["source"]["uri"] for entry in versions} == {"models:/customers/1", "models:/customers/2"}
        # Where nothing of Shokado is installed.
        assert http.get(f"{server.url}/version", timeout=20).text == __version__
        assert "<h1>customers</h1>" in http.get(server.url, headers={"Accept": "text/html"}, timeout=20).text


def test_what_the_service_imports_is_in_the_bento(models: Path, tmp_path: Path) -> None:
    """Without a build, which takes a while, so that a package that `bentofile.yaml` forgets is seen at once."""
    for pattern in yaml.safe_load((ROOT / "bentofile.yaml").read_text(encoding="utf-8"))["include"]:
        for path in ROOT.glob(f"{pattern}/*" if pattern.endswith("**") else pattern):
            if path.is_file():
                (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / path.relative_to(ROOT))
    # The last two are imported when a server starts.
    modules = "service, shokado.cli.canary, shokado.control.app, shokado.worker.gateway"
    command = [sys.executable, "-c", f"import {modules}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_canary_runs_from_the_bento(bento: bentoml.Bento, bare_environment: Path) -> None:
    command = [
        str(bare_environment / "python"),
        "-m",
        "shokado.cli.canary",
        "run",
        "v2",
        "--url",
        "http://127.0.0.1:1",
    ]
    ended = subprocess.run(command, cwd=Path(bento.path) / "src", capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: No gateway answers at http://127.0.0.1:1")


def test_the_bare_environment_cannot_train(bare_environment: Path) -> None:
    probe = "import importlib.util as u; print([n for n in ('mlflow', 'sklearn', 'onnx', 'pandas') if u.find_spec(n)])"
    assert run(bare_environment / "python", "-c", probe).strip() == "[]"


def test_the_labels_carry_the_versions_and_their_sources(bento: bentoml.Bento) -> None:
    labels = yaml.safe_load((Path(bento.path) / "bento.yaml").read_text(encoding="utf-8"))["labels"]
    assert labels == {
        "project": "shokado", "model": "customers", "v1": "models:/customers/1", "v2": "models:/customers/2",
    }  # fmt: skip


def test_nothing_of_this_machine_is_in_the_bento(bento: bentoml.Bento) -> None:
    texts = [path for path in Path(bento.path).rglob("*") if path.suffix in {".txt", ".in", ".yaml", ".md", ".sh"}]
    assert texts
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert "--find-links" not in text
        assert "index-url" not in text
        assert str(ROOT) not in text, path


def test_only_what_serving_needs_is_in_the_bento(bento: bentoml.Bento) -> None:
    source = Path(bento.path) / "src"
    assert {path.name for path in source.iterdir()} == {
        "README.md", "bentofile.yaml", "configuration", "runners", "service.py", "shokado",
    }  # fmt: skip
