"""`shokado serve` as it is typed: what is refused at once, and a whole run from the registry to an answer."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configuration.settings import load_settings
from runners.artefacts import repository
from shokado.cli.app import app
from shokado.lifecycle.importing.version import Imported
from tests.support import http
from tests.support.server import ROOT, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

runner = CliRunner()
SHOKADO = Path(sys.executable).with_name("shokado")


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("", 2, "name a version, such as models:/churn/3, or a file with --config"),
        ("--config churn.yaml --split 90,10", 2, "go with versions"),
        ("--config churn.yaml --no-rows", 2, "go with versions"),
        ("models:/churn/3 --split 90,10", 2, "has 2 weights for 1 version"),
        ("models:/churn/3 models:/churn/4 --split 90,ten", 2, "is no weight"),
        ("models:/churn/3 --port 80000", 2, "65535"),
        ("models:/churn/3 --workers 0", 2, "greater than or equal to 1"),
        ("models:/churn/3 --host example", 2, "is no address"),
        ("model:/churn/3", 1, "is no address of a model"),
        ("models:/churn/3 models:/loan/3", 1, "--name churn"),
        ("--config nowhere.yaml", 1, "There is no file"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(typed: str, code: int, said: str, own_store: Path) -> None:
    result = runner.invoke(app, ["serve", *shlex.split(typed)])
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not own_store.exists()


def test_a_version_is_imported_and_served_by_one_command(
    prepared: dict[str, Imported], own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that was started becomes the server: its signals and its exit code are the server's."""
    file, options = tmp_path / "kept.yaml", "--workers 1 --config kept.yaml"
    store = {"SHOKADO_STORE": f"sqlite:///{tmp_path / 'routing.db'}"}
    with serving(f"models:/iris@challenger {options}", tmp_path, store, SHOKADO) as server:
        printed = server.log.read_text()
        steps = ["load models:/iris/2", "iris:v2: convert", "iris:v2: verify", "iris:v2: store"]
        assert all(step in printed for step in steps)
        assert "iris:v2  imported  from models:/iris/2\n" in printed
        body = {"instances": [[5.1, 3.5, 1.4, 0.2]], "version": "challenger"}
        answer = http.post(f"{server.url}/v1/models/predict", json=body, timeout=20)
        assert (answer.status_code, answer.json()["version"]) == (200, "v2")
        assert server.stop() == 0
    settings = load_settings(file)
    assert (settings.model, settings.workers, settings.tag_of("v2")) == ("iris", 1, "iris:v2")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with serving(f"models:/iris/2 {options}", tmp_path, store, SHOKADO) as server:
        assert server.log.read_text().startswith("iris:v2  already imported  from models:/iris/2\n")
        before = file.read_text()
        beside = runner.invoke(app, ["serve", "models:/iris/2", "--config", str(file)])
        assert (beside.exit_code, file.read_text()) == (1, before)
        assert "error: A server runs by " in beside.stderr
        assert server.stop() == 0


def test_an_import_that_is_interrupted_leaves_nothing(
    prepared: dict[str, Imported], own_store: Path, tmp_path: Path
) -> None:
    file = tmp_path / "kept.yaml"
    command = [str(SHOKADO), "serve", "models:/iris/2", "--config", str(file)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell has what it starts in the background ignore Ctrl-C, and tests may be started so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # there are no threads
    )
    wait_until(lambda: bool(list((own_store / "tmp").glob("shokado-import-*/prepared/*"))), 60)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert repository.artefacts() == []
    assert not list((own_store / "tmp").glob("shokado-import-*"))
    assert not file.exists()


def test_make_serve_does_the_same() -> None:
    make = ["make", "--no-print-directory", "--dry-run", "--old-file=.venv/.train"]
    own = ["serve", "PORT=3001", "HOST=localhost", "MODEL=models:/churn/3 models:/churn@b", "SPLIT=90,10"]
    # What was given to `make test` is no argument of this one.
    unled = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")}
    planned = subprocess.run([*make, *own], cwd=ROOT, env=unled, capture_output=True, text=True, check=True).stdout
    last = shlex.split(planned.splitlines()[-1])
    typed = ["serve", "models:/churn/3", "models:/churn@b", "--split", "90,10", "--host", "127.0.0.1", "--port", "3001"]
    assert last == ["exec", ".venv/bin/python", "-m", "shokado", *typed]


@pytest.mark.parametrize(("dataset", "has_layers"), [("iris", True), ("spam", False)])
def test_make_serve_adds_the_quantized_version_where_there_is_one(dataset: str, has_layers: bool) -> None:
    make = ["make", "--no-print-directory", "--dry-run", "--old-file=.venv/.train", "serve", f"DATASET={dataset}"]
    planned = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert f".venv/bin/python -m shokado models prepare --dataset {dataset} --quantized" in planned
    assert ("SHOKADO_VERSIONS__V2-QUANTIZED={}" in shlex.split(planned[-1])) == has_layers
