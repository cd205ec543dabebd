"""Experiments of a shadow on a real server with two workers: the candidate is judged, and answers nobody."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from configuration.experiment_plan import MAX_COHORTS
from tests.end_to_end.test_experiment_verdicts import ended
from tests.end_to_end.test_remote import rows
from tests.end_to_end.test_routing import change, get
from tests.support import http
from tests.support.raw_http import Connection, request
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import Server, serving
from tests.support.waiting import wait_until

PLAN = {"design": "shadow", "smallest_effect": 0.1, "label_delay_s": 8, "max_duration_s": 200, "at_end": "promote"}
COHORT_S = 10
Rows = NDArray[np.float32]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("redis", marks=needs_redis)])
def shadowing(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Half of the time may go into copies, so that all of them are scored soon."""
    environment = {"SHOKADO_WORKERS": "2", "SHOKADO_SHADOW__CPU_SHARE": "0.5"}
    if request.param == "sqlite":
        with serving(environment=environment) as server:
            yield server
    else:
        with contextlib.ExitStack() as running:
            redis = running.enter_context(RedisServer(tmp_path_factory.mktemp("redis")))
            yield running.enter_context(serving(environment={**environment, "SHOKADO_STORE": redis.url}))


@pytest.fixture(scope="module")
def told(shadowing: Server) -> tuple[Rows, Rows]:
    """Rows of which both versions say the same, and others."""
    content = rows(4000)
    classes = [
        np.array(
            http.post(
                f"{shadowing.url}/v1/models/predict",
                json={"instances": content.tolist(), "version": version},
                timeout=60,
            ).json()["classes"]
        )
        for version in ("v1", "v2")
    ]
    alike = classes[0] == classes[1]
    assert min(alike.sum(), (~alike).sum()) > 80, "models that differ, but not in everything"
    return content[alike], content[~alike]


def begin(server: Server, **plan: Any) -> str:
    """Have v1 answer all, with v2 as its shadow, and begin; the experiment's id."""
    split = {"weights": {"v1": 1, "v2": 0}, "active": "v1", "shadow": "v2"}
    assert change(server, split).status_code == 200
    begun = change(server, PLAN | plan, "/v1/experiments", **{"X-Actor": "ann"})
    assert begun.status_code == 201, begun.text
    server.wait_for_generation(begun.json()["stages"][0]["generation"])
    return str(begun.json()["id"])


def asked(server: Server, content: Rows, named: str) -> list[dict[str, Any]]:
    """An answer for each row, each of another user, over connections to both workers."""
    answers = []
    for start in range(0, len(content), 10):
        with Connection(server) as connection:
            for number, row in enumerate(content[start : start + 10].tolist(), start):
                body = json.dumps({"instances": [row], "user_id": f"{named}-{number}"}).encode()
                answer = connection.ask(request(body))
                assert answer.status == 200, answer
                answers.append(answer.json)
    assert {answer["version"] for answer in answers} == {"v1"}
    return answers


def label(server: Server, answers: list[dict[str, Any]], *, right: bool) -> None:
    """Say that each answer was right, or that the other class would have been."""
    entries = [
        {"prediction_id": one["prediction_id"], "label": one["classes"][0] if right else 1 - one["classes"][0]}
        for one in answers
    ]
    settled = http.post(f"{server.url}/v1/feedback", json=entries, timeout=60)
    assert settled.json()["accepted"] == len(entries), settled.text


def serving_now(server: Server) -> set[int]:
    return {worker["pid"] for worker in get(server, "/v1/models")["workers"]}


def pairs(server: Server, experiment: str) -> dict[str, int]:
    found: dict[str, int] = get(server, f"/v1/experiments/{experiment}")["pairs"]
    return found


def test_a_better_shadow_is_promoted_though_a_worker_is_killed(shadowing: Server, told: tuple[Rows, Rows]) -> None:
    """Where they differ the shadow is right; labels come before its scores do."""
    alike, others = told
    # All of it is one cohort, and so judged together.
    experiment = begin(shadowing, metric="accuracy", max_duration_s=COHORT_S * MAX_COHORTS)
    wait_until(lambda: time.time() % COHORT_S < 1)
    label(shadowing, asked(shadowing, others[:60], "others"), right=False)
    label(shadowing, asked(shadowing, alike[:40], "alike"), right=True)
    wait_until(lambda: pairs(shadowing, experiment).get("scored") == 100)
    assert pairs(shadowing, experiment)["labels"] == 100
    killed = shadowing.workers()[0]
    os.kill(killed, signal.SIGKILL)
    found = ended(shadowing, experiment)
    assert (found["verdict"], found["winner"]) == ("PROMOTE", "v2"), found["reason"]
    assert {name: version["observations"] for name, version in found["versions"].items()} == {"v1": 100, "v2": 100}
    assert found["versions"]["v1"]["mean"] == pytest.approx(0.4)
    assert found["versions"]["v2"]["effect"] == pytest.approx(0.6)
    assert found["versions"]["v2"]["assigned"] == 0, "nobody was put at risk"
    routing = get(shadowing, "/v1/traffic-split")
    assert (routing["shares"], routing["active"], routing["shadow"]) == ({"v2": 1.0}, "v2", None)
    # The one that was killed is known for ten seconds, and another one takes a while to start.
    wait_until(lambda: len(known := serving_now(shadowing)) == 2 and killed not in known, 120)


def test_a_shadow_that_is_right_and_wrong_in_the_same_places_is_held(
    shadowing: Server, told: tuple[Rows, Rows]
) -> None:
    alike, _ = told
    experiment = begin(shadowing, metric="accuracy")
    answers = asked(shadowing, alike[:160], "equal")
    label(shadowing, answers[:80], right=True)
    label(shadowing, answers[80:], right=False)
    found = ended(shadowing, experiment)
    assert (found["verdict"], found["winner"]) == ("HOLD", None), found["reason"]
    assert "equivalent" in found["reason"]
    assert found["versions"]["v2"]["effect"] == 0
    routing = get(shadowing, "/v1/traffic-split")
    assert (routing["shares"], routing["shadow"]) == ({"v1": 1.0}, "v2")


def test_agreement_is_decided_without_labels(shadowing: Server, told: tuple[Rows, Rows]) -> None:
    alike, others = told
    for content, verdict in ((alike, "PROMOTE"), (others, "ROLLBACK")):
        experiment = begin(shadowing, metric="agreement", at_end="tell", label_delay_s=0)
        asked(shadowing, content[:80], verdict)
        found = ended(shadowing, experiment)
        assert found["verdict"] == verdict, found["reason"]
        assert found["versions"]["v2"]["mean"] == (1.0 if verdict == "PROMOTE" else 0.0)
        effects = get(shadowing, f"/v1/experiments/{experiment}/effects")["candidates"]["v2"]
        assert effects["estimate"][-1] == found["versions"]["v2"]["effect"]
