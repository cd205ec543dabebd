"""`shokado experiment`, against a real server: it begins, shows and stops, and says what is in the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configuration.experiment_plan import AtEnd, load_plan
from configuration.experiment_policy import ExperimentMetric
from shokado.cli.app import app
from tests.support import http
from tests.support.server import Server, serving


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    # Where a test of this folder has run before, the environment names that one's store.
    with serving(environment={"SHOKADO_WORKERS": "1", "BENTOML_HOME": str(models)}) as running:
        yield running


def run(server: Server, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["experiment", *words, "--url", server.url], env={"GATEWAY_KEY": ""})
    return done.exit_code, " ".join(done.output.split())


def test_the_plan_beside_the_code_is_one() -> None:
    plan = load_plan()
    assert (plan.metric, plan.at_end, plan.max_duration_s) == (ExperimentMetric.ACCURACY, AtEnd.TELL, 14 * 86_400)
    assert plan.label_delay_s < plan.max_duration_s


def test_an_experiment_is_begun_shown_and_stopped(server: Server) -> None:
    code, said = run(server, "status")
    assert (code, "no experiment under way in production" in said) == (1, True)
    split = http.post(f"{server.url}/v1/traffic-split", json={"v1": 50, "v2": 50}, timeout=20)
    assert split.status_code == 200
    code, said = run(server, "start", "v2", "--why", "try it")
    assert (code, "of v2 against v1 in production" in said) == (0, True), said
    named = said.split()[1]
    code, said = run(server, "start", "v2")
    assert (code, f"has the experiment {named}" in said) == (1, True), said
    code, said = run(server, "status")
    assert (code, f"experiment {named} in production: RUNNING" in said) == (0, True), said
    assert run(server, "stop", "--why", "enough") == (0, f"experiment {named} is stopped")
    code, said = run(server, "status", named)
    assert (code, "STOPPED enough" in said) == (0, True), said
    assert run(server, "stop", named)[0] == 1
    (entry, *_) = http.get(f"{server.url}/v1/traffic-split/history", timeout=20).json()["entries"]
    assert entry["by"].endswith("(shokado experiment)")
