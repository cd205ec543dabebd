"""A built function, run by AWS's own runtime client: it answers like a server, and what stood still goes on rightly."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.cases import BAD, GOOD, OTHERS
from tests.function.events import GATEWAYS, http_event, read_answer, rest_event, url_event
from tests.function.runtime import FunctionError, Runtime, needs_lambda_packages, running
from tests.function.test_parity import CASES
from tests.support.raw_http import NATIVE, Connection, near
from tests.support.server import ROW, Server
from tests.support.waiting import wait_until
from tests.transports.test_parity import assert_alike, essence

pytestmark = [needs_lambda_packages, pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [case for case in CASES if len(case.body) < 100_000]
JSON = [("content-type", "application/json")]


@pytest.fixture(scope="module")
def runtime(task: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running(task, tmp_path_factory.mktemp("runtime")) as runtime:
        yield runtime


def predict(runtime: Runtime, **headers: str) -> Any:
    body = json.dumps({"instances": [ROW]}).encode()
    return read_answer(runtime.invoke(http_event("POST", NATIVE, [*JSON, *headers.items()], body)))


def test_every_dialect_is_answered_as_a_server_answers_it(server: Server, runtime: Runtime) -> None:
    """All of the table, each through another gateway than the one before."""
    gateways = [*GATEWAYS.values()]
    for number, case in enumerate(SMALL):
        kept = dict(case.headers).get("x-request-id")
        with Connection(server) as connection:
            expected = essence(connection.ask(case.bytes_for("lane")), kept)
        headers = [("host", "shokado"), *case.headers]
        if case.content_type is not None:
            headers.append(("content-type", case.content_type))
        repeated = len({name.lower() for name, _ in headers}) < len(headers)
        gateway = rest_event if repeated else gateways[number % len(gateways)]
        found = essence(read_answer(runtime.invoke(gateway("POST", case.route, headers, case.body))), kept)
        assert_alike(found, expected)
    assert len(SMALL) > 200
    assert {case.route for case in SMALL} >= {case.route for case in (*GOOD, *BAD, *OTHERS)}


def test_the_split_is_that_of_the_artefact(runtime: Runtime) -> None:
    """Four fifths of v1: of 300 draws, hardly ever less than 200 or more than 276 (one in a million)."""
    answered = [predict(runtime).json["version"] for _ in range(300)]
    assert 200 <= answered.count("v1") <= 276
    assert set(answered) == {"v1", "v2"}


def test_it_has_what_it_imports_and_no_more(runtime: Runtime, task: Path) -> None:
    """Heavy packages of a server are not in it, and control routes work without them."""
    assert not {"bentoml", "scipy", "xgboost", "mlflow", "uvicorn", "aiohttp", "grpc"} & set(os.listdir(task))
    for path in ("/livez", "/readyz", "/health", "/ping", "/v1/models", "/v1/traffic-split", "/v2", "/openapi.json",
                 "/v1/traffic-split/history", "/v1/traffic-split/explain?unit=7", "/version", "/models"):  # fmt: skip
        assert read_answer(runtime.invoke(url_event("GET", path))).status == 200, path
    for method, path, status in (
        ("GET", "/metrics", 404), ("GET", "/dashboard", 404), ("GET", "/nowhere", 404), ("PUT", "/livez", 405),
        ("POST", "/v1/traffic-split", 403), ("POST", "/v1/models/v3/load", 403), ("GET", NATIVE, 405),
    ):  # fmt: skip
        answer = read_answer(runtime.invoke(url_event(method, path)))
        assert (answer.status, answer.json["error"]["code"] != "internal") == (status, True), path


def test_explanations_of_trees_say_what_is_missing(runtime: Runtime) -> None:
    body = json.dumps({"instances": [ROW], "version": "v1"}).encode()
    answer = read_answer(runtime.invoke(http_event("POST", "/v1/models/explain", JSON, body)))
    assert (answer.status, answer.json["error"]["code"]) == (409, "not_explainable")
    assert "shokado lambda build --xgboost" in answer.json["error"]["message"]


def test_an_event_of_no_gateway_is_an_error_of_the_function(runtime: Runtime) -> None:
    """And the next invocation is answered."""
    with pytest.raises(FunctionError, match="no event of API Gateway") as caught:
        runtime.invoke({"Records": [{"eventSource": "aws:sqs", "body": "{}"}]})
    assert caught.value.args[0] == "NotHttp"
    assert predict(runtime).status == 200


def test_an_event_that_cannot_be_read_is_answered(runtime: Runtime) -> None:
    event = rest_event("POST", NATIVE, JSON, b"{}") | {"body": "no base64!"}
    answer = read_answer(runtime.invoke(event))
    assert (answer.status, answer.code) == (400, "malformed_request")


def test_what_the_function_has_no_time_for_is_refused_before_it_is_ended(runtime: Runtime) -> None:
    big = json.dumps({"instances": [ROW] * 9_000, "version": "v1"}).encode()
    runtime.timeout_s = 0.05
    try:
        answer = read_answer(runtime.invoke(http_event("POST", NATIVE, JSON, big)))
    finally:
        runtime.timeout_s = 30.0
    assert (answer.status, answer.code) == (504, "deadline_exceeded")
    assert predict(runtime).status == 200


def test_it_says_how_long_it_took_to_start(runtime: Runtime) -> None:
    predict(runtime)
    log = runtime.log.read_text()
    assert log.count("cold start: ") == log.count("first answer: ") == 1


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_a_function_that_stood_still_goes_on_as_if_no_time_had_passed(runtime: Runtime, seconds: float) -> None:
    """Frozen by SIGSTOP between two answers, longer than timers of a server and the watch over its engine go."""
    before = predict(runtime, **{"x-model-version": "v2"}).json
    runtime.stop_time()
    time.sleep(seconds)
    runtime.send(http_event("POST", NATIVE, [*JSON, ("x-model-version", "v2"), ("x-request-deadline-ms", "60000")],
                            json.dumps({"instances": [ROW]}).encode()))  # fmt: skip
    runtime.go_on()
    after = read_answer(runtime.read())
    assert after.status == 200
    assert after.json["predictions"] == near(before["predictions"])
    assert after.json["latency_ms"] < 1000 * max(seconds, 1.0)
    assert "takes longer than" not in runtime.log.read_text()


def test_a_function_that_stood_still_in_the_middle_of_an_answer_ends_it(runtime: Runtime) -> None:
    """As Lambda never does; the watch over engines counts its own ticks, so nothing is ended."""
    big = json.dumps({"instances": [ROW] * 9_000, "version": "v1"}).encode()
    event = http_event("POST", NATIVE, JSON, big)
    for _ in range(5):
        runtime.send(event)
        runtime.stop_time()
        time.sleep(0.5)
        runtime.go_on()
        answer = read_answer(runtime.read())
        assert answer.status == 200
        assert len(answer.json["predictions"]) == 9_000


def test_wrong_variables_stop_the_start(task: Path, tmp_path: Path) -> None:
    for variable, value, reason in (
        ("SHOKADO_GRPC__PORT", "50051", "grpc.port"),
        ("SHOKADO_LOG__SHARE", "1", "log.share"),
        ("SHOKADO_VERSIONS__V2__PLACEMENT", "service", "versions.v2.placement"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start", "SnapStart"),
        ("SHOKADO_ACCESS__KEYS_FILE", "nowhere.yaml", "nowhere.yaml"),
    ):
        folder = tmp_path / variable
        folder.mkdir()
        with running(task, folder, **{variable: value}) as runtime:
            with pytest.raises(FunctionError, match=reason):
                runtime.read()
            assert runtime.process is not None
            wait_until(lambda runtime=runtime: runtime.process.poll() == 1)  # type: ignore[misc]
