"""Spans of real calls, runners and batchers: who is whose parent, who is linked to whom, and what is left out."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from runners.batching.observer import EndedBatch, ReleaseReason
from runners.errors import Unreachable
from runners.trace import BatchTrace, SpanContext, TraceContext
from shokado.dialects.head import RequestHead, read_head
from shokado.dialects.native import Native
from shokado.dispatch.observers import Observers
from shokado.dispatch.request_span import Sampler
from shokado.experiments.prediction_id import PredictionIds
from shokado.monitoring.tracing.span import Span
from shokado.monitoring.tracing.span_observer import SpanObserver
from shokado.transports.call import Call, Entrance, PredictionHandler
from tests.dispatch.double_runners import DoubleRunner, routed, started
from tests.runners.engine_doubles import Obliging
from tests.support.predictions import prediction_of
from tests.support.rows import dense_format
from tests.support.waiting import eventually, in_time
from tests.transports.memory_exchange import MemoryExchange

TRACE, OTHER_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
IDS = PredictionIds(b"a secret of the test's own".ljust(32), max_age_s=60)


def head(trace: str | None = TRACE, flags: str = "01", **headers: str) -> RequestHead:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if trace is not None:
        lines.append((b"traceparent", f"00-{trace}-00f067aa0ba902b7-{flags}".encode()))
    return read_head(lines)


class TracedCalls:
    """Begins calls of a version with a real runner; `spans` are those that were made of them."""

    def __init__(self, runner: DoubleRunner, runners: dict[str, Any], observers: Observers, share: float) -> None:
        self.spans: list[Span] = []
        self.runner = runner
        self.observers = observers
        observer = SpanObserver(self.spans.append)
        observers.subscribe([observer], [observer])
        entrance = Entrance(routed(runners), observers, IDS, sampler=Sampler(share))
        self._handler = PredictionHandler(entrance, Native(dense_format(runner.card.feature_names, 1000)))

    @classmethod
    async def opened(cls, share: float = 0) -> "TracedCalls":
        observers = Observers(lambda *_: None)
        runner = DoubleRunner("v1", Obliging())
        runner.batch = observers.batch  # type: ignore[assignment, method-assign]  # it is its own observer
        return cls(runner, await started(runner), observers, share)

    def begin(self, head: RequestHead, rows: int = 1, exchange: MemoryExchange | None = None) -> Call:
        body = json.dumps({"instances": [[0.5, 1]] * rows}).encode()
        return self._handler.begin(head, body, exchange or MemoryExchange())

    async def answer(self, *heads: RequestHead, rows: int = 1) -> list[MemoryExchange]:
        """Ask all at once, and let the observers hear of it."""
        exchanges = [MemoryExchange() for _ in heads]
        for one, exchange in zip(heads, exchanges, strict=True):
            self.begin(one, rows, exchange)
        await eventually(lambda: all(exchange.status is not None for exchange in exchanges))
        self.observers.tell()
        return exchanges

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def traced(scenario: Callable[[TracedCalls], Any], share: float = 0) -> TracedCalls:
    async def run() -> TracedCalls:
        calls = await TracedCalls.opened(share)
        await scenario(calls)
        return calls

    return in_time(run())


def test_a_request_has_its_wait_its_batch_and_its_engine() -> None:
    exchange = MemoryExchange()

    async def scenario(calls: TracedCalls) -> None:
        (exchange.headers,) = [one.headers for one in await calls.answer(head(x_request_id="r-1"), rows=3)]

    calls = traced(scenario)
    (request,) = calls.named("POST /v1/models/predict")
    (queue,), (batch,), (engine,) = calls.named("queue"), calls.named("batch"), calls.named("engine")
    assert len(calls.spans) == 4
    assert request.context.trace_id == int(TRACE, 16)
    assert request.context.parent_id == 0x00F067AA0BA902B7
    assert queue.context.parent_id == batch.context.parent_id == request.context.span_id
    assert engine.context.parent_id == batch.context.span_id
    times = [request.started_at, queue.started_at, queue.ended_at, batch.started_at, engine.started_at]
    times += [engine.ended_at, batch.ended_at, request.ended_at]
    assert times == sorted(times)
    assert request.attributes["shokado.request_id"] == "r-1"
    assert (request.attributes["shokado.rows"], batch.attributes["shokado.rows"]) == (3, 3)
    assert exchange.headers["x-trace-id"] == TRACE


def test_a_batch_is_part_of_the_first_trace_and_linked_with_all() -> None:
    calls = traced(lambda calls: calls.answer(head(None), head(TRACE), head(OTHER_TRACE), head(OTHER_TRACE, "00")))
    (batch,) = calls.named("batch")
    first, second = calls.named("POST /v1/models/predict")
    assert batch.attributes["shokado.requests"] == 4
    assert (batch.context.trace_id, batch.context.parent_id) == (int(TRACE, 16), first.context.span_id)
    assert list(batch.links) == [first.context, second.context], "and not with those that are not recorded"
    assert (list(first.links), list(second.links)) == ([], [batch.context])
    assert Counter(span.name for span in calls.spans)["queue"] == 2


@pytest.mark.parametrize(("share", "spans"), [(0, 0), (1, 4)])
def test_of_other_requests_a_share_is_traced(share: float, spans: int) -> None:
    answers: list[MemoryExchange] = []

    async def scenario(calls: TracedCalls) -> None:
        answers.extend(await calls.answer(head(None)))

    calls = traced(scenario, share)
    assert len(calls.spans) == spans
    assert ("x-trace-id" in answers[0].headers) == bool(share)
    if share:
        (request,) = calls.named("POST /v1/models/predict")
        assert (request.context.parent_id, f"{request.context.trace_id:032x}") == (0, answers[0].headers["x-trace-id"])


def test_a_refused_request_is_a_span_with_its_code() -> None:
    async def scenario(calls: TracedCalls) -> None:
        exchange = MemoryExchange()
        calls._handler.begin(head(), b"{", exchange)
        assert (exchange.status, exchange.headers["x-trace-id"]) == (400, TRACE)
        calls.observers.tell()

    (span,) = traced(scenario).spans
    assert span.attributes["error.type"] == "malformed_body"
    assert span.attributes["http.response.status_code"] == 400
    assert span.error == "", "the client's fault is not the server's failure"
    assert 0 < span.started_at <= span.ended_at


def test_an_engine_that_fails_is_a_failure_of_all_its_spans() -> None:
    async def scenario(calls: TracedCalls) -> None:
        calls.runner.executor.lost = True
        (answer,) = await calls.answer(head(x_request_id="r-2"))
        assert answer.status == 503

    calls = traced(scenario)
    assert {span.name: bool(span.error) for span in calls.spans} == {
        "batch": True, "engine": True, "queue": False, "POST /v1/models/predict": True,
    }  # fmt: skip
    (request,) = calls.named("POST /v1/models/predict")
    assert request.attributes["shokado.request_id"] == "r-2"
    assert request.attributes["error.type"] == "not_ready"


def test_a_client_that_leaves_ends_its_span() -> None:
    async def scenario(calls: TracedCalls) -> None:
        calls.begin(head()).cancel()
        await asyncio.sleep(0)
        calls.observers.tell()

    calls = traced(scenario)
    (request,) = calls.named("POST /v1/models/predict")
    assert (request.attributes["error.type"], request.attributes["http.response.status_code"]) == ("cancelled", 499)
    assert request.ended_at >= request.started_at > 0


def test_a_request_in_several_batches_is_linked_to_by_each() -> None:
    calls = traced(lambda calls: calls.answer(head(), rows=200))
    batches = calls.named("batch")
    (request,) = calls.named("POST /v1/models/predict")
    assert len(batches) > 1
    assert all(list(batch.links) == [request.context] for batch in batches)
    assert sum(int(batch.attributes["shokado.rows"]) for batch in batches) == 200


def test_calls_to_a_far_side_are_spans_between_batch_and_engine() -> None:
    spans: list[Span] = []
    observer = SpanObserver(spans.append)
    prediction = prediction_of()
    prediction.trace = span = Sampler(1).begin(None, 1.0, "/predict")
    trace = BatchTrace(span.child(), "http://far:3000/v2/models/m")
    cut, again = trace.call(again=False), trace.call(again=True)
    cut.started_at, cut.ended_at, cut.error = 2.0, 2.5, "Cut"
    again.started_at, again.ended_at, again.engine = 2.5, 3.5, (2.75, 3.25)
    chunks = [(prediction, 0, 1)]
    observer.batch(EndedBatch("v1", [0], None, {}, [], ReleaseReason.IDLE, 1.5, 2.0, 3.5, chunks, trace))  # type: ignore[arg-type]  # rows are only counted
    batch, first, second, engine = spans
    assert [one.name for one in spans] == ["batch", "hop", "hop", "engine"]
    assert first.context.parent_id == second.context.parent_id == batch.context.span_id
    assert engine.context.parent_id == second.context.span_id
    assert (engine.started_at, engine.ended_at) == (2.75, 3.25)
    assert (first.error, second.error) == ("Cut", "")
    assert first.attributes["shokado.address"] == "http://far:3000/v2/models/m"
    assert (first.kind, second.attributes["http.request.resend_count"]) == ("CLIENT", 1)


def test_a_version_that_falls_back_leaves_the_request_open() -> None:
    spans: list[Span] = []
    observers = Observers(lambda *_: None)
    observers.subscribe([SpanObserver(spans.append)])
    failed, answered = prediction_of("v2"), prediction_of("v1", latency_s=0.5)
    failed.trace = answered.trace = Sampler(1).begin(None, 1.0, "/predict")
    failed.error = Unreachable(ConnectionError("gone"))
    failed.submitted_at, failed.started_at = 1.1, 1.2
    answered.submitted_at, answered.started_at = 1.3, 1.4
    observers.failed(failed, "v2", "fell_back")
    observers.answered(answered)
    observers.tell()
    assert sorted((span.name, span.attributes["shokado.version"]) for span in spans) == [
        ("POST /predict", "v1"), ("queue", "v1"), ("queue", "v2"),
    ]  # fmt: skip
    (request,) = [span for span in spans if span.kind == "SERVER"]
    assert (request.started_at, request.ended_at) == (1.0, 1.5)


def test_contexts_of_clients_are_not_spans_of_ours() -> None:
    spans: list[Span] = []
    observer = SpanObserver(spans.append)
    prediction = prediction_of()
    prediction.trace = TraceContext(1, 2, 1)
    observer.answered("v1", [prediction])
    observer.cancelled("v1", [prediction])
    assert spans == []
    assert not isinstance(prediction.trace.child(), SpanContext)
