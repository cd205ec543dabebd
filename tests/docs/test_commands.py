"""The commands of README.md and docs/ are run as they stand there; only ports and addresses are the test's."""

import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pandas as pd
import psutil
import pytest
import yaml

from configuration.retraining_settings import RetrainingSettings
from configuration.segment_settings import SegmentSettings
from configuration.settings import EngineChoice
from k8s.validate import NOT_THERE
from runners.artefacts.repository import find_artefact
from runners.engines.engine import open_engine
from shokado.dispatch.told_verdict import VerdictWord
from shokado.lifecycle.datasets import CUSTOMERS_FEATURES, generate_customers
from shokado.lifecycle.packaging.imaging import ContainerEngine, Image
from shokado.retraining.webhook import read_key
from tests.cli import test_drift as test_drift_command
from tests.docs.pages import BLOCKS, EXECUTABLE, README, RUN, Block, runs
from tests.docs.shell import ENVIRONMENT, shell
from tests.end_to_end import test_batch as test_batch_command
from tests.end_to_end.delivery import delivery
from tests.end_to_end.test_open_inference_clients import environment_of
from tests.frameworks import test_documents
from tests.lifecycle.kubernetes_api import running
from tests.lifecycle.test_estimating import HOUR_S, SHARES, World, events
from tests.request_log.test_shipper import write as write_log
from tests.support import http
from tests.support.feature_store import transforming
from tests.support.paper_log import PaperLog
from tests.support.server import ROOT, ROW, Server, serving
from tests.support.waiting import wait_until
from tests.tools import needs

SERVE = ".venv/bin/bentoml serve service:Shokado --port 3001"
needs_curl = needs("curl")


def at(server: Server, text: str) -> str:
    """The commands, or the program, for that server."""
    return re.sub(r"http://localhost:300[01]", server.url, text)


def answers_to(command: str) -> list[dict[str, Any]]:
    """What the last commands of a block printed: one JSON object after the other."""
    text = shell(command).strip()
    decoder, found = json.JSONDecoder(), []
    while text:
        answer, end = decoder.raw_decode(text)
        assert "error" not in answer, answer
        found.append(answer)
        text = text[end:].strip()
    return found


def settings_of(line: str) -> dict[str, str]:
    """What a line that serves sets; it is a line that `serving` runs."""
    *settings, command = re.split(r" (?=SHOKADO_|\.venv)", line.strip())
    assert command == SERVE
    return dict(setting.split("=", maxsplit=1) for setting in settings)


@pytest.fixture(scope="module")
def checkout(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This folder with a `var/` of its own, in which there is a registry: a copy of the tests' own."""
    folder = tmp_path_factory.mktemp("checkout")
    for entry in ROOT.iterdir():
        if entry.name not in {".git", ".venv", "var"}:
            (folder / entry.name).symlink_to(entry)
    (folder / ".venv").symlink_to(ENVIRONMENT)
    (folder / "var").mkdir()
    shutil.copy(models.parent / "mlflow.db", folder / "var")
    return folder


@pytest.fixture(scope="module")
def own_places(models: Path, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model store that may be changed, and the registry of that folder."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(models / "models", home / "models")
    return {"BENTOML_HOME": str(home), "MLFLOW_TRACKING_URI": f"sqlite:///{checkout / 'var' / 'mlflow.db'}"}


@pytest.fixture(scope="module")
def own_server(own_places: dict[str, str]) -> Iterator[Server]:
    """A server whose split may be changed."""
    with serving(environment={"SHOKADO_WORKERS": "2", **own_places}) as running:
        yield running


def predict(server: Server, *units: str) -> list[dict[str, Any]]:
    """What each unit is answered, by whichever worker takes its connection."""
    with httpx.Client(base_url=server.url, headers={"Connection": "close"}, timeout=20) as client:
        body = {"instances": [ROW]}
        answers = [client.post("/v1/models/predict", json=body, headers={"X-Unit-ID": unit}) for unit in units]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


def versions_of(server: Server, generation: int) -> list[str]:
    """The versions that 100 users get once both workers are at that generation."""
    users = [f"user-{number}" for number in range(100)]
    server.wait_for_generation(generation)
    return [answer["version"] for answer in predict(server, *users)]


def labels_in(status: dict[str, Any]) -> int:
    """How many labels `/ab-test/status` counts."""
    return sum(version["labels"] for version in status["versions"].values())


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in EXECUTABLE], ids=str)
def test_every_command_is_run(block: Block) -> None:
    assert block in RUN, f"no test here, nor in {test_documents.__name__}, asks for it with @runs"


@needs_curl
@runs(README, "A request", language="json", argument="shown")
@runs(README, "A request", containing="instances")
def test_a_prediction_is_answered_as_the_readme_shows(commands: list[str], shown: list[str], server: Server) -> None:
    (command,), (text,) = commands, shown
    wanted = json.loads(text)
    # The split may choose the other version; in 200 tries it chooses the one that is shown.
    answers = (json.loads(shell(at(server, command))) for _ in range(200))
    answer = next(answer for answer in answers if answer["version"] == wanted["version"])
    assert list(answer) == list(wanted)
    assert answer["predictions"] == pytest.approx(wanted["predictions"], abs=1e-4)


@needs_curl
@runs(README, "A request", containing="X-Model-Version")
def test_a_row_may_be_an_object_and_a_version_pinned(commands: list[str], server: Server) -> None:
    (command,) = commands
    (answer,) = answers_to(at(server, command))
    assert answer["model_version"] == "v2"


@runs(README, "A request", language="python")
def test_the_client_gets_a_prediction(commands: list[str], server: Server) -> None:
    (program,) = commands
    assert re.fullmatch(r"v[12] \[0\.\d+\]\n", shell(f"{sys.executable} -c '{at(server, program)}'"))


@runs("docs/client.md", "Predictions", language="python")
def test_the_client_takes_rows_of_every_form(commands: list[str], server: Server) -> None:
    (program,) = commands
    lines = shell(f"{sys.executable} -c '{at(server, program)}'").splitlines()
    assert len(lines) == 3
    assert set(lines) == {lines[0]}
    assert re.fullmatch(r"\[0\.\d+\] \[0\] PINNED", lines[0])


@runs("docs/client.md", "The split, feedback, versions", language="python")
def test_the_client_changes_the_split_and_takes_it_back(commands: list[str], own_server: Server) -> None:
    (program,) = commands
    before = httpx.get(f"{own_server.url}/v1/traffic-split", timeout=20).json()
    refused, split, *_ = shell(f"{sys.executable} -c '{at(own_server, program)}'").splitlines()
    assert refused == "412 generation_conflict"
    assert split == str(before["percent"])


@runs("docs/predictions.md", "Clients of other APIs", language="python")
def test_the_client_of_bentoml_gets_a_prediction(commands: list[str], server: Server) -> None:
    (program,) = commands
    assert "predictions" in shell(f"{sys.executable} -c '{at(server, program)}'")


@runs("docs/predictions.md", "Rows", language="python")
def test_packed_rows_are_answered_with_packed_scores(commands: list[str], server: Server) -> None:
    (program,) = commands
    assert re.fullmatch(r"\[0\.\d+\] v[12]\n", shell(f"{sys.executable} -c '{at(server, program)}'"))


@needs_curl
@runs("docs/predictions.md", "Clients of other APIs")
def test_a_client_of_the_open_inference_protocol_is_answered(commands: list[str], server: Server) -> None:
    (command,) = commands
    (answer,) = answers_to(at(server, command))
    assert [output["name"] for output in answer["outputs"]] == ["predictions", "classes"]


@pytest.mark.slow
@runs("docs/development.md", "Load")
def test_the_demo_asks_a_running_server(commands: list[str], server: Server) -> None:
    (command,) = commands
    assert command.startswith("make ")
    printed = shell(command.replace("make", f"make --old-file=.venv/.dev PORT={server.port}"))
    assert "200" in printed


@needs_curl
@runs("docs/experiments.md", "Who would move")
@runs(README, "A canary", argument="canary")
def test_who_would_move_is_told_before_the_change(
    canary: list[str], commands: list[str], own_server: Server, checkout: Path
) -> None:
    begin, (command, typed) = at(own_server, canary[0]), commands
    (split,) = answers_to(begin)
    versions_of(own_server, split["generation"])
    recent, named = answers_to(at(own_server, command))
    assert recent["sampled"] > 0
    assert {move["after"] for move in recent["moves"]} <= {"v2"}
    assert (named["units"], named["generation"]) == (2, split["generation"])
    printed = shell(re.sub(r"(shokado split .*)", rf"\1 --url {own_server.url}", typed), cwd=checkout)
    assert re.search(r"production: \d of 3 units \(", printed)
    assert re.search(r"production: [\d.]+% of the requests \(", printed)
    assert httpx.get(f"{own_server.url}/v1/traffic-split", timeout=20).json()["weights"] == {"v1": 90, "v2": 10}


@runs("docs/lifecycle.md", "Smoke test")
def test_a_site_is_tried(commands: list[str], own_server: Server) -> None:
    (command,) = commands
    printed = shell(command, {"SHOKADO_SITES__STAGING__URL": own_server.url})
    assert printed.endswith("staging: all is well\n")


@pytest.mark.slow
@runs("docs/lifecycle.md", "Export")
def test_versions_are_exported_and_restored(commands: list[str], own_places: dict[str, str], checkout: Path) -> None:
    (command,) = commands
    printed = shell(command, own_places, checkout)
    assert "customers:v2  already there  from var/export/customers/v2" in printed
    shell("sha256sum --check --strict SHA256SUMS", cwd=checkout / "var" / "export" / "customers" / "v1")


@pytest.mark.slow
@pytest.mark.timeout(900)
@runs("docs/lifecycle.md", "Status", argument="look")
@runs("docs/lifecycle.md", "Watch", argument="watch")
@runs("docs/lifecycle.md", "Stage, promote, roll back")
def test_a_version_goes_to_production_and_back(
    commands: list[str], watch: list[str], look: list[str], models: Path, checkout: Path, tmp_path: Path
) -> None:
    with delivery(models, tmp_path) as sites:
        printed = shell(commands[0], cwd=checkout)
        assert "v2 is active in staging: v2 100 %" in printed
        assert "v2 is a candidate in production: v1 90 %, v2 10 %" in printed
        assert "v2 taken back in production" in printed
        assert sites.aliases()["staging"] == 2
        sites.client.set_registered_model_alias("customers", "challenger", "1")
        printed = shell(watch[0], cwd=checkout)
        assert "models:/customers/1 is taken: v1 is active in production" in printed
        printed = shell(look[0], cwd=checkout)
        assert f"production  {sites.production.url}  v1 is active" in printed


@pytest.mark.slow
@runs("docs/lifecycle.md", "Verify")
def test_a_version_is_verified_again(commands: list[str], own_places: dict[str, str], checkout: Path) -> None:
    (command,) = commands
    names = [feature.name for feature in CUSTOMERS_FEATURES]
    pd.DataFrame(generate_customers(300, seed=1)[0], columns=names).to_parquet(checkout / "customers.parquet")
    printed = shell(command, own_places, checkout)
    assert "customers:v1 model.onnx  32 rows, largest difference" in printed
    assert "customers:v1 model.onnx  300 rows, largest difference" in printed


@needs_curl
@runs("docs/experiments.md", "Experiments that share no unit")
def test_an_experiment_has_a_part_of_a_layer(commands: list[str], own_server: Server) -> None:
    (command,) = commands
    begin, explain = at(own_server, command).strip().rsplit("\n", maxsplit=1)
    split, begun = answers_to(begin)
    try:
        layer = {"name": "checkout", "from": 0.0, "to": 0.5}
        assert (split["strategy"], begun["running"], begun["plan"]["layer"]) == ("hash", True, layer)
        own_server.wait_for_generation(split["generation"] + 1)
        (explained,) = answers_to(explain)
        (answer,) = predict(own_server, "user-17")
        assert answer["reason"] == ("STICKY" if explained["layer"]["position"] < 0.5 else "OUTSIDE_LAYER")
    finally:
        stopped = http.post(f"{own_server.url}/v1/experiments/{begun['id']}/stop", json={}, timeout=20)
    assert stopped.status_code == 200


@needs_curl
@runs("docs/experiments.md", "Rollouts that wait for the verdict")
def test_a_rollout_is_told_a_verdict(commands: list[str], server: Server) -> None:
    (command,) = commands
    (answer,) = answers_to(at(server, command))
    assert answer["environment"] == "production"
    assert answer["verdict"] in list(VerdictWord)


@needs_curl
@runs("docs/experiments.md", "The split", argument="more")
@runs("docs/experiments.md", "Feedback", argument="feedback")
@runs(README, "A canary", argument="canary")
def test_the_canary_walks_from_a_tenth_to_all_and_back(
    canary: list[str], feedback: list[str], more: list[str], own_server: Server
) -> None:
    begin, look, back, tell, curves, change = (at(own_server, command) for command in (*canary, *feedback, *more))

    (split,) = answers_to(begin)
    assert (split["weights"], split["strategy"]) == ({"v1": 90, "v2": 10}, "hash")
    tenth = versions_of(own_server, split["generation"])
    assert 1 <= tenth.count("v2") <= 25

    before, _ = answers_to(look)
    (counted,) = answers_to(tell)
    assert counted["accepted"] == 1

    status, metrics = answers_to(look)
    assert labels_in(status) == labels_in(before) + 1
    assert (metrics["version"], metrics["since_start"]["errors"]) == ("v2", 0)
    (quality,) = answers_to(curves)
    known = [found["accuracy"] for found in quality["versions"].values() if found["accuracy"] is not None]
    assert sum(sum(accuracy["observations"]) for accuracy in known) >= 1

    (present,) = predict(own_server, "user-17")
    explained, half, all_of_it = answers_to(change)
    assert explained["version"] == present["version"]
    assert explained["after"]["version"] in {"v1", "v2"}
    assert (half["weights"], all_of_it["weights"]) == ({"v1": 50, "v2": 50}, {"v1": 0, "v2": 100})
    assert set(versions_of(own_server, all_of_it["generation"])) == {"v2"}

    history, restored = answers_to(back)
    *_, first = entries = history["entries"]
    assert [entry["action"] for entry in (*entries[:3], first)] == ["split", "split", "split", "configured"]
    assert (restored["weights"], restored["strategy"]) == ({"v1": 80, "v2": 20}, "random")
    assert restored["generation"] == all_of_it["generation"] + 1
    assert {"v1", "v2"} == set(versions_of(own_server, restored["generation"]))


@needs_curl
@runs("docs/experiments.md", "The split", argument="more")
@runs(README, "A canary", containing='"v2": 10', argument="canary")
def test_half_of_the_users_keep_their_version_when_the_canary_grows(
    canary: list[str], more: list[str], own_server: Server
) -> None:
    (split,) = answers_to(at(own_server, canary[0]))
    before = versions_of(own_server, split["generation"])
    half = more[0].split("curl")[2]
    (split,) = answers_to(at(own_server, "curl" + half))
    after = versions_of(own_server, split["generation"])
    assert all(now == "v2" for then, now in zip(before, after, strict=True) if then == "v2")


@pytest.mark.slow
@needs_curl
@runs("docs/models.md", "Load a version while serving")
def test_a_version_is_loaded_from_the_registry_while_serving(
    commands: list[str], own_server: Server, own_places: dict[str, str], checkout: Path
) -> None:
    (command,) = commands
    printed = shell(at(own_server, command), own_places, checkout)
    loaded = json.loads(printed[printed.index('{"') :])
    assert (loaded["version"]["version"], loaded["version"]["state"]) == ("v3", "ready")
    pinned = http.post(f"{own_server.url}/v1/models/predict", json={"instances": [ROW], "version": "v3"}, timeout=20)
    assert (pinned.status_code, pinned.json()["version"]) == (200, "v3")


@pytest.mark.slow
@needs_curl
@runs("docs/experiments.md", "A canary by policy")
def test_a_canary_by_policy_starts_and_is_taken_back(commands: list[str], own_server: Server, checkout: Path) -> None:
    (command,) = commands
    command = re.sub(r"(shokado canary .*)", rf"\1 --url {own_server.url}", at(own_server, command))
    printed = shell(command, cwd=checkout)
    assert "INCONCLUSIVE at 10 %" in printed
    with httpx.Client(base_url=own_server.url, timeout=20) as client:
        assert client.get("/v1/traffic-split").json()["weights"] == {"v1": 100, "v2": 0}
        actions = [entry["by"] for entry in client.get("/v1/traffic-split/history").json()["entries"][:2]]
    assert all("shokado canary" in by for by in actions), actions


@pytest.mark.slow
@needs_curl
@runs(README, "Your own model", language="python", argument="program")
@runs(README, "Your own model")
def test_a_model_of_ones_own_is_logged_imported_and_served(
    commands: list[str], program: list[str], checkout: Path, own_places: dict[str, str]
) -> None:
    train, serve, ask = commands
    (checkout / "var" / "titanic.py").write_text(program[0])
    shell(train, own_places, checkout)
    shokado, verb, *options = shlex.split(serve)
    assert (verb, options[-2:]) == ("serve", ["--port", "3001"])
    # The links of this folder lead the command into this repository, where somebody's own file may be.
    target = shlex.join([*options[:-2], "--config", str(checkout / "var" / "titanic.yaml")])
    environment = {"SHOKADO_WORKERS": "1", **own_places}
    with serving(target, checkout, environment, program=checkout / shokado) as server:
        printed = server.log.read_text()
        assert all(f"titanic:{label}  imported  from models:/titanic/{label[1]}" in printed for label in ("v1", "v2"))
        (answer,) = answers_to(at(server, ask))
        assert answer["classes"] == [1]
        served = http.get(f"{server.url}/v1/models", timeout=20).json()["versions"]
        split = http.get(f"{server.url}/v1/traffic-split", timeout=20).json()["weights"]
    assert {version["version"]: version["source"]["uri"] for version in served} == {
        "v1": "models:/titanic/1",
        "v2": "models:/titanic/2",
    }
    assert split == {"v1": 90, "v2": 10}


@pytest.mark.slow
@runs("docs/operating.md", "Configuration", argument="serve")
@runs("docs/security.md", "Keys", argument="make_key")
def test_the_key_that_is_made_opens_the_server_that_is_configured(
    make_key: list[str], serve: list[str], checkout: Path
) -> None:
    (command,), (line,) = make_key, serve
    path = checkout / "var" / "keys.yaml"
    printed = shell(f"{command.strip()} --file {path}", cwd=checkout)
    change = {"v1": 1, "v2": 1}
    with serving(environment={"SHOKADO_ACCESS__KEYS_FILE": str(path), **settings_of(line)}) as locked:
        url = f"{locked.url}/v1/traffic-split"
        assert http.post(url, json=change, timeout=20).status_code == 401
        answers = [http.post(url, json=change, headers={"x-api-key": word}, timeout=20) for word in printed.split()]
        (opened,) = [answer for answer in answers if answer.status_code == 200]
        assert opened.json()["by"] == "key me"
        assert len(locked.workers()) == 3, "two gateways, and a service of v1"


@runs("docs/models.md", "Where versions come from")
def test_the_list_of_models_is_shown(commands: list[str], models: Path, checkout: Path) -> None:
    (command,) = commands
    assert "customers:v1" in shell(command, cwd=checkout)


@pytest.mark.slow
@runs("docs/models.md", "Several values a row", language="python")
def test_values_are_called_what_the_signature_calls_them(
    commands: list[str], own_places: dict[str, str], checkout: Path, tmp_path: Path
) -> None:
    (signed,) = commands
    program = (
        "import mlflow, numpy as np, pandas as pd\n"
        "from sklearn.linear_model import LinearRegression\n"
        "values = np.random.default_rng(0).normal(size=(50, 2))\n"
        'rows = pd.DataFrame(values @ [[1, 2, 3], [0, 1, 2]], columns=["a", "b", "c"])\n'
        f"{signed}\n"
        "model = LinearRegression().fit(rows, values)\n"
        'mlflow.sklearn.log_model(model, name="m", signature=signature, registered_model_name="machine")\n'
    )
    (tmp_path / "train.py").write_text(program)
    shell(f"{sys.executable} train.py", own_places, tmp_path)
    shell(".venv/bin/shokado models import models:/machine/1 --as v1", own_places, checkout)
    card = json.loads((Path(own_places["BENTOML_HOME"]) / "models" / "machine" / "v1" / "card.json").read_text())
    assert card["outputs"] == ["speed", "cost"]


@pytest.mark.slow
@runs("docs/models.md", "What its data were like")
def test_a_version_gets_a_reference(commands: list[str], own_places: dict[str, str], checkout: Path) -> None:
    (block,) = commands
    names = [feature.name for feature in CUSTOMERS_FEATURES]
    rows = generate_customers(300, seed=1)[0].tolist()
    lines = [names, *rows]
    (checkout / "var" / "customers.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    printed = shell(block, own_places, checkout)
    assert "customers:v1  has its reference from var/customers.csv" in printed
    assert "300 rows" in printed


@pytest.mark.slow
@needs_curl
@runs("docs/models.md", "Quantized versions", containing="curl", argument="pinned")
@runs("docs/models.md", "Quantized versions", containing="models quantize")
def test_a_quantized_version_is_made_and_answers_who_pins_it(
    commands: list[str], pinned: list[str], own_places: dict[str, str], checkout: Path, own_server: Server
) -> None:
    (quantize,), (ask,) = commands, pinned
    shell(".venv/bin/shokado models prepare --quantized", own_places, checkout)
    printed = shell(quantize, own_places, checkout)
    assert "x smaller" in printed
    assert "customers:v2-half  quantized  from customers:v2-wide" in printed
    models = Path(own_places["BENTOML_HOME"]) / "models" / "customers"
    sizes = [(models / label / "model.onnx").stat().st_size for label in ("v2-wide", "v2-quantized")]
    assert sizes[0] / sizes[1] >= 3.95

    load = f"{own_server.url}/v1/models/v2-quantized/load"
    httpx.post(load, json={"uri": "customers:v2-quantized"}, timeout=60).raise_for_status()
    (answer,) = answers_to(at(own_server, ask))
    assert (answer["version"], answer["reason"]) == ("v2-quantized", "PINNED")
    session = onnxruntime.InferenceSession(models / "v2-quantized" / "model.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"input": np.array([ROW], dtype=np.float32)})
    assert answer["predictions"] == pytest.approx(scores[:, 1].tolist(), abs=1e-6)
    httpx.post(f"{own_server.url}/v1/models/v2-quantized/unload", timeout=60).raise_for_status()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kubectl") is None, reason=NOT_THERE)
@runs("docs/operating.md", "Kubernetes")
def test_the_dry_run_shows_what_a_cluster_would_make_of_the_manifests(commands: list[str], tmp_path: Path) -> None:
    """A stand-in answers for the cluster; kubectl is real."""
    (block,) = commands
    validate, deploy = block.strip().splitlines()
    assert validate == "make k8s-validate"
    with running(tmp_path / "kubeconfig") as cluster:
        cluster.add("namespaces", "", "shokado-staging")
        environment = {"KUBECONFIG": str(tmp_path / "kubeconfig"), "KUBECACHEDIR": str(tmp_path / "cache")}
        printed = shell(deploy.replace("make", "make -o .venv/.dev"), environment)
        assert cluster.applied == []
    assert "deployment.apps/shokado-gateway serverside-applied (server dry run)" in printed
    assert "missing: Secret shokado-keys" in printed
    assert "Nothing was changed." in printed


@needs_curl
@runs("docs/explanations.md", "Why a score", language="json", argument="shown")
@runs("docs/explanations.md", "Why a score", containing="explain")
def test_a_score_is_explained_as_the_page_shows(commands: list[str], shown: list[str], server: Server) -> None:
    (command,), (text,) = commands, shown
    wanted, (answer,) = json.loads(text), answers_to(at(server, command))
    assert list(answer) == list(wanted)
    (row,), (wanted_row,) = answer["explanations"], wanted["explanations"]
    assert list(row) == list(wanted_row)
    told = {name: value for name, value in wanted_row["contributions"].items() if name != ".."}
    assert {name: row["contributions"][name] for name in told} == pytest.approx(told, abs=1e-4)
    assert [row["prediction"], row["explained"], answer["base"]] == pytest.approx(
        [wanted_row["prediction"], wanted_row["explained"], wanted["base"]], abs=1e-4
    )
    fixed = ("classes", "method", "scale", "link", "version", "reason")
    assert {name: answer[name] for name in fixed} == {name: wanted[name] for name in fixed}


@pytest.mark.slow
@runs("docs/explanations.md", "Background rows")
def test_a_version_gets_background_rows(commands: list[str], own_places: dict[str, str], checkout: Path) -> None:
    (block,) = commands
    names = [feature.name for feature in CUSTOMERS_FEATURES]
    pd.DataFrame(generate_customers(300, seed=1)[0], columns=names).to_parquet(checkout / "customers.parquet")
    shell(block, own_places, checkout)
    folder = Path(own_places["BENTOML_HOME"]) / "models" / "customers" / "v2"
    assert len(json.loads((folder / "background.json").read_text())["rows"]) == 100


@pytest.mark.slow
@runs("docs/request-log.md", "The request log")
def test_requests_are_recorded_and_read_as_a_table(commands: list[str], models: Path, tmp_path: Path) -> None:
    serve, read = commands
    assert serve.strip() == "SHOKADO_LOG__SHARE=1 make serve"
    where = {"SHOKADO_LOG__FOLDER": str(tmp_path / "log")}
    with serving(environment={"SHOKADO_LOG__SHARE": "1", "SHOKADO_WORKERS": "1", **where}) as server:
        http.post(f"{server.url}/predict", json={"features": ROW}, timeout=30).raise_for_status()
    printed = shell(read.replace("export requests", f"export {tmp_path / 'requests'}"), where)
    assert '"reason":"SPLIT"' in printed
    table = pd.read_parquet(tmp_path / "requests")
    assert table["feature.age"].tolist() == ROW[:1]


@runs("docs/request-log.md", "Had one version answered everything")
def test_what_one_version_had_earned_is_estimated(commands: list[str], tmp_path: Path) -> None:
    """The log is of now, as it is asked for the last week."""
    (command,) = commands
    world = World(tmp_path / "log", begin=time.time() - 72 * HOUR_S)
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(110, 250)}, labels=True, rewards=True)
    printed = shell(command, {"SHOKADO_LOG__FOLDER": str(tmp_path / "log")})
    assert "had v2 served everything: reward 0.44 (0.3" in printed
    assert "had v2 served everything: accuracy 0.44 (0.3" in printed
    assert "less that of v1: +0.04 (-0" in printed


@needs_curl
@runs("docs/drift.md", "Drift")
def test_drift_is_told_of_each_feature(commands: list[str], server: Server) -> None:
    (command,) = commands
    wait_until(lambda: answers_to(at(server, command))[0]["verdict"] != "not watched")
    (told,) = answers_to(at(server, command))
    assert list(told["features"]) == [feature.name for feature in CUSTOMERS_FEATURES]
    assert (told["window"], list(told["scores"])) == ("hour", ["score"])


@pytest.mark.slow
@needs_curl
@runs("docs/fairness.md", "Figures by segment")
def test_figures_are_told_by_segment(commands: list[str], models: Path) -> None:
    """The features are those of the page that the example's versions do not take as texts."""
    (page,) = [block for block in BLOCKS if block.page == "docs/fairness.md" and block.language == "yaml"]
    features = yaml.safe_load(page.text)["segments"]["features"]
    assert features.keys() == SegmentSettings(features=features).features.keys()
    (command,) = commands
    with serving(environment={"SHOKADO_SEGMENTS__FEATURES": json.dumps(features)}) as server:
        counted, by_age, by_sex = answers_to(at(server, command))
    assert counted["accepted"] == 1
    for told, level in ((by_age, "30 to below 50"), (by_sex, "female")):
        assert [(one["level"], one["labels"]) for one in told["segments"]["levels"]] == [(level, 1)]
        assert told["segments"]["spreads"]["demographic_parity"]["verdict"] == "UNKNOWN"


@needs_curl
@runs("docs/retraining.md", "Retraining")
def test_a_secret_is_made_and_events_are_shown(commands: list[str], server: Server, tmp_path: Path) -> None:
    (command,) = commands
    (tmp_path / "var").mkdir()
    (page,) = [block for block in BLOCKS if block.page == "docs/retraining.md" and block.language == "yaml"]
    assert RetrainingSettings(**yaml.safe_load(page.text)["retraining"]).key_file == "var/webhook-secret"
    told = json.loads(shell(at(server, command), {}, tmp_path))
    assert told["retraining"] == []
    assert len(read_key(tmp_path / "var" / "webhook-secret")) == 32


@pytest.mark.slow
@runs("docs/drift.md", "Reports")
def test_a_report_is_made_of_the_log(commands: list[str], tmp_path: Path) -> None:
    """A log and a file stand for those of a server and its training, and the tests' environment for `make drift`."""
    (command,) = commands
    test_drift_command.write(tmp_path / "log", test_drift_command.table(1, 2000), 60)
    test_drift_command.table(2, 2000).to_parquet(tmp_path / "customers.parquet")
    program = f"{environment_of('drift').absolute()} -m shokado"
    where = {"SHOKADO_LOG__FOLDER": str(tmp_path / "log"), "PYTHONPATH": str(ROOT)}
    printed = shell(command.replace("var/drift/bin/shokado", program), where, tmp_path)
    assert "v1: none, by 2000 rows beside 2000 of customers.parquet" in printed


@pytest.mark.slow
@needs_curl
@runs("docs/features.md", "Skew", argument="check")
@runs("docs/features.md", "Try it")
def test_features_are_looked_up(commands: list[str], check: list[str], models: Path, tmp_path: Path) -> None:
    """The tests' environment stands for that of `make features`."""
    python = environment_of("features").absolute()

    def run(command: str) -> str:
        command = command.replace("var/features/bin/shokado", f"{python} -m shokado")
        command = command.replace("var/features/bin/feast", str(python.with_name("feast")))
        return shell(command, {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}, tmp_path)

    prepare, transform, serve, ask = commands
    assert prepare.startswith("make features\n")
    assert "materialize activity" in run(prepare.removeprefix("make features\n"))
    assert transform == "var/features/bin/shokado features serve --repo var/feature_repo --service customers\n"
    settings = {name: value.strip("'") for name, value in settings_of(serve).items()}
    assert settings.pop("SHOKADO_FEATURES__URL") == "http://127.0.0.1:6570"
    settings |= {"SHOKADO_WORKERS": "1", "SHOKADO_FEATURES__TIMEOUT_MS": "20000"}
    with transforming(tmp_path / "var" / "feature_repo", "customers") as transformer:
        with serving(environment={**settings, "SHOKADO_FEATURES__URL": transformer.url}) as server:
            one, two, three = answers_to(at(server, ask))
            assert (len(one["predictions"]), len(two["predictions"]), two["version"]) == (1, 2, "v2")
            assert three["model_version"] in {"v1", "v2"}
        printed = run(check[0].replace("http://127.0.0.1:6570", transformer.url))
    assert "avg_transaction" in printed


@runs("docs/batch.md", "Batch prediction")
@runs("docs/batch.md", "Versions", argument="by_split")
def test_a_table_is_scored_by_a_version_and_by_the_split(
    commands: list[str], by_split: list[str], server: Server, tmp_path: Path
) -> None:
    """The tests' environment stands for `make batch`."""
    test_batch_command.customers(200).to_csv(tmp_path / "customers.csv", index=False)
    program = f"{environment_of('batch').absolute()} -m shokado"
    for (command,), folder, versions in ((commands, "scored", {"v2"}), (by_split, "split", {"v1", "v2"})):
        text = at(server, command).replace("var/batch/bin/shokado", program)
        assert "200 rows" in shell(text, {"PYTHONPATH": str(ROOT)}, tmp_path)
        found = pd.read_parquet(tmp_path / folder)
        assert (sorted(found["row"]), set(found["version"])) == (list(range(200)), versions)


@pytest.mark.slow
@runs("docs/replay.md", "Replay")
def test_a_log_is_replayed(commands: list[str], models: Path, tmp_path: Path) -> None:
    """What v1 has answered stands in a log; v2 is of the tests' store."""
    (command,) = commands
    artefact = find_artefact("v1", "customers:v1")
    rows = generate_customers(1000, seed=3)[0].astype(np.float32)
    scores = open_engine(artefact.folder, artefact.card, EngineChoice.ONNXRUNTIME).predict(rows)
    PaperLog(tmp_path / "log").write(artefact.card, rows.tolist(), scores)
    where = {"SHOKADO_LOG__FOLDER": str(tmp_path / "log")}
    printed = shell(command.replace(".venv/bin", str(ENVIRONMENT / "bin")), where, tmp_path)
    assert "v2: PASS" in printed
    assert (tmp_path / "replay" / "report.html").exists()


@pytest.mark.slow
@runs("docs/request-log.md", "Where it is sent")
def test_what_was_sent_is_exported_from_where_it_is(commands: list[str], tmp_path: Path) -> None:
    """A folder stands for the bucket, which the tests of object stores have."""
    (command,) = commands
    write_log(tmp_path / "log", 2)
    printed = shell(command.replace("s3://bucket/folder requests", f"file://{tmp_path}/log {tmp_path}/requests"))
    assert "2 rows" in printed


@runs("docs/development.md", "Measure")
def test_the_benchmark_tells_its_options(commands: list[str], models: Path) -> None:
    (command,) = commands
    assert "--quick" in shell(command.replace("make", "make --old-file=.venv/.dev --old-file=.venv/.train"))


@runs("docs/operating.md", "An image", containing="docker run")
def test_the_container_that_the_page_starts_is_as_hardened_as_the_one_that_is_tested(commands: list[str]) -> None:
    """`make image` prints that command; the page adds the keys."""
    (command,) = commands
    keys = r"-v \./var/keys\.yaml:(\S+):ro -e SHOKADO_ACCESS__KEYS_FILE=\1 "
    without = re.sub(keys, "", " ".join(command.replace("\\\n", "").split()))
    assert without == Image("shokado:0.1.0", ContainerEngine.DOCKER, 0, ()).command()


# They take minutes, and other tests run what is behind them: make knows them as they stand here.
@runs(README, "A cluster", argument="cluster")
@runs(README, "An image", argument="image")
@runs(README, "Start", argument="start")
@runs("docs/operating.md", "An image", containing="make image", argument="image_again")
@runs("docs/operating.md", "A bento", argument="bento")
@runs("docs/lifecycle.md", "All of it", argument="everything")
def test_make_knows_what_takes_minutes(
    start: list[str],
    image: list[str],
    cluster: list[str],
    image_again: list[str],
    bento: list[str],
    everything: list[str],
) -> None:
    lines = "".join((*start, *image, *cluster, *image_again, *bento, *everything)).strip().splitlines()
    assert all(line.startswith("make ") for line in lines)
    for line in lines:
        planned = shell(line.replace("make", "make --dry-run --old-file=.venv/.dev --old-file=.venv/.train"))
        assert "bin/" in planned
        assert line != "make serve" or "bentoml serve service:Shokado" in planned


@pytest.mark.slow
@runs("docs/lambda.md", "Build", argument="build")
@runs("docs/lambda.md", "Try it")
def test_a_function_is_built_and_tried(commands: list[str], build: list[str], checkout: Path, models: Path) -> None:
    """For AWS's runtime, which is not here, and for this machine's Python."""
    (usual,), (trial,) = build, commands
    printed = shell(usual, cwd=checkout)
    assert "var/lambda/shokado.zip" in printed
    assert "of 262.1 MB unzipped" in printed
    printed = shell(trial, cwd=checkout)
    answer = json.loads(printed[printed.index("{") :])
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["version"] in ("v1", "v2")


@pytest.mark.slow
@runs("docs/operating.md", "A small machine")
def test_a_small_machine_is_enough(commands: list[str], own_places: dict[str, str]) -> None:
    (command,) = commands
    with serving(environment={**settings_of(command), **own_places}) as server:
        (worker,) = server.workers()
        assert {answer["version"] for answer in predict(server, *map(str, range(50)))} == {"v1", "v2"}
        loaded = http.post(f"{server.url}/v1/models/v3/load", json={"uri": "customers:v2"}, timeout=60)
        assert loaded.status_code == 200
        refused = http.post(f"{server.url}/v1/models/v4/load", json={"uri": "models:/customers/2"}, timeout=60)
        assert refused.json()["error"]["code"] == "source_not_allowed"
        processes = (psutil.Process(pid) for pid in (server.process.pid, worker))
        assert sum(process.memory_full_info().uss for process in processes) < 400e6


@runs("docs/scale.md", "What requests need")
def test_a_plan_is_made_for_any_number_of_requests(commands: list[str]) -> None:
    (command,) = commands
    printed = shell(command)
    assert "| 25,000 | 2 |" in printed
    assert "One Redis carries" in printed
