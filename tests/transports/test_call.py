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
from runners.errors import DeadlineExceeded, ModelFailure, NoScore, NotReady, Overloaded, RunnerError, Unreachable
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


class CallBench:
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
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CallBench:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return CallBench()


def test_a_good_request_gets_one_answer_with_its_headers(bench: CallBench) -> None:
    exchange, _ = bench.begin(request_id="mine")
    assert exchange.status is None
    assert bench.counted() == {"in_flight": 1}
    assert bench.runner.jobs[0].rows == np.array([1, 2, 3, 0.5, 0, 0], "<f4").tobytes()
    bench.runner.finish([0.25, 0.75])
    assert exchange.status == 200
    assert exchange.json["predictions"] == [0.25, 0.75]
    assert exchange.headers == {
        "content-type": "application/json", "x-model-version": "v1", "x-generation": "3", "x-request-id": "mine",
    }  # fmt: skip
    assert bench.counted() == {"answered": 1}


def test_without_an_id_of_the_clients_each_request_gets_its_own(bench: CallBench) -> None:
    exchanges = [bench.begin()[0] for _ in range(100)]
    for _ in exchanges:
        bench.runner.finish([0.0, 0.0])
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
    bench: CallBench, body: bytes, head: dict[str, Any], status: int, code: str
) -> None:
    exchange, _ = bench.begin(body, request_id="mine", **head)
    assert (exchange.status, exchange.json["error"]["code"]) == (status, code)
    assert exchange.json["request_id"] == exchange.headers["x-request-id"] == "mine"
    assert bench.runner.jobs == []
    assert bench.counted("none") == {code: 1}
    assert bench.counted() == {}


def test_what_is_the_clients_fault_is_never_the_versions_error(bench: CallBench) -> None:
    """Here it is found only when the version has answered: which outputs there are depends on its task."""
    bench = CallBench(OpenInference(dense_format(NAMES, 10)))
    exchange, _ = bench.begin(UNKNOWN_OUTPUT)
    bench.runner.finish([0.5])
    assert exchange.status == 400
    assert bench.counted() == {}
    assert bench.counted("none") == {"unknown_output": 1}
    (failure,) = bench.listener.failures
    assert (failure.version, failure.fault) == ("v1", Fault.CLIENT), "by which no other observer blames it, either"


def test_the_header_pins_a_version_and_a_pin_in_the_body_must_agree(bench: CallBench) -> None:
    exchange, _ = bench.begin(pins=("a",))
    bench.runner.finish([0.0, 0.0])
    assert (exchange.headers["x-model-version"], exchange.json["reason"]) == ("v1", "PINNED")
    exchange, _ = bench.begin(GOOD[:-1] + b', "version": "a"}', pins=("v1",))
    bench.runner.finish([0.0, 0.0])
    assert exchange.headers["x-model-version"] == "v1"
    exchange, _ = bench.begin(GOOD[:-1] + b', "version": "v9"}', pins=("v1",))
    assert (exchange.status, exchange.json["error"]["code"]) == (404, "unknown_version")


def test_a_deadline_counts_from_the_requests_arrival(bench: CallBench) -> None:
    before = time.monotonic()
    bench.begin(deadline_s=5.0)
    assert before + 5 <= bench.runner.jobs[0].deadline <= time.monotonic() + 5


def test_a_refusal_of_the_runner_is_an_answer(bench: CallBench) -> None:
    bench.runner.refusal = Overloaded(2.5)
    exchange, _ = bench.begin()
    assert (exchange.status, exchange.headers["retry-after"]) == (503, "3")
    assert bench.counted("none") == {"overloaded": 1}


def canary(bench: CallBench) -> HeldRunner:
    """v2 gets all of the traffic, and v1 is active."""
    runner = HeldRunner()
    routing = {"production": Environment("production", "v1", {"v2": 1.0}, Strategy.RANDOM)}
    runners = {"v1": cast(Runner, bench.runner), "v2": cast(Runner, runner)}
    bench.dispatcher.adopt(RoutingState(4, routing, "production"), runners)
    return runner


def lost() -> Unreachable:
    return Unreachable(ConnectionResetError("by 10.0.0.3"))


def test_the_active_version_answers_for_one_that_cannot_be_reached(bench: CallBench) -> None:
    exchange, _ = bench.begin_with(canary(bench), error=lost())
    assert exchange.body == b""
    assert (bench.counted("v2"), bench.counted("v1")) == ({"fell_back": 1}, {"in_flight": 1})
    bench.runner.finish([0.25, 0.75])
    assert (exchange.status, exchange.headers["x-model-version"]) == (200, "v1")
    assert exchange.json["predictions"] == [0.25, 0.75]
    assert (exchange.json["version"], exchange.json["reason"], exchange.json["generation"]) == ("v1", "FALLBACK", 4)
    assert (bench.counted("v2"), bench.counted("v1")) == ({"fell_back": 1}, {"answered": 1})


def test_nothing_answers_for_a_pinned_version_that_cannot_be_reached(bench: CallBench, caplog: Any) -> None:
    exchange, _ = bench.begin_with(canary(bench), error=lost(), pins=("v2",))
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "not_ready")
    assert bench.counted("v2") == {"not_ready": 1}
    assert b"10.0.0.3" not in exchange.body
    assert "10.0.0.3" in caplog.text


def test_nothing_answers_for_the_active_version_that_cannot_be_reached(bench: CallBench) -> None:
    exchange, _ = bench.begin_with(bench.runner, error=lost())
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "not_ready")


@pytest.mark.parametrize("error", [ModelFailure(0, "no"), Overloaded(1.0), DeadlineExceeded(), NotReady("closing")])
def test_nothing_answers_for_a_version_that_has_answered_itself(bench: CallBench, error: RunnerError) -> None:
    exchange, _ = bench.begin_with(canary(bench), error=error)
    assert exchange.status is not None
    assert exchange.status >= 500
    assert bench.runner.jobs == []


@pytest.mark.parametrize("refuse", [lambda: Overloaded(2.5), DeadlineExceeded])
def test_where_the_active_version_refuses_as_well_the_first_error_stands(
    bench: CallBench, refuse: Callable[[], RunnerError]
) -> None:
    bench.runner.refusal = refuse()
    exchange, _ = bench.begin_with(canary(bench), error=lost())
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "not_ready")
    assert (bench.counted("v2"), bench.counted("v1")) == ({"not_ready": 1}, {})


def test_an_active_version_that_cannot_be_reached_either_ends_it(bench: CallBench) -> None:
    exchange, _ = bench.begin_with(canary(bench), error=lost())
    bench.runner.finish(error=lost())
    assert exchange.status == 503
    assert (bench.counted("v2"), bench.counted("v1")) == ({"fell_back": 1}, {"not_ready": 1})


def test_a_client_may_leave_after_its_version_was_replaced(bench: CallBench) -> None:
    exchange, call = bench.begin_with(canary(bench), error=lost())
    call.cancel()
    assert bench.runner.jobs[0].cancelled
    assert bench.counted("v1") == {"cancelled": 1}
    assert exchange.status is None


def test_a_failure_of_the_model_is_an_answer_without_its_words(
    bench: CallBench, caplog: pytest.LogCaptureFixture
) -> None:
    exchange, _ = bench.begin()
    bench.runner.finish(error=ModelFailure(1, "boom in /secret/path"))
    assert (exchange.status, exchange.json["error"]["detail"]) == (500, {"row": 1})
    assert b"secret" not in exchange.body
    assert "/secret/path" in caplog.text, "the log has what the client must not see"
    assert bench.counted() == {"model_failure": 1}


def test_a_row_without_score_is_the_clients_fault_and_counts_for_no_version(
    bench: CallBench, caplog: pytest.LogCaptureFixture
) -> None:
    exchange, _ = bench.begin()
    bench.runner.finish(error=NoScore("v1", 1, "boom in /secret/path"))
    assert (exchange.status, exchange.json["error"]["code"]) == (422, "no_score")
    assert exchange.json["error"]["detail"] == {"row": 1, "version": "v1"}
    assert b"secret" not in exchange.body
    assert (caplog.text, bench.counted(), bench.counted("none")) == ("", {}, {"no_score": 1})


def test_what_nobody_foresaw_is_an_answer_and_is_logged(bench: CallBench, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that cannot be encoded: the runner gave no scores and no error."""
    exchange, _ = bench.begin()
    with caplog.at_level(logging.ERROR):
        bench.runner.finish()
    assert (exchange.status, exchange.json["error"]["code"]) == (500, "internal")
    assert "AssertionError" in caplog.text
    assert b"Assertion" not in exchange.body
    assert bench.counted() == {"internal": 1}


def test_a_cancelled_call_marks_its_job_once(bench: CallBench) -> None:
    exchange, call = bench.begin()
    call.cancel()
    call.cancel()
    assert bench.runner.jobs[0].cancelled
    assert bench.counted() == {"cancelled": 1}
    assert exchange.status is None


def test_cancelling_a_refused_call_does_nothing(bench: CallBench) -> None:
    _, call = bench.begin(b"")
    call.cancel()
    assert bench.counted("none") == {"malformed_body": 1}
    assert bench.counted() == {}


@pytest.mark.parametrize("ending", ["scores", "failure", "left", "refused", "bad", "fell back"])
def test_nothing_of_a_request_is_left_to_the_garbage_collector(bench: CallBench, ending: str) -> None:
    """Cycles by the thousand would be collected in one stop of many milliseconds."""
    other = canary(bench) if ending == "fell back" else None
    with uncollected():
        for _ in range(20):
            bench.runner.refusal = Overloaded(1.0) if ending == "refused" else None
            _, call = bench.begin(b"{" if ending == "bad" else GOOD)
            if ending == "scores":
                bench.runner.finish([0.0, 0.0])
            elif ending == "failure":
                bench.runner.finish(error=ModelFailure(0, "no"))
            elif other is not None:
                other.finish(error=lost())
                bench.runner.finish([0.0, 0.0])
            elif ending == "left":
                call.cancel()
                bench.runner.jobs.clear()
            bench.runner.refusal = None
            del call
        bench.forget()
        assert of_kinds(Call, Prediction) == []


def test_a_judged_head_leaves_nothing_to_the_garbage_collector(bench: CallBench) -> None:
    """As of a body whose client leaves before it is here."""
    with uncollected():
        for _ in range(NOISE):
            for head in (RequestHead(), RequestHead(pins=("v9",)), RequestHead(content_type=b"text/html")):
                bench.handler.judge(head, "192.0.2.1")
        assert gc.collect() < NOISE


def test_a_head_with_a_problem_keeps_nothing_of_the_requests_that_had_it(bench: CallBench) -> None:
    problem = body_too_large(5)
    for _ in range(3):
        bench.begin(problem=problem)
    assert problem.__traceback__ is None


def test_a_request_that_no_version_would_take_is_refused_unread(bench: CallBench) -> None:
    bench.runner.refusal, bench.runner.full = Overloaded(0.2, 2.5), True
    assert bench.begin()[0].status == 503
    assert bench.dispatcher.full_until > time.monotonic() - 60
    bench.dispatcher.full_until = time.monotonic() + 60
    exchange, _ = bench.begin(b"not even JSON", request_id="mine")
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "overloaded")
    assert (exchange.headers["retry-after"], exchange.headers["x-request-id"]) == ("3", "mine")
    assert bench.counted(NO_VERSION) == {"overloaded": 2}
    bench.runner.refusal, bench.dispatcher.full_until = None, time.monotonic()
    assert bench.begin()[0].status is None
    assert bench.counted() == {"in_flight": 1}
