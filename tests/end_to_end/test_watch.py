"""`shokado watch`, with two real servers and a real registry: each new version once, wherever the watch is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.closed_loop import load
from tests.end_to_end.delivery import Delivery, delivery, run
from tests.end_to_end.test_promotion import predict
from tests.support import http
from tests.support.server import ROOT
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ADDRESS = "models:/customers@challenger"


@pytest.fixture(scope="module")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivery]:
    with delivery(models, tmp_path_factory.mktemp("watch")) as both:
        yield both


@pytest.fixture
def sites(running: Delivery) -> Delivery:
    running.reset()
    return running


def entries(journal: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(journal.read_text())["versions"]
    return found


def watch_once(sites: Delivery, journal: Path, *words: str) -> tuple[int, str]:
    return run("watch", ADDRESS, "--once", "--policy", str(sites.policy), "--journal", str(journal), *words)


def test_a_new_version_is_tried_in_staging_and_taken_in_production(sites: Delivery, tmp_path: Path) -> None:
    journal, number = tmp_path / "journal.json", sites.register(alias="challenger")
    name = f"v{number}"
    code, said = watch_once(sites, journal)
    assert code == 3, said
    assert f"models:/customers/{number} is new" in said
    assert f"{name} passes the smoke test in staging" in said
    assert f"{name} is a candidate in production: v1 90 %, {name} 10 %" in said
    assert sites.split(sites.staging, "staging")["active"] == name
    assert sites.aliases()["staging"] == number
    with load(sites.production, 4, predict) as clients:

        def taken() -> bool:
            code, said = watch_once(sites, journal)
            assert code in (0, 3), said
            return code == 0

        wait_until(taken, 300, look_every_s=0.5)
    assert {answer.status for answer in clients.answers} == {200}
    assert sites.split(sites.production)["active"] == name
    assert sites.aliases()["champion"] == number
    assert entries(journal)[f"models:/customers/{number}"]["stage"] == "taken"
    generation = sites.split(sites.production)["generation"]
    code, said = watch_once(sites, journal)
    assert (code, f"nothing new at {ADDRESS}" in said) == (0, True), said
    assert sites.split(sites.production)["generation"] == generation


def test_what_was_refused_once_is_left_alone(sites: Delivery, tmp_path: Path) -> None:
    """A canary that somebody takes back, while no watch looks."""
    journal, champion = tmp_path / "journal.json", sites.aliases().get("champion")
    sites.name("challenger", 2)
    assert watch_once(sites, journal)[0] == 3
    assert run("rollback", "--why", "complaints", "--no-aliases")[0] == 0
    code, said = watch_once(sites, journal)
    assert code == 1, said
    assert "models:/customers/2 is refused: rollback: v2 taken back: complaints" in said
    assert sites.split(sites.production)["shares"] == {"v1": 1.0}
    code, said = watch_once(sites, journal)
    assert (code, "nothing new" in said) == (0, True), said
    assert sites.split(sites.production)["shares"] == {"v1": 1.0}
    assert sites.aliases().get("champion") == champion


def test_wrong_numbers_are_refused_before_any_traffic(sites: Delivery, models: Path, tmp_path: Path) -> None:
    """A card in the model store here says otherwise of the very artefact that staging has."""
    journal, own = tmp_path / "journal.json", tmp_path / "own"
    sites.name("challenger", 2)
    shutil.copytree(models / "models" / "customers" / "v2", own / "models" / "customers" / "v2")
    file = own / "models" / "customers" / "v2" / "card.json"
    card = json.loads(file.read_text())
    card["examples"]["scores"][7] += 0.001
    file.write_text(json.dumps(card))
    before = sites.split(sites.staging, "staging")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(own))
        code, said = watch_once(sites, journal)
    assert code == 1, said
    told = "models:/customers/2 is refused: v2 fails the smoke test in staging: numbers of v2: predictions are"
    assert told in said
    assert sites.split(sites.staging, "staging") == before
    assert watch_once(sites, journal)[0] == 0


def test_what_no_server_can_load_is_refused_after_some_attempts(sites: Delivery, tmp_path: Path) -> None:
    """Its files are gone."""
    made = sites.client.create_model_version("customers", str(tmp_path / "gone"))
    sites.client.set_registered_model_alias("customers", "challenger", made.version)
    journal, uri = tmp_path / "journal.json", f"models:/customers/{made.version}"
    before = sites.split(sites.staging, "staging")
    for attempt in (1, 2):
        code, said = watch_once(sites, journal)
        assert (code, "it is tried again" in said) == (3, True), said
        assert entries(journal)[uri]["attempts"] == attempt
    code, said = watch_once(sites, journal)
    assert (code, f"{uri} is refused: 3 times: " in said) == (1, True), said
    assert watch_once(sites, journal)[0] == 0
    assert sites.split(sites.staging, "staging") == before


def test_a_version_waits_until_production_is_free(sites: Delivery, tmp_path: Path) -> None:
    """Production deals by observed performance, which moves the split by itself; a newer version waits for this one."""
    answer = http.put(f"{sites.production.url}/v1/traffic-split", json={"strategy": "weighted"}, timeout=20)
    assert answer.status_code == 200, answer.text
    journal, uri = tmp_path / "journal.json", "models:/customers/2"
    sites.name("challenger", 2)
    code, said = watch_once(sites, journal, "--no-aliases")
    assert (code, "The strategy of production is weighted" in said) == (3, True), said
    assert entries(journal)[uri]["stage"] == "begun"
    sites.reset()
    code, said = watch_once(sites, journal, "--no-aliases")
    assert (code, "v2 is a candidate in production: v1 90 %, v2 10 %" in said) == (3, True), said
    sites.name("challenger", 1)
    code, said = watch_once(sites, journal, "--no-aliases")
    assert (code, "v2: INCONCLUSIVE at 10 %" in said) == (3, True), said
    assert run("rollback", "--why", "enough", "--no-aliases")[0] == 0
    assert watch_once(sites, journal, "--no-aliases")[0] == 1
    code, said = watch_once(sites, journal, "--no-aliases")
    assert (code, "models:/customers/1 is taken: v1 is active in production" in said) == (0, True), said


def test_a_newer_version_takes_the_place_of_one_that_is_no_candidate_yet(sites: Delivery, tmp_path: Path) -> None:
    """Production is away at first."""
    journal = tmp_path / "journal.json"
    sites.name("challenger", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOKADO_SITES__PRODUCTION__URL", "http://127.0.0.1:9")
        code, said = watch_once(sites, journal, "--no-aliases")
    assert (code, "it is tried again" in said) == (3, True), said
    assert entries(journal)["models:/customers/2"]["stage"] == "tried"
    sites.name("challenger", 1)
    code, said = watch_once(sites, journal, "--no-aliases")
    assert code == 0, said
    assert "models:/customers/2 is refused: models:/customers/1 came before it was a candidate" in said
    assert "models:/customers/1 is taken" in said


def test_killed_at_any_moment_it_goes_on_where_it_was(sites: Delivery, tmp_path: Path) -> None:
    """A watch is killed again and again, each time a little later, until the version is active in production.

    In the end it was a candidate once, and what stands in the history is one canary's way.
    """
    journal, number = tmp_path / "journal.json", sites.register(alias="challenger")
    name, uri = f"v{number}", f"models:/customers/{number}"
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(yaml.safe_load(sites.policy.read_text()) | {"steps": [50, 100]}))
    command = [sys.executable, "-m", "shokado", "watch", ADDRESS, "--every", "0.2", "--policy", str(policy)]
    moments = ("journal", "load", "staging", "tried", "there", "begun", "candidate", "half", "active")
    told = tmp_path / "watch.log"
    log = told.open("ab")

    def reached(moment: str) -> bool:
        stage = entries(journal).get(uri, {}).get("stage") if journal.exists() else None
        share = sites.split(sites.production)["shares"].get(name, 0.0)
        moments = {
            "journal": stage is not None,
            "load": f"load {uri} as {name} at {sites.staging.url}" in told.read_text(),
            "staging": sites.split(sites.staging, "staging")["active"] == name,
            "tried": stage in ("tried", "begun", "taken"),
            "there": f"load {uri} as {name} at {sites.production.url}" in told.read_text(),
            "begun": stage in ("begun", "taken"),
            "candidate": share > 0,
            "half": share >= 0.5,
            "active": share == 1.0,
        }
        return bool(moments[moment])

    with load(sites.production, 4, predict) as clients:
        for moment in moments:
            process = subprocess.Popen(
                [*command, "--journal", str(journal)],
                cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                wait_until(partial(reached, moment), 280, look_every_s=0.02)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait(30)

        def taken() -> bool:
            code, said = run("watch", ADDRESS, "--once", "--policy", str(policy), "--journal", str(journal))
            assert code in (0, 3), said
            return code == 0

        wait_until(taken, 120, look_every_s=0.5)
    assert entries(journal)[uri]["stage"] == "taken"
    assert sites.aliases()["champion"] == number
    assert {answer.status for answer in clients.answers} == {200}
    history = http.get(f"{sites.production.url}/v1/traffic-split/history", timeout=20).json()["entries"]
    begins = [entry["why"] for entry in history if entry["why"] == f"canary of {name} begins"]
    assert len(begins) == 1
    for server in (sites.staging, sites.production):
        listed = http.get(f"{server.url}/v1/models", timeout=20).json()["versions"]
        assert [one["version"] for one in listed if one["source"]["uri"] == uri] == [name]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("not json", "is no journal of a watch"),
        ('{"format": 1, "versions": {"a": {"stage": "unheard of"}}}', "is no journal of a watch"),
    ],
)
def test_a_journal_that_is_none_is_said(harm: str, told: str, sites: Delivery, tmp_path: Path) -> None:
    journal = tmp_path / "journal.json"
    journal.write_text(harm)
    code, said = watch_once(sites, journal)
    assert (code, told in said) == (1, True), said
    assert journal.read_text() == harm


def test_two_watches_do_not_share_a_journal(sites: Delivery, tmp_path: Path) -> None:
    journal = tmp_path / "journal.json"
    command = [sys.executable, "-m", "shokado", "watch", "models:/nobody@challenger", "--journal", str(journal)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        wait_until((tmp_path / "journal.json.lock").exists, 60)

        def is_told() -> bool:
            code, said = watch_once(sites, journal)
            return code == 1 and "Another watch has the journal" in said

        wait_until(is_told, 60, look_every_s=0.5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)


def test_an_address_that_is_none_is_said(sites: Delivery) -> None:
    code, said = run("watch", "churn", "--once")
    assert (code, "is no address of a model" in said) == (1, True), said
