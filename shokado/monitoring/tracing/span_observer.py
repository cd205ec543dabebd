"""The observer that makes spans: of what requests and batches have noted, after the answers were written.

request (server)
|-- queue
`-- batch   of the first of its requests that is recorded; linked to all of them, and each of them to it
    |-- engine                  in this process
    `-- hop (client) -- engine  in a version's own service, or whatever another server makes of it
"""

from collections.abc import Callable, Sequence

from runners.batching.observer import EndedBatch
from runners.trace import BatchTrace, SpanContext, TraceContext
from shokado.dispatch.fault import FELL_BACK
from shokado.dispatch.observers import Failure, PredictionObserver
from shokado.dispatch.request import Prediction
from shokado.dispatch.request_span import RequestSpan
from shokado.monitoring.tracing.span import Attributes, Span

MAX_LINKS = 128
"""Requests that a batch is linked to; OpenTelemetry's own limit of a span."""
_GRPC_SERVICE = "inference.GRPCInferenceService"


class SpanObserver(PredictionObserver):
    """Hears of predictions and of batches; those of requests that are not recorded cost a look."""

    def __init__(self, note: Callable[[Span], None]) -> None:
        """`note` takes a finished span, and does not wait."""
        self._note = note

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:  # noqa: ARG002
        for prediction in predictions:
            span = prediction.trace
            if isinstance(span, RequestSpan) and span.recorded:
                span.ended_at, span.request_id = span.received_at + prediction.latency_s, prediction.request_id
                self._queue(span, prediction)
                self._request(span, prediction)

    def failed(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            prediction = failure.prediction
            span = failure.span if failure.kind != FELL_BACK else prediction and prediction.trace
            if not isinstance(span, RequestSpan) or not span.recorded:
                continue
            if prediction is not None:
                self._queue(span, prediction)
            # The request that fell back goes on.
            if failure.kind != FELL_BACK:
                self._request(span, prediction, failure.kind)

    def cancelled(self, version: str, predictions: Sequence[Prediction]) -> None:  # noqa: ARG002
        for prediction in predictions:
            span = prediction.trace
            if isinstance(span, RequestSpan) and span.recorded:
                self._queue(span, prediction)
                self._request(span, prediction, "cancelled")

    def batch(self, batch: EndedBatch) -> None:
        spans = [job.trace for job, _, _ in batch.chunks if isinstance(job.trace, RequestSpan) and job.trace.recorded]
        if not spans:
            return
        trace = batch.trace or BatchTrace(spans[0].child())
        context = trace.context
        assert isinstance(context, SpanContext)
        for span in spans:
            span.batches.append(context)
        attributes: Attributes = {
            "shokado.version": batch.version,
            "shokado.rows": len(batch.rows),
            "shokado.requests": len(batch.chunks),
            "shokado.release": batch.release.value,
        }
        error = "the version failed with the whole batch" if batch.scores is None else ""
        self._note(
            Span("batch", context, batch.sent_at, batch.ended_at, attributes, links=spans[:MAX_LINKS], error=error)
        )
        if batch.trace is None:
            computed: Attributes = {"shokado.version": batch.version}
            began_at = batch.ended_at - batch.seconds
            self._note(Span("engine", context.child(), began_at, batch.ended_at, computed, error=error))
        self._calls(trace, batch)

    def _calls(self, trace: BatchTrace, batch: EndedBatch) -> None:
        for call in trace.calls:
            attributes: Attributes = {"shokado.version": batch.version, "shokado.address": trace.address}
            if call.again:
                attributes["http.request.resend_count"] = 1
            if call.error:
                attributes["error.type"] = call.error
            assert isinstance(call.context, SpanContext)
            # One that was given up with its batch was not told its end.
            ended_at = call.ended_at or batch.ended_at
            self._note(Span("hop", call.context, call.started_at, ended_at, attributes, "CLIENT", error=call.error))
            if call.engine is not None:
                self._note(Span("engine", call.context.child(), *call.engine, {"shokado.version": batch.version}))

    def _queue(self, span: RequestSpan, prediction: Prediction) -> None:
        """Note its wait, from its arrival at the batcher until its first row left that, or nobody waited any more."""
        ended_at = prediction.started_at or span.ended_at
        # What a cache answered was in no queue.
        if prediction.submitted_at and ended_at:
            attributes: Attributes = {"shokado.version": prediction.version}
            self._note(Span("queue", span.child(), prediction.submitted_at, ended_at, attributes))

    def _request(self, span: RequestSpan, prediction: Prediction | None, kind: str = "") -> None:
        name, attributes = _called(span)
        attributes["shokado.request_id"] = span.request_id
        if prediction is not None:
            origin = prediction.origin
            attributes |= {
                "shokado.version": origin.version,
                "shokado.environment": origin.environment,
                "shokado.generation": origin.generation,
                "shokado.reason": prediction.reason.value,
                "shokado.rows": prediction.row_count,
            }
        if kind:
            attributes["error.type"] = kind
        others: list[TraceContext] = [batch for batch in span.batches if batch.trace_id != span.trace_id]
        error = kind if span.status >= 500 else ""
        self._note(Span(name, span, span.received_at, span.ended_at, attributes, "SERVER", others[:MAX_LINKS], error))


def _called(span: RequestSpan) -> tuple[str, Attributes]:
    """Name and first attributes, in OpenTelemetry's semantic conventions for servers of HTTP and of gRPC."""
    if span.route.startswith("/"):
        attributes: Attributes = {"http.request.method": "POST", "http.route": span.route}
        return f"POST {span.route}", attributes | {"http.response.status_code": span.status}
    return f"{_GRPC_SERVICE}/{span.route}", {
        "rpc.system": "grpc",
        "rpc.service": _GRPC_SERVICE,
        "rpc.method": span.route,
    }
