"""A finished span, as it is noted on the event loop: as little as can be, for the exporter's thread to make more of."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from runners.trace import SpanContext, TraceContext

Attributes = dict[str, str | int | float | bool]


class Span(msgspec.Struct, frozen=True, eq=False):
    """Times are seconds of `time.monotonic`."""

    name: str
    context: SpanContext
    started_at: float
    ended_at: float
    attributes: Attributes
    kind: Literal["INTERNAL", "SERVER", "CLIENT"] = "INTERNAL"
    """The part that it has in a call, by OpenTelemetry's name."""
    links: Sequence[TraceContext] = ()
    error: str = ""
    """Why it is one that failed."""
