"""A model that only Python can score, by the two commands of its refusal or of the document: served, and right."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.pyfunc.model import PythonModel
from typer.testing import CliRunner

from shokado.cli.app import app
from tests.conftest import ROOT
from tests.end_to_end.test_open_inference_clients import environment_of
from tests.support import http
from tests.support.server import free_port, serving
from tests.support.waiting import wait_until

runner = CliRunner()
HELD_OUT = 50


def applicants(count: int, seed: int) -> pd.DataFrame:
    """A table with gaps, whole numbers, truth values and texts."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"income": random.normal(4e4, 9e3, count).round(2), "loans": random.integers(0, 5, count)})
    frame["employed"] = random.random(count) < 0.7
    frame["region"] = random.choice(["north", "south", "größe"], count)
    frame.loc[::4, "income"] = None
    return frame


class Rules(PythonModel):
    """A risk by rules of thumb, as a value or with its limit; or a label of it."""

    def __init__(self, gives: str) -> None:
        self.gives = gives

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        risk = 1 / (1 + model_input["income"].fillna(20_000) / 50_000) + 0.1 * model_input["loans"]
        risk = risk * np.where(model_input["employed"], 0.5, 1.25) + (model_input["region"] == "größe") * 0.01
        several = {"risk": risk, "limit": 1000 / risk}
        return {
            "value": risk,
            "values": pd.DataFrame(several),
            "array": np.column_stack(list(several.values())),
            "label": np.where(risk > 0.6, "decline", "accept"),
        }[self.gives]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty registry and an empty store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    return tmp_path


def log(gives: str, places: Path) -> None:
    # The server that scores it does not know this file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    experiment = mlflow.create_experiment("rules", artifact_location=(places / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        example = applicants(200, seed=0)
        mlflow.pyfunc.log_model(
            name="risk",
            python_model=Rules(gives),
            registered_model_name="risk",
            input_example=example,
            pip_requirements=[],
        )


@contextlib.contextmanager
def running(command: str, ready_url: str, log: Path) -> Iterator[None]:
    """What was said to run, until the context is left."""
    words = shlex.split(command)
    said = dict(word.split("=", 1) for word in words if re.match("[A-Z_]+=", word))
    program, *arguments = words[len(said) :]
    programs = {"mlflow": [str(Path(sys.executable).with_name("mlflow"))]}
    if program == "mlserver":
        programs["mlserver"] = [str(environment_of("mlserver")), "-c", "from mlserver.cli import main; main()"]
    folder = log.with_suffix("")
    folder.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*programs[program], *arguments],
            stdout=output,
            stderr=output,
            cwd=folder,
            env=os.environ | said,
            start_new_session=True,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                return http.get(ready_url, timeout=5).status_code == 200
            return False

        wait_until(ready, 120)
        yield
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.mark.parametrize("gives", ["value", "label", "array"])
def test_the_two_commands_of_the_refusal_serve_it(gives: str, places: Path) -> None:
    log(gives, places)
    refused = runner.invoke(app, ["models", "import", "models:/risk/1", "--as", "v1"])
    assert refused.exit_code == 1
    serve = re.search(r"Run `(mlflow models serve .*)`, and then:", refused.stderr)
    connect = re.search(r"next: shokado (.*)", refused.stderr)
    assert serve is not None
    assert connect is not None
    url = f"http://127.0.0.1:{free_port()}"
    commands = [
        said.replace("http://127.0.0.1:5001", url).replace("5001", url.rpartition(":")[2])
        for said in (serve[1], connect[1])
    ]
    with running(commands[0], f"{url}/ping", places / "mlflow.log"):
        check_connected(commands[1], url, gives, places)


@pytest.mark.parametrize("gives", ["values", "label"])
def test_the_two_commands_of_the_document_serve_it_by_mlserver(
    gives: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment_of("mlserver")
    log(gives, places)
    document = (ROOT / "docs" / "models.md").read_text().replace("models:/churn/3", "models:/risk/1")
    serve = re.search(r"\nMLSERVER_MODEL_NAME=.* mlserver start \.\n", document)
    connect = re.search(r"\nshokado (models connect .* --model churn)\n", document)
    assert serve is not None
    assert connect is not None
    url = f"http://127.0.0.1:{free_port()}"
    settings = {"HTTP_PORT": url.rpartition(":")[2], "GRPC_PORT": free_port(), "METRICS_PORT": free_port()}
    for name, value in {**settings, "HOST": "127.0.0.1", "PARALLEL_WORKERS": 0}.items():
        monkeypatch.setenv(f"MLSERVER_{name}", str(value))
    with running(serve[0], f"{url}/v2/models/churn/ready", places / "mlserver.log"):
        check_connected(connect[1].replace("http://127.0.0.1:8080", url), f"{url}/v2/models/churn", gives, places)


def check_connected(command: str, address: str, gives: str, places: Path) -> None:
    """Run what connects the server at that address, serve the version as is said then, and ask it."""
    connected = runner.invoke(app, shlex.split(command))
    assert connected.exit_code == 0, connected.output
    label = command.split("--as ")[1].split(maxsplit=1)[0]
    assert f"risk:{label}  imported  from models:/risk/1" in connected.stdout
    placed = re.search(r"next: in serving.yaml, (.*)", connected.stdout)
    assert placed is not None
    settings = {
        "model": "risk",
        "workers": 1,
        "versions": yaml.safe_load(placed[1]),
        "environments": {"production": {"active": label, "weights": {label: 1}}},
    }
    (places / "serving.yaml").write_text(yaml.safe_dump(settings))
    with serving(environment={"SHOKADO_CONFIG": str(places / "serving.yaml")}) as server:
        check_answers(f"{server.url}/v1/models/predict", gives)
        state = http.get(f"{server.url}/v1/models/{label}", timeout=20).json()
        assert (state["state"], state["placement"], state["address"]) == ("ready", "remote", address)


def check_answers(url: str, gives: str) -> None:
    """By name and as lists, with gaps; and what the model does not take."""
    unseen = applicants(HELD_OUT, seed=1)
    expected = mlflow.pyfunc.load_model("models:/risk/1").predict(unseen)
    records = [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in unseen.to_dict("records")
    ]
    for rows in (records, [list(row.values()) for row in records]):
        answer = http.post(url, json={"instances": rows}, timeout=60)
        assert answer.status_code == 200, answer.text
        if gives == "label":
            assert answer.json()["classes"] == list(expected)
        else:
            np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-6)
    for change, status in ({"region": "nort"}, 422), ({"loans": None}, 422), ({"employed": "yes"}, 422):
        refused = http.post(url, json={"instances": [records[0] | change]}, timeout=60)
        assert refused.status_code == status, refused.text
    assert (
        "the nearest is 'north'"
        in http.post(url, json={"instances": [records[0] | {"region": "nort"}]}, timeout=60).text
    )
