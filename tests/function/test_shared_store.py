"""A function beside a server that shares its Redis: it follows the split, and what it counts and seals counts there."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shokado.access.keys import Role, add_key
from shokado.dispatch.state import Load
from tests.function.events import http_event, read_answer, rest_event
from tests.function.functions import Function, opened
from tests.function.runtime import Runtime, needs_lambda_packages, running
from tests.support import http
from tests.support.raw_http import NATIVE, Answer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until

pytestmark = needs_redis

JSON = [("content-type", "application/json")]
BODY = json.dumps({"instances": [ROW]}).encode()
PREDICT = http_event("POST", NATIVE, JSON, BODY)
SPLIT = "/v1/traffic-split"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


def ask(function: Function | Runtime, event: dict[str, Any] = PREDICT) -> Answer:
    return read_answer(function.answer(event) if isinstance(function, Function) else function.invoke(event))


def put_split(server: Server, **weights: float) -> int:
    answer = http.post(server.url + SPLIT, json={"weights": weights}, timeout=20)
    assert answer.status_code == 200, answer.text
    generation: int = answer.json()["generation"]
    return generation


def requests_of(server: Server) -> dict[str, int]:
    """How many answers of each version all have counted."""
    versions = http.get(f"{server.url}/ab-test/status", timeout=20).json()["versions"]
    return {version: found["requests"] for version, found in versions.items()}


@needs_lambda_packages
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_function_and_a_server_are_one_service(redis: RedisServer, task: Path, tmp_path: Path) -> None:
    environment = {"SHOKADO_STORE": redis.url, "SHOKADO_WORKERS": "1"}
    with serving(environment=environment) as server, running(task, tmp_path, SHOKADO_STORE=redis.url) as runtime:
        generation = put_split(server, v1=100)
        wait_until(lambda: ask(runtime).json["generation"] == generation, 20)
        before = requests_of(server)

        answers = [ask(runtime).json for _ in range(20)]
        assert {answer["version"] for answer in answers} == {"v1"}
        # Each was counted before it was answered.
        assert requests_of(server)["v1"] == before["v1"] + 20

        labels = [{"prediction_id": answer["prediction_id"], "label": 1} for answer in answers]
        told = http.post(f"{server.url}/v1/feedback", json=labels, timeout=20).json()
        assert told["accepted"] == 20, told

        # Who stood still when it was changed goes by the change from the first answer on.
        for weights in ({"v2": 100.0}, {"v1": 100.0}):
            runtime.stop_time()
            time.sleep(1.2)
            generation = put_split(server, **weights)
            runtime.send(PREDICT)
            runtime.go_on()
            answer = read_answer(runtime.read()).json
            assert ([answer["version"]], answer["generation"]) == ([*weights], generation)

        # As what stands between does to connections that are not used.
        for _ in range(3):
            assert redis.client().client_kill_filter(_type="normal", skipme=True)
            time.sleep(1.2)
            assert ask(runtime).status == 200
        generation = put_split(server, v2=100)
        wait_until(lambda: ask(runtime).json["generation"] == generation, 20)

        redis.kill()
        for _ in range(5):
            time.sleep(0.4)
            assert ask(runtime).json["version"] == "v2"
        assert "changes are refused" in runtime.log.read_text()
        redis.start()
        wait_until(lambda: ask(runtime).status == 200 and "can be used again" in runtime.log.read_text(), 20)


def test_a_store_that_does_not_answer_holds_up_no_answer_for_long(redis: RedisServer, models: object) -> None:
    """It keeps its connections and answers nothing: a client's own time limit would be two seconds."""
    with opened(SHOKADO_STORE=redis.url) as function:
        assert ask(function).status == 200
        redis.pause()
        try:
            time.sleep(1.1)
            answers = [ask(function) for _ in range(4)]
        finally:
            redis.resume()
        assert {answer.status for answer in answers} == {200}
        # What was counted meanwhile is added when it answers again.
        wait_until(lambda: ask(function).status == 200 and counted(redis) >= 6, 20)


def counted(redis: RedisServer) -> float:
    """Requests in the tallies of the store."""
    client = redis.client()
    return sum(
        float(number)
        for key in client.scan_iter("shokado:*:tallies:*")
        for tally, number in client.hgetall(key).items()
        if json.loads(tally)[2] == "requests"
    )


def test_an_instance_is_no_worker_that_others_wait_for(redis: RedisServer, models: object) -> None:
    with opened(SHOKADO_STORE=redis.url) as function:
        assert ask(function).status == 200
        assert ask(function, rest_event("GET", "/readyz")).json["store"]["name"] == redis.url.rstrip("/")
    assert redis.client().hlen("shokado:{customers}:reports") == 0


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, dict[Role, str]]:
    file = tmp_path / "keys.yaml"
    return file, {role: add_key(file, role.value, role) for role in Role}


def test_changes_need_a_shared_store_and_a_key(
    redis: RedisServer, models: object, keys: tuple[Path, dict[Role, str]]
) -> None:
    file, secrets = keys
    change = json.dumps({"weights": {"v2": 100}, "why": "test"}).encode()

    def changed_by(function: Function, *headers: tuple[str, str]) -> Answer:
        return ask(function, rest_event("POST", SPLIT, [*JSON, *headers], change))

    with opened(SHOKADO_ACCESS__KEYS_FILE=str(file)) as function:
        answer = changed_by(function, ("x-api-key", secrets[Role.ADMIN]))
        assert (answer.status, answer.code) == (403, "keys_needed"), "nobody would follow it"
    with opened(SHOKADO_STORE=redis.url) as function:
        assert (changed_by(function).status, ask(function).json["generation"]) == (403, 1)
        local = rest_event("POST", SPLIT, JSON, change)
        local["requestContext"]["identity"]["sourceIp"] = "127.0.0.1"
        assert ask(function, local).status == 403, "an event can say any address"
    with opened(SHOKADO_STORE=redis.url, SHOKADO_ACCESS__KEYS_FILE=str(file)) as function:
        assert ask(function).status == 401
        assert changed_by(function).status == 401
        assert changed_by(function, ("x-api-key", "wrong")).status == 401
        assert changed_by(function, ("x-api-key", secrets[Role.PREDICT])).status == 403
        answer = changed_by(function, ("authorization", f"Bearer {secrets[Role.ADMIN]}"))
        assert (answer.status, answer.json["generation"]) == (200, 2)
        predicting = http_event("POST", NATIVE, [*JSON, ("x-api-key", secrets[Role.PREDICT])], BODY)
        assert [ask(function, predicting).json["version"] for _ in range(5)] == ["v2"] * 5
        entries = ask(function, rest_event("GET", f"{SPLIT}/history", [("x-api-key", secrets[Role.PREDICT])])).json
        assert [entry["generation"] for entry in entries["entries"]] == [2, 1]
        rolled = json.dumps({"generation": 1}).encode()
        back = rest_event("POST", f"{SPLIT}/rollback", [*JSON, ("x-api-key", secrets[Role.ADMIN])], rolled)
        assert ask(function, back).json["generation"] == 3
        load = json.dumps({"uri": "models:/customers/1"}).encode()
        event = rest_event("POST", "/v1/models/v3/load", [*JSON, ("x-api-key", secrets[Role.ADMIN])], load)
        answer = ask(function, event)
        assert (answer.status, answer.code) == (409, "cannot_load_here")


def test_rates_are_counted_by_all_instances_together(redis: RedisServer, models: object) -> None:
    """By the address that the gateway saw, whatever a header says."""
    rates = {"SHOKADO_ACCESS__RATES__PER_ADDRESS": "3/hour", "SHOKADO_ACCESS__RATES__URL": redis.url}
    with opened(**rates) as one, opened(**rates) as other:
        lied = http_event("POST", NATIVE, [*JSON, ("x-forwarded-for", "198.51.100.9")], BODY)
        answers = [ask(function, event) for event in (PREDICT, lied) for function in (one, other)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]


def test_feedback_is_taken_where_a_store_is_shared(redis: RedisServer, models: object) -> None:
    with opened(SHOKADO_STORE=redis.url) as function:
        told = json.dumps({"prediction_id": ask(function).json["prediction_id"], "label": 1}).encode()
        event = http_event("POST", "/v1/feedback", JSON, told)
        assert ask(function, event).json["accepted"] == 1
        assert ask(function, event).json["accepted"] == 0, "once only"
    with opened() as function:
        assert ask(function, http_event("POST", "/v1/feedback", JSON, told)).status == 404


def answers_when(function: Function, **loads: Load | None) -> set[tuple[str, str]]:
    """Versions and reasons of answers under a split that has loaded these."""
    instance = function.instance
    state = instance.dispatcher.state
    instance._route(replace(state, loads={version: load for version, load in loads.items() if load is not None}))
    answers = [ask(function).json for _ in range(60)]
    return {(answer["version"], answer["reason"]) for answer in answers}


def test_a_version_that_the_function_lacks_is_answered_by_the_active_one(
    models: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A server has loaded another model under its name since, or unloaded it."""
    with opened() as function:
        digest = function.instance.artefacts["v2"].digest
        same, other = Load("customers:v2", digest, ""), Load("customers:v2b", "0" * 64, "")
        both = {("v1", "SPLIT"), ("v2", "SPLIT")}
        assert answers_when(function) == both
        assert answers_when(function, v2=same) == both
        assert caplog.messages == []
        for _ in range(2):
            assert answers_when(function, v2=other) == {("v1", "SPLIT"), ("v1", "FALLBACK")}
        assert [message for message in caplog.messages if "servers have loaded other models as v2" in message] == [
            caplog.messages[0]
        ]
        pinned = http_event("POST", NATIVE, [*JSON, ("x-model-version", "v2")], BODY)
        assert (ask(function, pinned).status, ask(function, pinned).code) == (503, "not_ready")
        unloaded = replace(same, in_memory=False)
        assert answers_when(function, v2=unloaded) == {("v1", "SPLIT"), ("v1", "FALLBACK")}
        assert answers_when(function, v2=same) == both
