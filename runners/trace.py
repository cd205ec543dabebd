"""Trace contexts: to which trace of which caller work belongs, as W3C's `traceparent` and `tracestate` say it.

In: the headers of a request. Out: the headers of the calls that are made for it, and the ids of the spans between.
Source: https://www.w3.org/TR/trace-context/, level 1, and level 2's flag for random ids.
"""

import random
import re
import time

import msgspec

SAMPLED, RANDOM = 1, 2
"""The flags of `traceparent` that are known; others must not be passed on."""
MAX_STATE_CHARACTERS = 512
"""Length of a `tracestate` that is passed on; the specification asks for as much, and a longer one is left out."""

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_KEY = rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = re.compile(_KEY + rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]").fullmatch
_MAX_MEMBERS = 32


class TraceContext(msgspec.Struct, eq=False):
    """A span, and the trace that it is part of; of the caller's where nothing is traced here."""

    trace_id: int
    """128 bits, not zero."""
    span_id: int
    """64 bits, not zero."""
    flags: int = 0
    state: str = ""
    """The value of `tracestate`; empty where there is none."""

    @property
    def sampled(self) -> bool:
        """Whether spans are wanted of it, of whoever makes some."""
        return bool(self.flags & SAMPLED)

    @property
    def recorded(self) -> bool:
        """Whether a span is made of it here."""
        return False

    @property
    def headers(self) -> dict[str, str]:
        """What the far side of a call is told, whose parent this is."""
        headers = {"traceparent": f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"}
        if self.state:
            headers["tracestate"] = self.state
        return headers

    def child(self) -> "TraceContext":
        """The context of a call that is made for it: the same where no spans are made, so that none is missing."""
        return self


class SpanContext(TraceContext, eq=False):
    """A span of this process."""

    parent_id: int = 0
    """The span that caused it; 0: none."""

    @property
    def recorded(self) -> bool:
        return self.sampled

    def child(self) -> "SpanContext":
        return SpanContext(self.trace_id, new_span_id(), self.flags, self.state, self.span_id)


class TracedCall(msgspec.Struct, eq=False):
    """A call to a far side on behalf of a batch; times are seconds of `time.monotonic`."""

    context: TraceContext
    started_at: float
    ended_at: float = 0.0
    error: str = ""
    """Class of what went wrong."""
    again: bool = False
    """Whether it repeats one that was cut."""
    engine: tuple[float, float] | None = None
    """When the far side's engine began and ended, where it is on this machine and says so."""


class BatchTrace(msgspec.Struct, eq=False):
    """A batch on its way to a far side, and the calls that were made for it."""

    context: TraceContext
    address: str = ""
    calls: list[TracedCall] = []

    def call(self, *, again: bool) -> TracedCall:
        """A call that begins now."""
        call = TracedCall(self.context.child(), time.monotonic(), again=again)
        self.calls.append(call)
        return call


def new_trace_id() -> int:
    # Zero is not valid, and the generator need not be one that nobody can predict: SDKs use the same.
    return random.getrandbits(128) or 1


def new_span_id() -> int:
    return random.getrandbits(64) or 1


def read_traceparent(value: bytes) -> TraceContext | None:
    """The caller's context, without its state; None for a value that is not valid, which is to be ignored."""
    found = _TRACEPARENT(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # Of versions to come, what is known of their first fields counts.
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    context = TraceContext(int(trace_id, 16), int(span_id, 16), int(flags, 16) & (SAMPLED | RANDOM))
    return context if context.trace_id and context.span_id else None


def read_tracestate(values: list[bytes]) -> str:
    """What to pass on of `tracestate`, whose lines are one list; nothing of one that is not valid or too long."""
    members = [member for value in values for part in value.split(b",") if (member := part.strip(b" \t"))]
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > _MAX_MEMBERS or len(keys) < len(members) or not all(map(_MEMBER, members)):
        return ""
    state = b",".join(members).decode("ascii")
    return state if len(state) <= MAX_STATE_CHARACTERS else ""
