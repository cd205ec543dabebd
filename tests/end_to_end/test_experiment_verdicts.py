"""Experiments on a real server with two workers: each ends in its verdict, once, and the split moves as planned."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from configuration.experiment_plan import MAX_COHORTS
from tests.end_to_end.test_remote import configured, kill, remote
from tests.end_to_end.test_routing import ask, change, get
from tests.support import http
from tests.support.raw_http import Connection, request
from tests.support.server import ROW, Server, serving
from tests.support.waiting import PATIENCE_S, wait_until

PLAN = {"metric": "reward", "smallest_effect": 0.1, "label_delay_s": 20, "max_duration_s": 200, "at_end": "promote"}
HALVES = {"v1": 50, "v2": 50}
pytestmark = pytest.mark.timeout(600)


def begin(server: Server, **more: Any) -> str:
    """Give both versions half of the traffic, and begin; the experiment's id."""
    assert change(server, {"weights": HALVES, "active": "v1", **more.pop("split", {})}).status_code == 200
    begun = change(server, PLAN | more, "/v1/experiments", **{"X-Actor": "ann"})
    assert begun.status_code == 201, begun.text
    server.wait_for_generation(begun.json()["stages"][0]["generation"])
    return str(begun.json()["id"])


def asked(server: Server, number: int, first_unit: int = 0) -> list[dict[str, Any]]:
    """Answers for as many users, over a few connections, so that both workers have their part of them."""
    answers = []
    for start in range(0, number, 25):
        with Connection(server) as connection:
            for unit in range(first_unit + start, first_unit + min(start + 25, number)):
                body = json.dumps({"instances": [ROW], "user_id": f"user-{unit}"}).encode()
                answer = connection.ask(request(body))
                assert answer.status == 200, answer
                answers.append(answer.json)
    return answers


def reward(server: Server, answers: list[dict[str, Any]], rewards: dict[str, float]) -> int:
    """Tell what each is worth by its version; how many were accepted."""
    entries = [{"prediction_id": each["prediction_id"], "reward": rewards[each["version"]]} for each in answers]
    told = http.post(f"{server.url}/v1/feedback", json=entries, timeout=60)
    assert told.status_code == 200, told.text
    return int(told.json()["accepted"])


def ended(server: Server, experiment: str) -> Any:
    """The experiment when it has ended, which the history tells of once, and all workers know."""
    wait_until(lambda: not get(server, f"/v1/experiments/{experiment}")["running"], PATIENCE_S, 0.5)
    found = get(server, f"/v1/experiments/{experiment}")
    entries = get(server, "/v1/traffic-split/history?limit=100")["entries"]
    ends = [entry for entry in entries if entry["action"] == "conclude" and experiment in entry["why"]]
    assert len(ends) == 1, "decided once"
    server.wait_for_generation(ends[0]["generation"])
    assert (ends[0]["by"], ends[0]["why"].split()[0]) == ("shokado", found["verdict"])
    assert any(entry["action"] == "experiment" and entry["by"] == "ann" for entry in entries)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [pytest.param("random", marks=pytest.mark.slow), "hash"])
def test_a_better_version_is_promoted_though_a_worker_is_killed(own_server: Server, strategy: str) -> None:
    # All of it is one cohort, and so judged together.
    cohort_s = 8
    experiment = begin(own_server, split={"strategy": strategy}, max_duration_s=cohort_s * MAX_COHORTS)
    wait_until(lambda: time.time() % cohort_s < 1)
    answers = asked(own_server, 150)
    counts = Counter(answer["version"] for answer in answers)
    assert reward(own_server, answers, {"v1": 0.0, "v2": 1.0}) == 150
    os.kill(own_server.workers()[0], signal.SIGKILL)
    found = ended(own_server, experiment)
    assert (found["verdict"], found["winner"]) == ("PROMOTE", "v2")
    assert {name: version["observations"] for name, version in found["versions"].items()} == counts
    assert get(own_server, "/v1/traffic-split")["shares"] == {"v2": 1.0}
    assert get(own_server, "/v1/traffic-split")["active"] == "v2"


@pytest.mark.slow
def test_a_worse_version_is_rolled_back(own_server: Server) -> None:
    experiment = begin(own_server, at_end="rollback")
    reward(own_server, asked(own_server, 150), {"v1": 1.0, "v2": 0.0})
    found = ended(own_server, experiment)
    assert (found["verdict"], found["winner"]) == ("ROLLBACK", None)
    assert get(own_server, "/v1/traffic-split")["shares"] == {"v1": 1.0}


@pytest.mark.slow
def test_one_that_is_as_good_is_held_in_the_end(own_server: Server) -> None:
    experiment = begin(own_server, max_duration_s=20, label_delay_s=5)
    reward(own_server, asked(own_server, 40), {"v1": 0.5, "v2": 0.5})
    assert ended(own_server, experiment)["verdict"] == "HOLD"
    assert get(own_server, "/v1/traffic-split")["shares"] == {"v1": 0.5, "v2": 0.5}


@pytest.mark.slow
def test_one_whose_requests_fall_back_is_invalid_and_gets_no_more(models: Path, tmp_path: Path) -> None:
    with serving(environment=configured(tmp_path, {"v2": {}}, active="v2")) as runner:
        split = {"v1": {}, "v2": remote(runner.url, eject_for_s=60.0)}
        with serving(environment=configured(tmp_path, split, workers=2)) as server:
            experiment = begin(server)
            kill(runner)
            answers = asked(server, 250)
            assert {answer["version"] for answer in answers} == {"v1"}
            found = ended(server, experiment)
            assert found["verdict"] == "INVALID"
            assert "of v2" in found["reason"]
            assert get(server, "/v1/traffic-split")["shares"] == {"v1": 1.0}
            assert {answer["reason"] for answer in ask(server, 4)} == {"SPLIT"}


@pytest.mark.slow
def test_a_server_that_is_killed_loses_no_feedback_and_decides_after_its_next_start(
    models: object, tmp_path: Path
) -> None:
    environment = {"SHOKADO_WORKERS": "2", "SHOKADO_STORE": f"sqlite:///{tmp_path}/routing.db"}
    with serving(environment=environment) as first:
        # All of it is one cohort, and so judged together.
        cohort_s = 8
        experiment = begin(first, label_delay_s=40, max_duration_s=cohort_s * MAX_COHORTS)
        wait_until(lambda: time.time() % cohort_s < 1)
        answers = asked(first, 150)
        assert reward(first, answers, {"v1": 0.0, "v2": 1.0}) == 150
        # Before anything is due.
        kill(first)
    with serving(environment=environment) as second:
        assert reward(second, answers, {"v1": 0.0, "v2": 1.0}) == 0, "all are known"
        found = ended(second, experiment)
        assert (found["verdict"], found["winner"]) == ("PROMOTE", "v2")
        counts = Counter(answer["version"] for answer in answers)
        assert {name: version["observations"] for name, version in found["versions"].items()} == counts
