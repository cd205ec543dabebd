"""A call from its body to its one reply: with a real dispatcher, and a runner that does its jobs when it is told."""

import gc
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from configuration.settings import Strategy
from runners.batching.job import Job
from runners.errors import DeadlineExceeded, ModelFailure, NotReady, Overloaded, RunnerError, Unreachable
from runners.runner import Runner
from shokado.dialects.dialect import Codec
from shokado.dialects.head import RequestHead
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import body_too_large
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.fault import Fault
from shokado.dispatch.observers import Observers
from shokado.dispatch.request import Prediction
from shokado.dispatch.state import Environment, RoutingState
from shokado.experiments.prediction_id import PredictionIds
from shokado.monitoring.metrics.groups import Metrics
from shokado.monitoring.metrics.metric_registry import NO_VERSION
from shokado.transports.call import Call, Entrance, PredictionHandler
from tests.support.cards import NAMES, toy_card
from tests.support.garbage import NOISE, of_kinds, uncollected
from tests.support.predictions import Listener
from tests.support.rows import dense_format
from tests.transports.memory_exchange import MemoryExchange

GOOD = b'{"instances": [[1, 2, 3], [0.5, 0, 0]]}'


NATIVE = Native(dense_format(NAMES, 10))
UNKNOWN_OUTPUT = b"""{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
                      "outputs": [{"name": "no such"}]}"""


class HeldRunner:
    """Keeps jobs until the test finishes them."""

    def __init__(self) -> None:
        self.card = toy_card()
        self.ready = True
        self.jobs: list[Job] = []
        self.refusal: RunnerError | None = None
        self.full = False

    def submit(self, job: Job) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.jobs.append(job)

    def finish(self, scores: list[float] | None = None, error: RunnerError | None = None) -> None:
        job = self.jobs.pop(0)
        job.scores = None if scores is None else np.array(scores, dtype=np.float32)
        job.error = error
        job.done(job)


class Desk:
    """Where calls are begun, and observers of what becomes of them: metrics, and a listener."""

    def __init__(self, dialect: Codec = NATIVE) -> None:
        self.runner = HeldRunner()
        routing = {"production": Environment("production", "v1", {"v1": 1.0}, Strategy.RANDOM)}
        runners = {"v1": cast(Runner, self.runner)}
        self.dispatcher = dispatcher = Dispatcher(runners, {"a": "v1"}, RoutingState(3, routing, "production"))
        self.metrics, self.listener = Metrics(["v1"]), Listener()
        self.observers = Observers(lambda *_: None)
        self.observers.subscribe([self.metrics.predictions, self.listener])
        self.ids = PredictionIds(b"a secret of the test's own".ljust(32), max_age_s=60)
        self.handler = PredictionHandler(Entrance(dispatcher, self.observers, self.ids), dialect)

    def begin(self, body: bytes = GOOD, **head: Any) -> tuple[MemoryExchange, Call]:
        exchange = MemoryExchange()
        return exchange, self.handler.begin(RequestHead(**head), body, exchange)

    def begin_with(
        self, runner: HeldRunner, *, error: RunnerError, pins: tuple[str, ...] = ()
    ) -> tuple[MemoryExchange, Call]:
        """A call that its runner finishes with an error."""
        exchange, call = self.begin(pins=pins)
        runner.finish(error=error)
        return exchange, call

    def forget(self) -> None:
        """Let observers hear of everything, and keep nothing of it."""
        self.observers.tell()
        self.listener.heard.clear()

    def counted(self, version: str = "v1") -> dict[str, Any]:
        """What a flush would add."""
        self.observers.tell()
        counted = self.metrics.predictions
        found = {
            "in_flight": counted.in_flight[version],
            "answered": counted.requests.pending[version,],
            "cancelled": counted.left.pending[version,],
        }
        found |= {kind: number for (of, kind, _), number in counted.errors.pending.items() if of == version}
        return {name: number for name, number in found.items() if number}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return Desk()


def test_a_good_request_gets_one_answer_with_its_headers(desk: Desk) -> None:
    exchange, _ = desk.begin(request_id="mine")
    assert exchange.status is None
    assert desk.counted() == {"in_flight": 1}
    assert desk.runner.jobs[0].rows == np.array([1, 2, 3, 0.5, 0, 0], "<f4").tobytes()
    desk.runner.finish([0.25, 0.75])
    assert exchange.status == 200
    assert exchange.json["predictions"] == [0.25, 0.75]
    assert exchange.headers == {
        "content-type": "application/json", "x-model-version": "v1", "x-generation": "3", "x-request-id": "mine",
    }  # fmt: skip
    assert desk.counted() == {"answered": 1}


def test_without_an_id_of_the_clients_each_request_gets_its_own(desk: Desk) -> None:
    exchanges = [desk.begin()[0] for _ in range(100)]
    for _ in exchanges:
        desk.runner.finish([0.0, 0.0])
    ids = {exchange.headers["x-request-id"] for exchange in exchanges}
    assert len(ids) == 100
    assert all(exchange.json["request_id"] == exchange.headers["x-request-id"] for exchange in exchanges)


@pytest.mark.parametrize(
    ("body", "head", "status", "code"),
    [
        (b"", {}, 400, "malformed_body"),
        (b'{"instances": [[1]]}', {}, 422, "wrong_feature_count"),
        (GOOD, {"pins": ("v9",)}, 404, "unknown_version"),
        (GOOD, {"environment": "moon"}, 404, "unknown_environment"),
        (GOOD, {"content_type": b"text/csv"}, 415, "unsupported_media_type"),
        (b"", {"problem": body_too_large(5)}, 413, "body_too_large"),
    ],
)
def test_a_bad_request_is_answered_at_once_and_counted_by_its_kind(
    desk: Desk, body: bytes, head: dict[str, Any], status: int, code: str
) -> None:
    exchange, _ = desk.begin(body, request_id="mine", **head)
    assert (exchange.status, exchange.json["error"]["code"]) == (status, code)
    assert exchange.json["request_id"] == exchange.headers["x-request-id"] == "mine"
    assert desk.runner.jobs == []
    assert desk.counted("none") == {code: 1}
    assert desk.counted() == {}


def test_what_is_the_clients_fault_is_never_the_versions_error(desk: Desk) -> None:
    """Here it is found only when the version has answered: which outputs there are depends on its task."""
    desk = Desk(OpenInference(dense_format(NAMES, 10)))
    exchange, _ = desk.begin(UNKNOWN_OUTPUT)
    desk.runner.finish([0.5])
    assert exchange.status == 400
    assert desk.counted() == {}
    assert desk.counted("none") == {"unknown_output": 1}
    (failure,) = desk.listener.failures
    assert (failure.version, failure.fault) == ("v1", Fault.CLIENT), "by which no other observer blames it, either"


def test_the_header_pins_a_version_and_a_pin_in_the_body_must_agree(desk: Desk) -> None:
    exchange, _ = desk.begin(pins=("a",))
    desk.runner.finish([0.0, 0.0])
    assert (exchange.headers["x-model-version"], exchange.json["reason"]) == ("v1", "PINNED")
    exchange, _ = desk.begin(GOOD[:-1] + b', "version": "a"}', pins=("v1",))
    desk.runner.finish([0.0, 0.0])
    assert exchange.headers["x-model-version"] == "v1"
    exchange, _ = desk.begin(GOOD[:-1] + b', "version": "v9"}', pins=("v1",))
    assert (exchange.status, exchange.json["error"]["code"]) == (404, "unknown_version")


def test_a_deadline_counts_from_the_requests_arrival(desk: Desk) -> None:
    before = time.monotonic()
    desk.begin(deadline_s=5.0)
    assert before + 5 <= desk.runner.jobs[0].deadline <= time.monotonic() + 5


def test_a_refusal_of_the_runner_is_an_answer(desk: Desk) -> None:
    desk.runner.refusal = Overloaded(2.5)
    exchange, _ = desk.begin()
    assert (exchange.status, exchange.headers["retry-after"]) == (503, "3")
    assert desk.counted("none") == {"overloaded": 1}


def canary(desk: Desk) -> HeldRunner:
    """v2 gets all of the traffic, and v1 is active."""
    runner = HeldRunner()
    routing = {"production": Environment("production", "v1", {"v2": 1.0}, Strategy.RANDOM)}
    runners = {"v1": cast(Runner, desk.runner), "v2": cast(Runner, runner)}
    desk.dispatcher.adopt(RoutingState(4, routing, "production"), runners)
    return runner


def lost() -> Unreachable:
    return Unreachable(ConnectionResetError("by 10.0.0.3"))


def test_the_active_version_answers_for_one_that_cannot_be_reached(desk: Desk) -> None:
    exchange, _ = desk.begin_with(canary(desk), error=lost())
    assert exchange.body == b""
    assert (desk.counted("v2"), desk.counted("v1")) == ({"fell_back": 1}, {"in_flight": 1})
    desk.runner.finish([0.25, 0.75])
    assert (exchange.status, exchange.headers["x-model-version"]) == (200, "v1")
    assert exchange.json["predictions"] == [0.25, 0.75]
    assert (exchange.json["version"], exchange.json["reason"], exchange.json["generation"]) == ("v1", "FALLBACK", 4)
    assert (desk.counted("v2"), desk.counted("v1")) == ({"fell_back": 1}, {"answered": 1})


def test_nothing_answers_for_a_pinned_version_that_cannot_be_reached(desk: Desk, caplog: Any) -> None:
    exchange, _ = desk.begin_with(canary(desk), error=lost(), pins=("v2",))
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "not_ready")
    assert desk.counted("v2") == {"not_ready": 1}
    assert b"10.0.0.3" not in exchange.body
    assert "10.0.0.3" in caplog.text


def test_nothing_answers_for_the_active_version_that_cannot_be_reached(desk: Desk) -> None:
    exchange, _ = desk.begin_with(desk.runner, error=lost())
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "not_ready")


@pytest.mark.parametrize("error", [ModelFailure(0, "no"), Overloaded(1.0), DeadlineExceeded(), NotReady("closing")])
def test_nothing_answers_for_a_version_that_has_answered_itself(desk: Desk, error: RunnerError) -> None:
    exchange, _ = desk.begin_with(canary(desk), error=error)
    assert exchange.status is not None
    assert exchange.status >= 500
    assert desk.runner.jobs == []


@pytest.mark.parametrize("refuse", [lambda: Overloaded(2.5), DeadlineExceeded])
def test_where_the_active_version_refuses_as_well_the_first_error_stands(
    desk: Desk, refuse: Callable[[], RunnerError]
) -> None:
    desk.runner.refusal = refuse()
    exchange, _ = desk.begin_with(canary(desk), error=lost())
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "not_ready")
    assert (desk.counted("v2"), desk.counted("v1")) == ({"not_ready": 1}, {})


def test_an_active_version_that_cannot_be_reached_either_ends_it(desk: Desk) -> None:
    exchange, _ = desk.begin_with(canary(desk), error=lost())
    desk.runner.finish(error=lost())
    assert exchange.status == 503
    assert (desk.counted("v2"), desk.counted("v1")) == ({"fell_back": 1}, {"not_ready": 1})


def test_a_client_may_leave_after_its_version_was_replaced(desk: Desk) -> None:
    exchange, call = desk.begin_with(canary(desk), error=lost())
    call.cancel()
    assert desk.runner.jobs[0].cancelled
    assert desk.counted("v1") == {"cancelled": 1}
    assert exchange.status is None


def test_a_failure_of_the_model_is_an_answer_without_its_words(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    exchange, _ = desk.begin()
    desk.runner.finish(error=ModelFailure(1, "boom in /secret/path"))
    assert (exchange.status, exchange.json["error"]["detail"]) == (500, {"row": 1})
    assert b"secret" not in exchange.body
    assert "/secret/path" in caplog.text, "the log has what the client must not see"
    assert desk.counted() == {"model_failure": 1}


def test_what_nobody_foresaw_is_an_answer_and_is_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that cannot be encoded: the runner gave no scores and no error."""
    exchange, _ = desk.begin()
    with caplog.at_level(logging.ERROR):
        desk.runner.finish()
    assert (exchange.status, exchange.json["error"]["code"]) == (500, "internal")
    assert "AssertionError" in caplog.text
    assert b"Assertion" not in exchange.body
    assert desk.counted() == {"internal": 1}


def test_a_cancelled_call_marks_its_job_once(desk: Desk) -> None:
    exchange, call = desk.begin()
    call.cancel()
    call.cancel()
    assert desk.runner.jobs[0].cancelled
    assert desk.counted() == {"cancelled": 1}
    assert exchange.status is None


def test_cancelling_a_refused_call_does_nothing(desk: Desk) -> None:
    _, call = desk.begin(b"")
    call.cancel()
    assert desk.counted("none") == {"malformed_body": 1}
    assert desk.counted() == {}


@pytest.mark.parametrize("ending", ["scores", "failure", "left", "refused", "bad", "fell back"])
def test_nothing_of_a_request_is_left_to_the_garbage_collector(desk: Desk, ending: str) -> None:
    """Cycles by the thousand would be collected in one stop of many milliseconds."""
    other = canary(desk) if ending == "fell back" else None
    with uncollected():
        for _ in range(20):
            desk.runner.refusal = Overloaded(1.0) if ending == "refused" else None
            _, call = desk.begin(b"{" if ending == "bad" else GOOD)
            if ending == "scores":
                desk.runner.finish([0.0, 0.0])
            elif ending == "failure":
                desk.runner.finish(error=ModelFailure(0, "no"))
            elif other is not None:
                other.finish(error=lost())
                desk.runner.finish([0.0, 0.0])
            elif ending == "left":
                call.cancel()
                desk.runner.jobs.clear()
            desk.runner.refusal = None
            del call
        desk.forget()
        assert of_kinds(Call, Prediction) == []


def test_a_judged_head_leaves_nothing_to_the_garbage_collector(desk: Desk) -> None:
    """As of a body whose client leaves before it is here."""
    with uncollected():
        for _ in range(NOISE):
            for head in (RequestHead(), RequestHead(pins=("v9",)), RequestHead(content_type=b"text/html")):
                desk.handler.judge(head, "192.0.2.1")
        assert gc.collect() < NOISE


def test_a_head_with_a_problem_keeps_nothing_of_the_requests_that_had_it(desk: Desk) -> None:
    problem = body_too_large(5)
    for _ in range(3):
        desk.begin(problem=problem)
    assert problem.__traceback__ is None


def test_a_request_that_no_version_would_take_is_refused_unread(desk: Desk) -> None:
    desk.runner.refusal, desk.runner.full = Overloaded(0.2, 2.5), True
    assert desk.begin()[0].status == 503
    assert desk.dispatcher.full_until > time.monotonic() - 60
    desk.dispatcher.full_until = time.monotonic() + 60
    exchange, _ = desk.begin(b"not even JSON", request_id="mine")
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "overloaded")
    assert (exchange.headers["retry-after"], exchange.headers["x-request-id"]) == ("3", "mine")
    assert desk.counted(NO_VERSION) == {"overloaded": 2}
    desk.runner.refusal, desk.dispatcher.full_until = None, time.monotonic()
    assert desk.begin()[0].status is None
    assert desk.counted() == {"in_flight": 1}
