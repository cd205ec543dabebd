"""The export of spans: a queue with a bound, and a thread that sends what is in it by OTLP.

    note --(there is room)--> waiting --(every `flush_s`, or when many wait)--> exporter --> receiver
     `--(no room)--> dropped, and counted                                           `--(fails)--> dropped, and counted

OpenTelemetry's exporters encode, compress, send and try again. They are imported here, in the thread, so that a worker
that traces nothing never does.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from configuration.trace_export import TraceExport
from configuration.tracing_settings import TracingSettings
from runners.log_throttle import LogThrottle
from runners.trace import TraceContext
from shokado.monitoring.tracing.span import Span

MAX_BATCH = 512
"""Spans of one message, as OpenTelemetry has it."""
STOP_S = 1.0
"""How long a stopping worker waits for what is still to be sent."""
_SCOPE = "shokado"

logger = logging.getLogger("bentoml.shokado")


class SpanExport:
    """One for each worker. `note` and `flush_counts` belong to its event loop."""

    def __init__(self, settings: TracingSettings, export: TraceExport, resource: Mapping[str, str]) -> None:
        """`resource` says which process it is; what `OTEL_RESOURCE_ATTRIBUTES` says goes before."""
        self._settings = settings
        self._export = export
        self._resource = dict(resource)
        self._waiting: deque[Span] = deque()
        self._counts = {"sent": 0, "dropped": 0, "lost": 0}
        """Since the start; `dropped` is the event loop's to count, the others the thread's."""
        self._told = dict.fromkeys(self._counts, 0)
        self._wake = threading.Event()
        self._ending = False
        self._exporter: Any = None
        self._throttle = LogThrottle()
        self._thread = threading.Thread(target=self._work, name="shokado-spans", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def note(self, span: Span) -> None:
        """Take a span, if there is room for one more."""
        waiting = self._waiting
        if len(waiting) >= self._settings.max_waiting_spans:
            self._counts["dropped"] += 1
            return
        waiting.append(span)
        if len(waiting) == MAX_BATCH:
            self._wake.set()

    def flush_counts(self) -> dict[str, int]:
        """Spans since the last time: those that were sent, had no room (dropped), could not be sent (lost)."""
        before, self._told = self._told, dict(self._counts)
        return {outcome: number - before[outcome] for outcome, number in self._told.items()}

    def stop(self, patience_s: float = STOP_S) -> None:
        """Send what waits, for no longer than `patience_s`; blocks."""
        if not self._thread.is_alive():
            return
        self._ending = True
        self._wake.set()
        self._thread.join(patience_s)
        if self._thread.is_alive() and self._exporter is not None:
            # It may be waiting to try again.
            self._exporter.shutdown()

    def _work(self) -> None:
        """The thread."""
        silenced = _LastWords()
        try:
            self._exporter, spoken = _exporter(self._export)
            resource = _resource(self._resource)
        except Exception:
            logger.exception("spans cannot be sent: there is no exporter, and all of them are dropped")
            return
        spoken.addFilter(silenced)
        ending = False
        while not ending:
            self._wake.wait(self._settings.flush_s)
            self._wake.clear()
            ending = self._ending
            while spans := self._taken():
                self._send(spans, resource, silenced)
        self._exporter.shutdown()
        spoken.removeFilter(silenced)

    def _taken(self) -> list[Span]:
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]

    def _send(self, spans: Sequence[Span], resource: Any, silenced: "_LastWords") -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            sent = self._exporter.export(_readable(spans, resource)) is SpanExportResult.SUCCESS
        except Exception as error:
            sent, silenced.words = False, f"{type(error).__name__}: {error}"
        if sent:
            self._counts["sent"] += len(spans)
            return
        self._counts["lost"] += len(spans)
        if self._throttle.left_out() is not None:
            logger.warning("spans cannot be sent, and are dropped: %s", silenced.words)


class _LastWords(logging.Filter):
    """Takes from the log what exporters say of each failure, and keeps the last of it."""

    words = "the receiver did not take them"

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self.words = record.getMessage()
        return False


def _exporter(export: TraceExport) -> tuple[Any, logging.Logger]:
    """OpenTelemetry's exporter, and what it logs to."""
    headers = dict(export.headers) or None
    if export.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import exporter as grpc_exporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter

        return GrpcSpanExporter(endpoint=export.endpoint, headers=headers), grpc_exporter.logger
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    return trace_exporter.OTLPSpanExporter(endpoint=export.endpoint, headers=headers), trace_exporter._logger


def _resource(attributes: Mapping[str, str]) -> Any:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    return Resource.create(dict(attributes)).merge(OTELResourceDetector().detect())


def _readable(spans: Sequence[Span], resource: Any) -> list[Any]:
    """The spans as exporters take them."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode

    # What the clock of the spans is behind the time of day.
    offset_ns = time.time_ns() - time.monotonic_ns()
    scope = InstrumentationScope(_SCOPE)
    return [
        ReadableSpan(
            span.name,
            _told(span.context),
            _parent(span) if span.context.parent_id else None,
            resource,
            dict(span.attributes),
            (),
            [Link(_told(other)) for other in span.links],
            SpanKind[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=offset_ns + int(span.started_at * 1e9),
            end_time=offset_ns + int(span.ended_at * 1e9),
            instrumentation_scope=scope,
        )
        for span in spans
    ]


def _told(context: TraceContext, span_id: int = 0, *, remote: bool = False) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state = TraceState.from_header([context.state]) if context.state else None
    return SpanContext(context.trace_id, span_id or context.span_id, remote, TraceFlags(context.flags), state)


def _parent(span: Span) -> Any:
    return _told(span.context, span.context.parent_id, remote=span.kind == "SERVER")
