"""A version's way from staging to production and back, with two real servers and a real registry."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from shokado.lifecycle.delivery.rollback import version_before
from tests.end_to_end.closed_loop import load
from tests.end_to_end.delivery import Delivery, delivery, run
from tests.support import http
from tests.support.raw_http import request
from tests.support.server import ROW
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def predict(number: int) -> bytes:
    return request(json.dumps({"instances": [ROW]}).encode())


@pytest.fixture(scope="module")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivery]:
    with delivery(models, tmp_path_factory.mktemp("delivery")) as both:
        yield both


@pytest.fixture
def sites(running: Delivery) -> Delivery:
    running.reset()
    return running


@pytest.mark.timeout(900)
def test_a_version_goes_from_the_registry_by_staging_to_production_and_back(sites: Delivery) -> None:
    number = sites.register(alias="challenger")
    name = f"v{number}"
    code, said = run("stage", "models:/customers@challenger", "--why", "retrained")
    assert code == 0, said
    assert f"{name} is active in staging: {name} 100 %" in said
    assert f"models:/customers@staging is version {number} now" in said
    tried = sites.version(sites.staging, name)
    assert tried["source"]["uri"] == f"models:/customers/{number}"

    promote = ("promote", "--policy", str(sites.policy))
    code, said = run(*promote)
    assert code == 0, said
    assert f"{name} is a candidate in production: v1 90 %, {name} 10 %" in said
    assert said.endswith("next: shokado promote")
    assert sites.version(sites.production, name)["digest"] == tried["digest"]
    assert sites.aliases() | {"champion": 1, "staging": number} == sites.aliases()

    code, said = run(*promote)
    assert (code, f"{name}: INCONCLUSIVE at 10 %" in said) == (3, True), said
    with load(sites.production, 4, predict) as clients:

        def is_active() -> bool:
            code, said = run(*promote)
            assert code in (0, 3), said
            return bool(sites.split(sites.production)["active"] == name)

        wait_until(is_active, 250, look_every_s=0.5)
    assert {answer.status for answer in clients.answers} == {200}
    assert sites.split(sites.production)["shares"] == {name: 1.0}
    assert sites.aliases()["champion"] == number
    code, said = run(*promote)
    assert (code, f"{name} is active in production: {name} 100 %" in said) == (0, True), said

    code, said = run("rollback", "--why", "complaints")
    assert (code, "v1 100 %; v1 is the active version" in said) == (0, True), said
    assert f"models:/customers@champion is version 1 now, which was version {number}" in said
    assert sites.aliases()["champion"] == 1
    history = http.get(f"{sites.production.url}/v1/traffic-split/history?limit=1", timeout=20).json()["entries"]
    assert history[0]["why"] == f"rollback from {name} to v1: complaints"
    assert history[0]["by"].endswith("(shokado rollback)")


@pytest.mark.timeout(900)
def test_a_candidate_is_taken_back_and_the_champion_stays(sites: Delivery) -> None:
    assert run("stage", "customers:v2")[0] == 0
    code, said = run("promote", "--policy", str(sites.policy))
    assert (code, "v2 is a candidate in production: v1 90 %, v2 10 %" in said) == (0, True), said
    code, said = run("rollback", "--why", "complaints")
    assert (code, "v2 taken back in production v1 100 %; v1 is the active version" in said) == (0, True), said
    assert sites.aliases()["champion"] == 1
    assert sites.split(sites.production)["shares"] == {"v1": 1.0}


@pytest.mark.timeout(900)
def test_promote_waits_until_the_canary_has_ended(sites: Delivery, tmp_path: Path) -> None:
    assert run("stage", "customers:v2")[0] == 0
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(yaml.safe_load(sites.policy.read_text()) | {"steps": [50, 100]}))
    with load(sites.production, 4, predict):
        code, said = run("promote", "--wait", "--policy", str(policy))
    assert code == 0, said
    assert "v2 100 %; v2 is the active version" in said
    assert sites.aliases()["champion"] == 2


@pytest.mark.timeout(900)
def test_an_experiment_may_decide_in_the_place_of_a_canary(sites: Delivery, tmp_path: Path) -> None:
    assert run("stage", "customers:v2")[0] == 0
    plan = tmp_path / "plan.yaml"
    content = {"metric": "reward", "smallest_effect": 0.2, "max_duration_s": 3600, "label_delay_s": 1}
    plan.write_text(yaml.safe_dump(content))
    promote = ("promote", "--plan", str(plan), "--share", "50", "--no-aliases")
    code, said = run(*promote)
    assert (code, "v2 is a candidate in production: experiment" in said) == (0, True), said
    assert sites.split(sites.production)["shares"] == {"v1": 0.5, "v2": 0.5}
    code, said = run(*promote)
    assert (code, ": RUNNING" in said) == (3, True), said
    url, body = sites.production.url, {"instances": [ROW]}
    for _ in range(3):
        answers = [http.post(f"{url}/v1/models/predict", json=body, timeout=20).json() for _ in range(300)]
        feedback = [
            {"prediction_id": answer["prediction_id"], "reward": 1.0 if answer["version"] == "v2" else 0.0}
            for answer in answers
        ]
        assert http.post(f"{url}/v1/feedback", json=feedback, timeout=20).status_code == 200

    def is_active() -> bool:
        code, said = run(*promote)
        assert code in (0, 3), said
        return code == 0

    wait_until(is_active, 120, look_every_s=1)
    assert sites.split(sites.production)["active"] == "v2"
    assert sites.split(sites.production)["shares"] == {"v2": 1.0}


@pytest.mark.timeout(900)
def test_a_shadow_that_an_experiment_compares_is_what_is_taken_back(sites: Delivery, tmp_path: Path) -> None:
    assert run("stage", "customers:v2")[0] == 0
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        yaml.safe_dump({"metric": "agreement", "smallest_effect": 0.05, "design": "shadow", "label_delay_s": 0})
    )
    promote = ("promote", "--plan", str(plan), "--no-aliases")
    code, said = run(*promote)
    assert (code, "v2 is a candidate in production: experiment" in said) == (0, True), said
    now = sites.split(sites.production)
    assert (now["shadow"], now["shares"]) == ("v2", {"v1": 1.0})
    code, said = run(*promote)
    assert (code, ": RUNNING" in said) == (3, True), said
    code, said = run("rollback", "--why", "enough")
    assert (code, "v2 taken back in production, whose shadow it was" in said) == (0, True), said
    now = sites.split(sites.production)
    assert (now["shadow"], now["active"], now["shares"]) == (None, "v1", {"v1": 1.0})
    experiments = http.get(f"{sites.production.url}/v1/experiments", timeout=20).json()["experiments"]
    assert not any(one["running"] for one in experiments)


@pytest.mark.timeout(900)
def test_what_another_registry_calls_by_the_same_address_gets_no_traffic(
    sites: Delivery, models: Path, tmp_path: Path
) -> None:
    """Here the version that was tried in staging is v2's model, and there the same number is v1's."""
    with delivery(models, tmp_path) as other, pytest.MonkeyPatch.context() as patch:
        number = sites.register(of="2")
        while other.register(of="1") < number:
            pass
        patch.setenv("MLFLOW_TRACKING_URI", sites.registry)
        patch.setenv("SHOKADO_SITES__STAGING__URL", sites.staging.url)
        assert run("stage", f"models:/customers/{number}")[0] == 0
        before = sites.split(other.production)
        code, said = run("promote", "--policy", str(sites.policy))
        assert code == 1
        assert "became another artefact" in said
        assert "do both servers have the same registry" in said
        assert sites.split(other.production)["shares"] == before["shares"]
        assert sites.version(other.production, f"v{number}")["state"] == "unloaded"


@pytest.mark.parametrize(
    ("words", "variables", "told"),
    [
        (
            ("promote", "--from", "nowhere"),
            {},
            "There is no site nowhere in sites.yaml; there are: staging, ",
        ),
        (("promote", "--to", "staging"), {}, "staging is both where a version comes from"),
        (("promote", "--policy", "nowhere.yaml"), {}, "nowhere.yaml: not readable as YAML"),
        (
            ("promote",),
            {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
            "Nothing was changed; without aliases it goes",
        ),
        (
            ("promote",),
            {"SHOKADO_SITES__PRODUCTION__URL": "http://127.0.0.1:9"},
            "No gateway answers at http://127.0.0.1",
        ),
        (("stage", "models:/customers/4711"), {}, "has no models:/customers/4711"),
        (("stage", "models:/nobody@champion"), {}, "has no models:/nobody@champion"),
        (("stage", "nonsense"), {}, "nonsense is no version of staging, which has v1, v2"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    words: tuple[str, ...], variables: dict[str, str], told: str, sites: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = sites.split(sites.production)
    code, said = run(*words)
    assert (code, told in said) == (2 if "both where" in told else 1, True), said
    assert sites.split(sites.production) == before


@pytest.mark.parametrize(
    ("actives", "before"),
    [
        (["v1"], None),
        (["v1", "v2"], "v1"),
        (["v1", "v2", "v3"], "v2"),
        (["v1", "v2", "v3", "v2"], "v1"),
        (["v1", "v2", "v3", "v2", "v1"], None),
        (["v1", "v2", "v1", "v2"], "v1"),
        (["v1", "v2", "v1", "v3"], "v1"),
        ([], None),
    ],
)
def test_going_back_goes_back_further_each_time(actives: list[str], before: str | None) -> None:
    assert version_before(actives) == before
