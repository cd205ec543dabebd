"""The export of spans over the real wire: what the receiver gets, and that nobody waits where it gets nothing."""

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest

from configuration.trace_export import TraceExport, trace_export
from configuration.tracing_settings import TracingSettings
from runners.trace import SpanContext
from shokado.monitoring.tracing.span import Span
from shokado.monitoring.tracing.span_export import SpanExport
from tests.support.otlp_receiver import Receiver, receiving_grpc, receiving_http
from tests.support.server import free_port
from tests.support.waiting import wait_until

RESOURCE = {"service.name": "shokado", "service.instance.id": "worker-1"}
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
PARENT = SpanContext(TRACE_ID, 0x00F067AA0BA902B7, 1)


def span(number: int = 1, name: str = "batch") -> Span:
    context = SpanContext(TRACE_ID, number, 1, "vendor=1", parent_id=0x00F067AA0BA902B7)
    return Span(name, context, 100.0, 100.25, {"shokado.rows": 3, "shokado.version": "v1"}, links=[PARENT])


def protocol_of(receiver: Receiver) -> Literal["http/protobuf", "grpc"]:
    return "grpc" if receiver.is_grpc else "http/protobuf"


def opened(settings: TracingSettings) -> SpanExport:
    found = trace_export(settings, Path(), {})
    assert found is not None
    export = SpanExport(settings, found, RESOURCE)
    export.start()
    return export


@pytest.fixture(params=[receiving_http, receiving_grpc], ids=["http", "grpc"])
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    context: AbstractContextManager[Receiver] = request.param()
    with context as receiver:
        yield receiver


def test_a_span_arrives_as_it_was_noted(receiver: Receiver, tmp_path: Path) -> None:
    keys = tmp_path / "headers"
    keys.write_text("Authorization: Bearer a secret\n\nx-tenant:7\n")
    settings = TracingSettings(
        endpoint=receiver.url, protocol=protocol_of(receiver), headers_file=str(keys), flush_s=0.01
    )
    export = opened(settings)
    export.note(span())
    (found,) = receiver.wait_for()
    export.stop(60)
    assert (found.name, found.trace_id, found.span_id) == ("batch", f"{TRACE_ID:032x}", f"{1:016x}")
    assert (found.parent_id, found.state) == ("00f067aa0ba902b7", "vendor=1")
    assert found.links == [(f"{TRACE_ID:032x}", "00f067aa0ba902b7")]
    assert found.attributes == {"shokado.rows": 3, "shokado.version": "v1"}
    assert found.end_ns - found.start_ns == 250_000_000
    assert RESOURCE.items() <= found.resource.items()
    assert not found.failed
    (headers,) = receiver.headers
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer a secret", "7")
    assert receiver.paths in ([], ["/v1/traces"])
    assert export.flush_counts() == {"sent": 1, "dropped": 0, "lost": 0}
    assert export.flush_counts() == {"sent": 0, "dropped": 0, "lost": 0}


def test_what_waits_is_sent_when_a_worker_stops(receiver: Receiver) -> None:
    export = opened(TracingSettings(endpoint=receiver.url, protocol=protocol_of(receiver), flush_s=60))
    for number in range(1, 4):
        export.note(span(number))
    export.stop(60)
    assert [found.span_id for found in receiver.spans] == [f"{number:016x}" for number in range(1, 4)]


def test_many_spans_are_sent_without_waiting_for_the_time() -> None:
    with receiving_http() as receiver:
        export = opened(TracingSettings(endpoint=receiver.url, flush_s=60))
        for number in range(1, 1025):
            export.note(span(number))
        assert len(receiver.wait_for(512)) >= 512
        export.stop(60)
        assert len(receiver.spans) == 1024


def test_a_receiver_that_hangs_costs_spans_and_nobody_waits() -> None:
    with receiving_http() as receiver:
        receiver.holds = threading.Event()
        export = opened(TracingSettings(endpoint=receiver.url, flush_s=0.01, max_waiting_spans=64))
        export.note(span())
        wait_until(lambda: len(receiver.headers) == 1)
        # The thread waits for the answer to the first one; there is room for 64 more.
        for number in range(2, 102):
            export.note(span(number))
        assert export.flush_counts() == {"sent": 0, "dropped": 100 - 64, "lost": 0}
        receiver.holds.set()
        wait_until(lambda: len(receiver.spans) == 65)
        export.stop(60)
        assert export.flush_counts()["sent"] == 65


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_dead_receiver_is_logged_once_in_a_while(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    nobody = TraceExport(protocol, f"http://127.0.0.1:{free_port()}", {})  # type: ignore[arg-type]  # one of two
    export = SpanExport(TracingSettings(flush_s=0.01), nobody, RESOURCE)
    with caplog.at_level(logging.DEBUG):
        export.start()
        for number in range(1, 4):
            export.note(span(number))
            export.flush_counts()
        export.stop(60)
        export._thread.join(30)
        assert not export._thread.is_alive()
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in lines] == ["bentoml.shokado"], caplog.text
    assert "spans cannot be sent" in lines[0].getMessage()
    assert export.flush_counts()["lost"] > 0
    assert sum(export._counts.values()) == 3


@pytest.mark.parametrize("status", [400, 401])
def test_what_the_receiver_refuses_is_lost_and_counted(status: int, caplog: pytest.LogCaptureFixture) -> None:
    with receiving_http() as receiver:
        receiver.status = status
        export = opened(TracingSettings(endpoint=receiver.url, flush_s=0.01))
        export.note(span())
        wait_until(lambda: export._counts["lost"] == 1)
        export.stop(60)
        assert str(status) in caplog.text
