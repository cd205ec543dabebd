"""Errors carry the request's id and its trace, in every dialect, whatever is wrong."""

import pytest

from configuration.settings import DialectSettings
from runners.trace import TraceContext
from shokado.dialects.dialect import Dialect
from shokado.dialects.dialects import all_dialects
from shokado.dialects.head import read_head
from shokado.dispatch.observers import Observers
from shokado.dispatch.request_span import Sampler
from shokado.transports.call import Entrance, PredictionHandler
from tests.support.cards import NAMES
from tests.support.rows import dense_format
from tests.transports.memory_exchange import MemoryExchange
from tests.transports.test_call import GOOD, CallBench

DIALECTS = all_dialects(dense_format(NAMES, 10), DialectSettings())
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = ((b"x-request-id", b"r-1"), (b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode()))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.path)
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"\xff", ()),
        (b"{}", ()),
        (b"", ((b"content-type", b"text/nothing"),)),
        (b"", ((b"x-request-deadline-ms", b"soon"),)),
        (b"", ((b"x-model-version", b"v9"),)),
    ],
)
def test_every_error_carries_the_requests_id(
    dialect: Dialect, body: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    bench, exchange = CallBench(), MemoryExchange()
    entrance = Entrance(bench.dispatcher, Observers(lambda *_: None), bench.ids, sampler=Sampler(0))
    PredictionHandler(entrance, dialect).begin(read_head([*HEADERS, *headers]), body, exchange)
    assert exchange.status is not None
    assert exchange.status >= 400
    assert (exchange.headers["x-request-id"], exchange.headers["x-trace-id"]) == ("r-1", TRACE)


def test_without_spans_the_clients_context_is_passed_on_as_it_came() -> None:
    bench, exchange = CallBench(), MemoryExchange()
    head = read_head([*HEADERS, (b"tracestate", b"a=1"), (b"tracestate", b"b=2")])
    bench.handler.begin(head, GOOD, exchange)
    (job,) = bench.runner.jobs
    assert type(job.trace) is TraceContext
    assert job.trace.headers == {"traceparent": HEADERS[1][1].decode(), "tracestate": "a=1,b=2"}
    bench.runner.finish([0.5, 0.5])
    assert exchange.status == 200
    assert "x-trace-id" not in exchange.headers


@pytest.mark.parametrize(
    "lines",
    [
        [b"nonsense"],
        [f"00-{TRACE}-00f067aa0ba902b7-01".encode(), f"00-{TRACE}-00f067aa0ba902b8-01".encode()],
        [f"00-{TRACE}-00f067aa0ba902b7-01".encode()] * 2,
    ],
)
def test_a_traceparent_that_is_not_valid_or_comes_twice_is_as_none(lines: list[bytes]) -> None:
    head = read_head([(b"traceparent", line) for line in lines] + [(b"tracestate", b"a=1")])
    assert (head.trace, head.problem) == (None, None)
