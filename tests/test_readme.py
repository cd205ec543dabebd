"""The README's commands are run as they stand there; only the port is the test server's."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from k8s.validate import NOT_THERE
from tests.lifecycle.kubernetes_api import running
from tests.server import ROOT, ROW, Server, serving, wait_until
from tests.tools import needs

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
SHELL = [block for language, block in BLOCKS if language == "bash"]
CURLS = [block for block in SHELL if block.startswith("curl") and "/predict " in block]
SECTIONS = {section.partition("\n")[0]: section for section in TEXT.split("\n## ")[1:]}
needs_curl = needs("curl")
MAKES = sorted({*re.findall(r"`(make [a-z]+)[^`]*`", TEXT), *(b.strip() for b in SHELL if b.startswith("make"))})


def shell(command: str, environment: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        ["bash", "-ec", command],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@needs_curl
@pytest.mark.parametrize("command", CURLS, ids=["predict", "predict one"])
def test_a_curl_line_answers_as_the_readme_shows(command: str, server: Server) -> None:
    # The split may choose the other version; in 200 tries it chooses the one that is shown.
    answers = (json.loads(shell(command.replace("http://localhost:3000", server.url))) for _ in range(200))
    if "instances" in command:
        (shown,) = (json.loads(block) for language, block in BLOCKS if language == "json")
        answer = next(answer for answer in answers if answer["version"] == shown["version"])
        assert list(answer) == list(shown)
        assert answer["predictions"] == pytest.approx(shown["predictions"], abs=1e-4)
    else:
        assert next(answers)["model_version"] == "v2"


def commands_of(section: str, server: Server) -> list[str]:
    """The section's shell blocks, in order, for that server."""
    blocks = re.findall(r"```bash\n(.*?)```", SECTIONS[section], re.DOTALL)
    return [block.replace("http://localhost:3000", server.url) for block in blocks]


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


@pytest.fixture(scope="module")
def own_places(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model store and a registry that may be changed: copies of the tests' own."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(models / "models", folder / "home" / "models")
    shutil.copy(models.parent / "mlflow.db", folder / "mlflow.db")
    return {"BENTOML_HOME": str(folder / "home"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}


@pytest.fixture(scope="module")
def own_server(own_places: dict[str, str]) -> Iterator[Server]:
    """A server whose split may be changed."""
    with serving(environment={"SHOKADO_WORKERS": "2", **own_places}) as running:
        yield running


def predict(server: Server, unit: str) -> dict[str, Any]:
    headers = {"X-Unit-ID": unit}
    answer = httpx.post(f"{server.url}/v1/models/predict", json={"instances": [ROW]}, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def versions_of(server: Server, generation: int) -> list[str]:
    """The versions that 100 users get once both workers are at that generation."""
    users = [f"user-{number}" for number in range(100)]
    wait_until(lambda: min(predict(server, user)["generation"] for user in users[:20]) >= generation, 10)
    return [predict(server, user)["version"] for user in users]


@needs_curl
def test_the_canary_walks_from_a_tenth_to_all_and_back(own_server: Server) -> None:
    canary, feedback, look, more, back = commands_of("A canary, from 10 % to 100 % and back", own_server)

    (split,) = answers_to(canary)
    assert (split["weights"], split["strategy"]) == ({"v1": 90, "v2": 10}, "hash")
    tenth = versions_of(own_server, split["generation"])
    assert 1 <= tenth.count("v2") <= 25

    (counted,) = answers_to(feedback)
    assert counted["accepted"] == 1

    status, metrics = answers_to(look)
    assert sum(status["versions"][version]["labels"] for version in ("v1", "v2")) == 1
    assert (metrics["version"], metrics["since_start"]["errors"]) == ("v2", 0)

    present = predict(own_server, "user-17")["version"]
    explained, half, all_of_it = answers_to(more)
    assert explained["version"] == present
    assert explained["after"]["version"] in {"v1", "v2"}
    assert (half["weights"], all_of_it["weights"]) == ({"v1": 50, "v2": 50}, {"v1": 0, "v2": 100})
    assert set(versions_of(own_server, all_of_it["generation"])) == {"v2"}

    history, restored = answers_to(back)
    assert [entry["action"] for entry in history["entries"]] == ["split", "split", "split", "configured"]
    assert (restored["weights"], restored["strategy"]) == ({"v1": 80, "v2": 20}, "random")
    assert restored["generation"] == all_of_it["generation"] + 1
    assert {"v1", "v2"} == set(versions_of(own_server, restored["generation"]))


@needs_curl
def test_half_of_the_users_keep_their_version_when_the_canary_grows(own_server: Server) -> None:
    canary, _, _, more, _ = commands_of("A canary, from 10 % to 100 % and back", own_server)
    (split,) = answers_to(canary)
    before = versions_of(own_server, split["generation"])
    half = more.split("curl")[2]
    (split,) = answers_to("curl" + half)
    after = versions_of(own_server, split["generation"])
    assert all(now == "v2" for then, now in zip(before, after, strict=True) if then == "v2")


@needs_curl
def test_a_version_is_loaded_from_the_registry_while_serving(own_server: Server, own_places: dict[str, str]) -> None:
    (block,) = commands_of("Load a version while serving", own_server)
    program = str(Path(sys.executable).with_name("shokado"))
    assert ".venv/bin/shokado models train" in block
    printed = shell(block.replace(".venv/bin/shokado", program), own_places)
    loaded = json.loads(printed[printed.index('{"') :])
    assert (loaded["version"]["version"], loaded["version"]["state"]) == ("v3", "ready")
    pinned = httpx.post(f"{own_server.url}/v1/models/predict", json={"instances": [ROW], "version": "v3"}, timeout=20)
    assert (pinned.status_code, pinned.json()["version"]) == (200, "v3")


@needs_curl
def test_a_client_of_the_open_inference_protocol_is_answered(server: Server) -> None:
    (command,) = [block for block in SHELL if "/infer" in block]
    (answer,) = answers_to(command.replace("http://localhost:3000", server.url))
    assert [output["name"] for output in answer["outputs"]] == ["predictions", "classes"]


def test_the_key_that_is_made_opens_the_server(models: Path, tmp_path: Path) -> None:
    (command,) = re.findall(r"```bash\n(.*?)```", SECTIONS["Who may ask"], re.DOTALL)
    path = tmp_path / "keys.yaml"
    printed = shell(f"{command.strip()} --file {path}")
    change = {"v1": 1, "v2": 1}
    with serving(environment={"SHOKADO_ACCESS__KEYS_FILE": str(path), "SHOKADO_WORKERS": "1"}) as locked:
        url = f"{locked.url}/v1/traffic-split"
        assert httpx.post(url, json=change, timeout=20).status_code == 401
        answers = [httpx.post(url, json=change, headers={"x-api-key": word}, timeout=20) for word in printed.split()]
        (opened,) = [answer for answer in answers if answer.status_code == 200]
        assert opened.json()["by"] == "key me"


@needs_curl
def test_a_canary_starts_and_is_taken_back(own_server: Server) -> None:
    _, block = commands_of("Deploy", own_server)
    program = str(Path(sys.executable).with_name("shokado"))
    block = re.sub(r"\.venv/bin/shokado (canary .*)", rf"{program} \1 --url {own_server.url}", block)
    printed = shell(block)
    assert "INCONCLUSIVE at 10 %" in printed
    with httpx.Client(base_url=own_server.url, timeout=20) as client:
        assert client.get("/v1/traffic-split").json()["weights"] == {"v1": 100, "v2": 0}
        actions = [entry["by"] for entry in client.get("/v1/traffic-split/history").json()["entries"][:2]]
    assert all("shokado canary" in by for by in actions), actions


@pytest.mark.skipif(shutil.which("kubectl") is None, reason=NOT_THERE)
def test_the_dry_run_shows_what_a_cluster_would_make_of_the_manifests(tmp_path: Path) -> None:
    """A stand-in answers for the cluster; kubectl is real."""
    block, _ = re.findall(r"```bash\n(.*?)```", SECTIONS["Deploy"], re.DOTALL)
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


def test_the_python_example_prints_a_prediction(server: Server) -> None:
    (example,) = (block for language, block in BLOCKS if language == "python")
    program = example.replace("http://localhost:3000", server.url)
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "predictions" in printed.stdout


def test_the_configured_split_is_the_one_the_readme_names() -> None:
    assert "Four of five answers come from `v1`" in TEXT
    serving_yaml = yaml.safe_load((ROOT / "configuration" / "serving.yaml").read_text(encoding="utf-8"))
    assert serving_yaml["environments"]["production"]["weights"] == {"v1": 80, "v2": 20}


def test_the_serve_line_with_settings_from_the_environment_works(models: Path) -> None:
    (line,) = (block for block in SHELL if block.startswith("SHOKADO_"))
    settings = dict(re.findall(r"(SHOKADO_\w+)=(\w+)", line))
    assert ".venv/bin/bentoml serve service:Shokado --port 3001" in line
    with serving(environment=settings):
        pass


@pytest.mark.parametrize("command", MAKES)
def test_a_make_command_names_a_target(command: str) -> None:
    listed = shell("make help")
    target = command.split()[1].split("=", maxsplit=1)[0]
    assert re.search(rf"make {target}\s", listed), listed


def test_the_list_of_models_is_shown(models: Path) -> None:
    (line,) = (block for block in SHELL if "shokado models list" in block)
    program = str(Path(sys.executable).with_name("shokado"))
    assert "customers:v1" in shell(line.replace(".venv/bin/shokado", program))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_a_link_leads_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", re.findall(r"^\| `([\w/.]+)` \|", TEXT.split("## Where things are")[1], re.MULTILINE))
def test_a_folder_that_is_named_exists(name: str) -> None:
    assert (ROOT / name).exists()
