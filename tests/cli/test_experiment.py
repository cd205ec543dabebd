"""`shokado experiment`, against a real server: it begins, shows and stops, and says what is in the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configuration.experiment_plan import DEFAULT_FILE, AtEnd, load_plan
from configuration.experiment_policy import ExperimentDesign, ExperimentMetric
from shokado.cli.app import app
from tests.support import http
from tests.support.server import Server, serving
from tests.support.waiting import wait_until

ROW = [39, 52000, 690, 12, 800, 85.5, 1, 0, 2, 4]
SHADOW_FILE = DEFAULT_FILE.with_name("shadow_experiment.yaml")


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
    assert load_plan(SHADOW_FILE).design is ExperimentDesign.SHADOW


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
    assert "guardrail of v2 unknown: error_rate of nothing yet (at most 0.05); error_rate not compared yet: 0" in said
    assert run(server, "stop", "--why", "enough") == (0, f"experiment {named} is stopped")
    code, said = run(server, "status", named)
    assert (code, "STOPPED enough" in said) == (0, True), said
    assert run(server, "stop", named)[0] == 1
    (entry, *_) = http.get(f"{server.url}/v1/traffic-split/history", timeout=20).json()["entries"]
    assert entry["by"].endswith("(shokado experiment)")


def test_a_shadow_is_judged_by_the_plan_for_shadows(server: Server) -> None:
    split = {"weights": {"v1": 1, "v2": 0}, "shadow": "v2"}
    assert http.post(f"{server.url}/v1/traffic-split", json=split, timeout=20).status_code == 200
    code, said = run(server, "start", "--plan", str(SHADOW_FILE), "--why", "put nobody at risk")
    assert (code, "of v2 against v1 in production" in said) == (0, True), said
    named = said.split()[1]
    for number in range(20):
        body = {"instances": [ROW], "user_id": f"user-{number}"}
        answer = http.post(f"{server.url}/v1/models/predict", json=body, timeout=20)
        label = {"prediction_id": answer.json()["prediction_id"], "label": 0}
        assert http.post(f"{server.url}/v1/feedback", json=label, timeout=20).status_code == 200
    compared = "on: 20 sampled, 20 scored by the shadow, 0 failed, 0 that there was no room for, 20 labels"
    wait_until(lambda: compared in run(server, "status")[1])
    assert run(server, "stop", named)[0] == 0
    code, said = run(server, "status", named)
    assert (code, "sampled" in said) == (0, False), "nothing is told of what is forgotten"


def test_a_plan_may_have_a_part_of_a_layer(server: Server, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("metric: reward\nsmallest_effect: 0.1\nlayer: {name: checkout, from: 0.25, to: 0.5}\n")
    split = {"weights": {"v1": 50, "v2": 50}, "strategy": "random", "shadow": None}
    assert http.post(f"{server.url}/v1/traffic-split", json=split, timeout=20).status_code == 200
    code, said = run(server, "start", "v2", "--plan", str(plan))
    assert (code, "the experiment's layer checkout is of units" in said) == (1, True), said
    assert http.post(f"{server.url}/v1/traffic-split", json={"strategy": "hash"}, timeout=20).status_code == 200
    code, said = run(server, "start", "v2", "--plan", str(plan))
    assert code == 0, said
    code, said = run(server, "status")
    assert (code, "of units from 0.25 to 0.5 of the layer checkout" in said) == (0, True), said
    assert run(server, "stop")[0] == 0
