"""The command as it is typed: help, tables, messages and exit status."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import typer
from typer.testing import CliRunner

from runners.artefacts import repository
from shokado.cli.app import app
from shokado.lifecycle.importing.version import Imported, ImportOrder, import_version
from shokado.lifecycle.refusal import plain_errors
from tests.configuration.test_credentials import SECRETS, SPELLINGS
from tests.support.waiting import wait_until

COMMANDS = [["models", name] for name in ("prepare", "train", "import", "connect", "quantize", "reference", "list")]
COMMANDS += [["serve"], ["build"], ["image"], ["log", "estimate"]]
COMMANDS += [["keys", "create"], ["keys", "list"], ["keys", "revoke"]]
COMMANDS += [["k8s", "add-version"], ["k8s", "remove-version"]]
runner = CliRunner()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_examples(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"shokado {' '.join(command)}" in result.output


def test_the_version_is_that_of_the_package() -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"shokado {version('shokado')}\n")


def test_list_shows_every_version(prepared: dict[str, Imported]) -> None:
    result = runner.invoke(app, ["models", "list"])
    assert result.exit_code == 0
    for tag, imported in prepared.items():
        assert tag in result.output
        assert imported.artefact.card.source.uri in result.output
    assert "scikit-learn" in result.output
    assert "auc 0.8" in result.output
    assert "KiB" in result.output
    assert "iris" not in runner.invoke(app, ["models", "list", "customers"]).output


def test_list_of_an_empty_store_says_what_to_do(own_store: Path) -> None:
    result = runner.invoke(app, ["models", "list"])
    assert result.exit_code == 0
    assert "next: shokado models prepare" in result.output


def test_list_names_a_damaged_artefact(prepared: dict[str, Imported], own_store: Path) -> None:
    for label in ("v1", "v2"):
        shutil.copytree(prepared[f"iris:{label}"].artefact.folder, own_store / "models" / "iris" / label)
    (own_store / "models" / "iris" / "v1" / "model.onnx").write_bytes(b"")
    result = runner.invoke(app, ["models", "list"])
    assert result.exit_code == 0
    assert "damaged: iris:v1" in result.output
    assert "iris:v2 " in result.output


def test_a_reference_is_given_and_shown(prepared: dict[str, Imported], own_store: Path, tmp_path: Path) -> None:
    folder = own_store / "models" / "iris" / "v2"
    shutil.copytree(prepared["iris:v2"].artefact.folder, folder)
    assert "120 rows" in runner.invoke(app, ["models", "list"]).output
    data = tmp_path / "iris.csv"
    names = prepared["iris:v2"].artefact.card.feature_names
    data.write_text(f"{','.join(names)},species\n5.1,3.5,1.4,.2,setosa\n")
    result = runner.invoke(app, ["models", "reference", "iris:v2", str(data)])
    assert result.exit_code == 0
    assert "ignored: species" in result.output
    assert result.output.splitlines()[-1] == f"iris:v2  has its reference from {data}"
    assert " 1 rows" in runner.invoke(app, ["models", "list"]).output
    (folder / "reference.json").write_text("{}")
    listed = runner.invoke(app, ["models", "list"])
    assert listed.exit_code == 0
    assert "damaged: the reference of iris:v2, which is served all the same: " in listed.output
    data.write_text("petal_length\n")
    refused = runner.invoke(app, ["models", "reference", "iris:v2", str(data)])
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"error: {data} lacks the columns ")


def test_unknown_data_set(prepared: dict[str, Imported]) -> None:
    result = runner.invoke(app, ["models", "prepare", "--dataset", "titanic"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: There is no data set 'titanic'; there are customers, iris")
    assert "Traceback" not in result.output


def test_the_next_command_is_said(prepared: dict[str, Imported]) -> None:
    result = runner.invoke(app, ["models", "import", "models:/customers/2", "--as", "v1"])
    assert result.exit_code == 1
    assert "next: shokado models import models:/customers/2 --name customers --as <label>" in result.stderr


@pytest.mark.slow
def test_a_label_that_is_taken_can_be_extended(prepared: dict[str, Imported]) -> None:
    command = ["models", "import", "models:/customers/2", "--as", "v1", "--beside", "--no-pickle"]
    result = runner.invoke(app, command)
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == "customers:v1-2  imported  from models:/customers/2"
    assert "customers:v1-2  already imported" in runner.invoke(app, command).output
    shutil.rmtree(repository.folder_of("customers", "v1-2"))


def test_prepare_takes_the_data_set_from_the_environment(prepared: dict[str, Imported]) -> None:
    result = runner.invoke(app, ["models", "prepare"], env={"DATASET": "iris"})
    assert result.exit_code == 0
    assert "iris:v1  already imported  from models:/iris/1" in result.output


def test_texts_have_no_quantized_version(prepared: dict[str, Imported]) -> None:
    result = runner.invoke(app, ["models", "prepare", "--dataset", "spam", "--quantized"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == ["spam:v1", "spam:v2"]


def test_a_second_prepare_loads_nothing_heavy(
    prepared: dict[str, Imported], python: Callable[..., CompletedProcess[str]]
) -> None:
    code = (
        "import sys; from shokado.cli.app import app\n"
        "app(['models', 'prepare'], standalone_mode=False)\n"
        "print(sorted({'mlflow', 'sklearn', 'xgboost', 'onnx', 'pandas', 'bentoml'} & set(sys.modules)))"
    )
    result = python("-c", code)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


@pytest.mark.parametrize("credentials", SPELLINGS)
@pytest.mark.parametrize("address", ["http://{}@127.0.0.1:9", "http://{}@no-such-host.invalid/mlflow", "x+y://{}@h/d"])
def test_a_registry_that_does_not_answer(
    own_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], credentials: str, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(credentials))
    with pytest.raises(typer.Exit) as left, plain_errors():
        import_version(ImportOrder("models:/iris/1", "v1"))
    assert left.value.exit_code == 1
    out, err = capsys.readouterr()
    shown = "error: The MLflow registry at " + address.format("***")
    assert err.startswith(f"{shown} does not answer")
    assert not SECRETS.search(out + err), err


def test_a_registry_that_does_not_answer_the_command(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://s3cret:s3cret@127.0.0.1:9")
    result = runner.invoke(app, ["models", "import", "models:/iris/1", "--as", "v1"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: The MLflow registry at http://***@127.0.0.1:9 does not answer")
    assert not SECRETS.search(result.output + result.stderr), result.stderr


def test_missing_packages_are_named_with_the_command(
    own_store: Path, python: Callable[..., CompletedProcess[str]]
) -> None:
    code = (
        "import sys; sys.modules['mlflow'] = sys.modules['skl2onnx'] = None\n"
        "from shokado.cli.app import app; app(['models', 'prepare', '-d', 'iris'])"
    )
    result = python("-c", code)
    assert result.returncode == 1
    assert "mlflow, skl2onnx" in result.stderr
    assert "next: uv pip install -r requirements/train.txt" in result.stderr


@pytest.mark.slow
def test_a_killed_import_is_as_if_it_had_not_been(
    prepared: dict[str, Imported], own_store: Path, project: Path
) -> None:
    """SIGKILL the real command while it works; the next one cleans up and does it all."""
    command = [sys.executable, "-m", "shokado", "models", "import", "models:/iris/1", "--as", "v1"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)

    def begun() -> bool:
        assert process.poll() is None
        return any((own_store / "tmp").glob("shokado-import-*/prepared/*"))

    wait_until(begun, 60, look_every_s=0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert repository.artefacts() == []
    assert list((own_store / "tmp").glob("shokado-import-*"))

    result = runner.invoke(app, ["models", "import", "models:/iris/1", "--as", "v1"])
    assert result.exit_code == 0
    assert "iris:v1  imported  from models:/iris/1" in result.output
    assert not list((own_store / "tmp").glob("shokado-import-*"))
    assert json.loads((own_store / "models" / "iris" / "v1" / "card.json").read_text())["model"] == "iris"
