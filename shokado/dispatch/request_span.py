"""The spans of requests: which requests are traced, and what is noted of one on its way.

In: the client's trace context, if any. Out: the context that calls for the request are made with, whether or not its
spans are recorded, so that all servers of a trace decide alike.
"""

import msgspec

from runners.trace import RANDOM, SAMPLED, SpanContext, TraceContext, new_span_id, new_trace_id

_ID_BOUND = 2**64


class RequestSpan(SpanContext, eq=False, kw_only=True):
    """The span of a request, from its arrival to its answer; times are seconds of `time.monotonic`."""

    route: str
    received_at: float
    ended_at: float = 0.0
    request_id: str = ""
    status: int = 200
    """HTTP's, of the answer."""
    batches: list[TraceContext] = msgspec.field(default_factory=list)
    """The spans of the batches that it was part of."""


class Sampler:
    """Decides which requests are recorded: those that the client records, and of others a share."""

    def __init__(self, share: float) -> None:
        """`share` is of the requests whose client names no trace. What a client does not record, nobody does."""
        # By the id, as OpenTelemetry's `TraceIdRatioBased` does.
        self._bound = round(share * _ID_BOUND)

    def begin(self, client: TraceContext | None, received_at: float, route: str) -> RequestSpan:
        """The span of a request that arrived at that time."""
        if client is not None:
            return RequestSpan(
                client.trace_id,
                new_span_id(),
                client.flags,
                client.state,
                client.span_id,
                route=route,
                received_at=received_at,
            )
        trace_id = new_trace_id()
        flags = RANDOM | SAMPLED if trace_id % _ID_BOUND < self._bound else RANDOM
        return RequestSpan(trace_id, new_span_id(), flags, route=route, received_at=received_at)
