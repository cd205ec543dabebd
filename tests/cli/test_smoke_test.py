"""`shokado smoke-test`, against real servers: what it looks at, and that it finds what is not as it should be."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shokado.cli.app import app
from shokado.client.answers import Prediction, Split
from shokado.dialects.dialects import DIALECTS
from shokado.lifecycle.delivery.smoke_test import SmokeFinding, SmokeOutcome, judged_split
from tests.conftest import PLACES, prepare
from tests.support import http
from tests.support.server import Server, free_port, serving


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(environment={"SHOKADO_WORKERS": "2", "BENTOML_HOME": str(models)}) as running:
        yield running


def run(*words: str, **variables: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["smoke-test", *words], env={"GATEWAY_KEY": "", **variables})
    return done.exit_code, " ".join(done.output.split())


def test_what_is_as_it_should_be_passes(server: Server, models: Path) -> None:
    code, said = run("--url", server.url, BENTOML_HOME=str(models))
    assert code == 0, said
    assert "numbers of v1 ok 32 rows as the card in the model store here says" in said
    for dialect in DIALECTS:
        assert f"POST {dialect.path} ok" in said
    assert "split ok v1 " in said
    assert "metrics ok told for v1, v2; 202 requests were counted" in said
    assert said.endswith(f"{server.url}: all is well")


def test_a_site_is_asked_for_its_own_split(server: Server) -> None:
    """Here the store has none of the models, so the server's own cards say what is right."""
    where = {"SHOKADO_SITES__STAGING__URL": server.url}
    code, said = run("--environment", "staging", "--requests", "50", **where)
    assert code == 0, said
    assert "numbers of v2 ok 2 rows as the server's card says" in said
    assert "split ok v2 100% of 100%, 50 requests" in said
    assert said.endswith("staging: all is well")
    code, said = run("--environment", "staging", "--version", "b", "--requests", "0", **where)
    assert (code, "numbers of v1" in said, "numbers of v2 ok" in said) == (0, False, True), said
    assert "split left out no requests were to be sent" in said
    assert said.endswith("staging: all is well, 1 left out")


def test_wrong_numbers_are_found(server: Server, models: Path, tmp_path: Path) -> None:
    """A card here says otherwise of the very same artefact."""
    shutil.copytree(models / "models" / "customers", tmp_path / "models" / "customers")
    card = tmp_path / "models" / "customers" / "v2" / "card.json"
    content = json.loads(card.read_text())
    content["examples"]["scores"][5] += 0.001
    card.write_text(json.dumps(content))
    code, said = run("--url", server.url, "--requests", "0", BENTOML_HOME=str(tmp_path))
    assert code == 1
    assert "numbers of v1 ok" in said
    assert "numbers of v2 failed predictions are " in said
    assert "1 of " in said
    assert "checks failed" in said


@pytest.mark.slow
def test_a_version_that_cannot_serve_is_found(models: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(models / "models", home / "models")
    with serving(environment={"SHOKADO_WORKERS": "1", "BENTOML_HOME": str(home)}) as running:
        answer = http.post(f"{running.url}/v1/models/v3/load", json={"uri": "customers:v1"}, timeout=120)
        assert answer.status_code == 200, answer.text
        assert run("--url", running.url, "--requests", "0")[0] == 0
        http.post(f"{running.url}/v1/models/v3/unload", json={}, timeout=60).raise_for_status()
        code, said = run("--url", running.url, "--requests", "0")
        assert (code, "numbers of v3" in said) == (0, False), said
        code, said = run("--url", running.url, "--requests", "0", "--version", "v3")
        assert code == 1
        assert "numbers of v3 failed" in said


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["iris", "diabetes", "spam"])
def test_models_of_each_kind_are_tried(dataset: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities of several classes, values, and texts."""
    for name, place in PLACES.items():
        monkeypatch.setenv(name, place)
    prepare(dataset)
    with serving(environment={"SHOKADO_WORKERS": "1", "SHOKADO_MODEL": dataset}) as running:
        for home in (str(models), str(models / "empty")):
            code, said = run("--url", running.url, BENTOML_HOME=home)
            assert code == 0, said
            assert "numbers of v2 ok" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Which server? Name a site of sites.yaml, or an address. next: add --environment staging"),
        (("--environment", "nowhere"), "There is no site nowhere in sites.yaml; there are: staging, production"),
        (("--url", "nowhere:3000"), "'nowhere:3000' is no address of a server"),
        (("--url", f"http://127.0.0.1:{free_port()}"), "No gateway answers at http://127.0.0.1:"),
    ],
)
def test_what_cannot_be_asked_is_said(words: tuple[str, ...], told: str) -> None:
    code, said = run(*words)
    assert (code, told in said) == (1, True), said


def test_a_version_that_there_is_not_is_said(server: Server) -> None:
    code, said = run("--url", server.url, "--version", "v9")
    assert (code, "unknown version 'v9'" in said) == (1, True), said


def split(**more: Any) -> Split:
    content: dict[str, Any] = {
        "active": "v1", "weights": {}, "shares": {"v1": 0.8, "v2": 0.2}, "strategy": "hash", "enabled": True,
        "salt": "", "shadow": None, "environment": "staging", "generation": 1, "percent": {},
        "updated_at": datetime(2026, 1, 1, tzinfo=UTC), "by": "", "action": "", "why": "",
    }  # fmt: skip
    return Split(**content | more)


def answers(reason: str = "SPLIT", **counts: int) -> list[Prediction]:
    return [Prediction([0.5], name, reason, 1, "r", "p", 1.0) for name, count in counts.items() for _ in range(count)]


def test_a_split_is_judged_by_what_chance_explains() -> None:
    def outcome(found: SmokeFinding) -> SmokeOutcome:
        return found.outcome

    assert outcome(judged_split(split(), answers(v1=160, v2=40))) is SmokeOutcome.OK
    assert outcome(judged_split(split(), answers(v1=145, v2=55))) is SmokeOutcome.OK
    assert outcome(judged_split(split(), answers(v1=100, v2=100))) is SmokeOutcome.FAILED
    assert outcome(judged_split(split(), answers(v1=160, v2=39, v3=1))) is SmokeOutcome.FAILED
    assert outcome(judged_split(split(enabled=False), answers(v1=199, v2=1))) is SmokeOutcome.FAILED
    assert outcome(judged_split(split(), answers("FALLBACK", v1=200))) is SmokeOutcome.FAILED
    layer = {"name": "a", "from": 0.0, "to": 0.25, "outside": "v1"}
    assert outcome(judged_split(split(layer=layer), answers(v1=190, v2=10))) is SmokeOutcome.OK
    assert outcome(judged_split(split(layer=layer), answers(v1=150, v2=50))) is SmokeOutcome.FAILED
