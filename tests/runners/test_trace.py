"""Trace contexts: what of a client is taken, and what others are told; OpenTelemetry's propagator is the judge."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runners.trace import (
    MAX_STATE_CHARACTERS,
    BatchTrace,
    SpanContext,
    TraceContext,
    new_span_id,
    new_trace_id,
    read_traceparent,
    read_tracestate,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"
PROPAGATOR = TraceContextTextMapPropagator()

hexadecimal = st.text("0123456789abcdef", min_size=0, max_size=34)
near_misses = st.builds(
    lambda version, trace, span, flags, more: f"{version}-{trace}-{span}-{flags}{more}",
    st.one_of(st.sampled_from(["00", "01", "cc", "ff", "0"]), st.text(max_size=3)),
    st.one_of(st.sampled_from([TRACE, "0" * 32, TRACE.upper()]), hexadecimal),
    st.one_of(st.sampled_from([SPAN, "0" * 16]), hexadecimal),
    st.one_of(st.sampled_from(["00", "01", "02", "03", "ff", ".0"]), hexadecimal),
    st.sampled_from(["", "", "", "-", "-what-the-future-will-be-like", ".what", " "]),
)


def judged(value: str, state: str = "") -> Any:
    """What OpenTelemetry makes of the headers; None: nothing."""
    headers = {"traceparent": value, **({"tracestate": state} if state else {})}
    context = get_current_span(PROPAGATOR.extract(headers)).get_span_context()
    return context if context.is_valid else None


@given(st.one_of(near_misses, st.text(max_size=60)))
@example(GOOD)
@example(f"01-{TRACE}-{SPAN}-01-what-the-future-will-be-like")
@example(f"cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like")
@example(f"00-{TRACE}-{SPAN}-01-")
@example(f"ff-{TRACE}-{SPAN}-01")
@example(f"00-{'0' * 32}-{SPAN}-01")
@example(f"00-{TRACE}-{'0' * 16}-01")
@example(GOOD.upper())
@example(GOOD + "\n")
def test_a_traceparent_is_valid_where_opentelemetry_says_so(value: str) -> None:
    try:
        sent = value.encode("ascii")
    except UnicodeEncodeError:
        return
    # What surrounds it, the door takes away, and the propagator as well; a line's end cannot come so far.
    if value != value.strip(" \t") or "\n" in value:
        assert read_traceparent(sent) is None
        return
    found, expected = read_traceparent(sent), judged(value)
    assert (found is None) == (expected is None)
    if found is not None:
        assert (found.trace_id, found.span_id) == (expected.trace_id, expected.span_id)
        assert found.sampled == expected.trace_flags.sampled


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
def test_what_is_told_can_be_read(trace_id: int, span_id: int, flags: int) -> None:
    told = TraceContext(trace_id, span_id, flags).headers
    found = read_traceparent(told["traceparent"].encode())
    assert found is not None
    assert (found.trace_id, found.span_id, found.flags) == (trace_id, span_id, flags)
    assert judged(told["traceparent"]).trace_id == trace_id


def test_flags_that_nobody_knows_are_not_passed_on() -> None:
    found = read_traceparent(f"00-{TRACE}-{SPAN}-ff".encode())
    assert found is not None
    assert found.headers["traceparent"].endswith("-03")


@pytest.mark.parametrize(
    ("lines", "passed_on"),
    [
        (["rojo=00f067aa0ba902b7"], "rojo=00f067aa0ba902b7"),
        (["rojo=1,congo=t61rcWkgMzE"], "rojo=1,congo=t61rcWkgMzE"),
        (["rojo=1", "congo=2"], "rojo=1,congo=2"),
        (["rojo=1 ,\tcongo=2,, "], "rojo=1,congo=2"),
        (["fw529a3039@dt=FfVqWl"], "fw529a3039@dt=FfVqWl"),
        ([""], ""),
        (["rojo=1,rojo=2"], ""),
        (["Rojo=1"], ""),
        (["rojo"], ""),
        (["rojo=\x00"], ""),
        (["rojo=a=b"], ""),
        ([",".join(f"k{number}=1" for number in range(32))], ",".join(f"k{number}=1" for number in range(32))),
        ([",".join(f"k{number}=1" for number in range(33))], ""),
        (["rojo=" + "x" * MAX_STATE_CHARACTERS], ""),
    ],
)
def test_a_tracestate_is_passed_on_where_it_is_valid(lines: list[str], passed_on: str) -> None:
    assert read_tracestate([line.encode("latin-1") for line in lines]) == passed_on


@given(st.text("ab1@=, \t_-*/A~", max_size=40))
def test_no_state_is_passed_on_that_opentelemetry_would_not_take(state: str) -> None:
    found = read_tracestate([state.encode()])
    if found:
        assert judged(GOOD, found).trace_state.to_header() == found


def test_ids_are_never_zero_and_hardly_ever_the_same() -> None:
    assert len({new_trace_id() for _ in range(1000)}) == 1000
    assert len({new_span_id() for _ in range(1000)} - {0}) == 1000


def test_where_nothing_is_traced_the_clients_own_span_is_the_parent() -> None:
    client = TraceContext(1, 2, 1, "a=1")
    assert client.child().headers == client.headers == {
        "traceparent": f"00-{1:032x}-{2:016x}-01",
        "tracestate": "a=1",
    }  # fmt: skip


def test_each_call_of_a_batch_is_a_span_of_its_own() -> None:
    request = SpanContext(1, 2, 1, "a=1", parent_id=7)
    batch = BatchTrace(request.child())
    first, second = batch.call(again=False).context, batch.call(again=True).context
    assert isinstance(first, SpanContext)
    assert isinstance(batch.context, SpanContext)
    assert batch.context.parent_id == 2
    assert first.parent_id == batch.context.span_id != first.span_id != second.span_id
    assert (first.trace_id, first.flags, first.state) == (1, 1, "a=1")
    assert [call.again for call in batch.calls] == [False, True]
