"""A receiver of OpenTelemetry's protocol (OTLP), over HTTP and gRPC: it decodes what it gets, and keeps the spans."""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.waiting import wait_until

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass
class ReceivedSpan:
    """A span as it came over the wire; ids are hexadecimal, times are nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    failed: bool
    state: str
    resource: dict[str, Any]


@dataclass
class Receiver:
    """`holds` keeps whoever sends waiting until it is set; `status` is HTTP's, of each answer."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    status: int = 200
    holds: threading.Event | None = None
    is_grpc: bool = False

    def take(self, message: bytes, headers: dict[str, str]) -> bytes:
        self.headers.append(headers)
        if self.holds is not None:
            self.holds.wait(60)
        if self.status == 200:
            self.spans += _spans_in(ExportTraceServiceRequest.FromString(message))
        return bytes(ExportTraceServiceResponse().SerializeToString())

    def wait_for(self, number: int = 1, **wanted: Any) -> list[ReceivedSpan]:
        """The spans with these fields, once there are so many."""
        wait_until(lambda: len(self.found(**wanted)) >= number, 60)
        return self.found(**wanted)

    def found(self, **wanted: Any) -> list[ReceivedSpan]:
        return [span for span in list(self.spans) if all(getattr(span, name) == it for name, it in wanted.items())]

    def trace(self, trace_id: str) -> dict[str, list[str]]:
        """The names of a trace's spans by the name of their parent, sorted; empty for those of another process."""
        spans = {span.span_id: span for span in self.found(trace_id=trace_id)}
        tree: dict[str, list[str]] = {}
        for span in spans.values():
            parent = spans.get(span.parent_id)
            tree.setdefault(parent.name if parent is not None else "", []).append(span.name)
        return {parent: sorted(names) for parent, names in tree.items()}


def _spans_in(request: Any) -> list[ReceivedSpan]:
    return [
        ReceivedSpan(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.kind,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            _values(span.attributes),
            [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            span.status.code == span.status.STATUS_CODE_ERROR,
            span.trace_state,
            _values(of_resource.resource.attributes),
        )
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextlib.contextmanager
def receiving_http() -> Iterator[Receiver]:
    """At a free port; `url` is what goes before `/v1/traces`."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.paths.append(self.path)
            answer = receiver.take(body, {name.lower(): value for name, value in self.headers.items()})
            with contextlib.suppress(OSError):
                self.send_response(receiver.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        if receiver.holds is not None:
            receiver.holds.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def receiving_grpc() -> Iterator[Receiver]:
    """At a free port."""
    receiver = Receiver(is_grpc=True)

    def export(message: bytes, context: Any) -> bytes:
        return receiver.take(message, {name: str(value) for name, value in context.invocation_metadata()})

    server = grpc.server(ThreadPoolExecutor(4))
    methods = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        if receiver.holds is not None:
            receiver.holds.set()
        server.stop(None).wait()
