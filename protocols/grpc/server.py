"""The gRPC entrance of one worker: the Open Inference Protocol's service and `grpc.health.v1`, over the same calls.

In: messages of any client of the protocol. Out: their answers, or a status whose trailing metadata say more. All
workers listen at the same port, among which the kernel deals out the connections.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import unquote

import grpc
import msgspec
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2_grpc

from access.decision import Refused
from access.gate import Gate
from configuration.settings import GrpcSettings, LimitSettings
from dispatch.request import UnknownVersion
from protocols.call import Entrance, PredictionHandler
from protocols.door import Handler
from protocols.grpc import open_inference_pb2 as messages
from protocols.grpc.codec import ModelInfer
from protocols.grpc.connections import hang_up, stop_listening
from protocols.grpc.health import Health
from protocols.guard import GuardedHandler
from protocols.head import RequestHead, read_head
from protocols.model_tensors import input_tensors, output_tensors
from protocols.problem import Problem, ProblemBody, conflicting_version, malformed, problem_of
from protocols.signatures import signature_of
from runners.card import Card

SERVICE = "inference.GRPCInferenceService"

logger = logging.getLogger("bentoml.shokado")

_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_STOPPING = Problem(503, "stopping", "the server is stopping; ask again, over a new connection")
_decode_problem = msgspec.json.Decoder(ProblemBody).decode


def status_of(http_status: int, code: str) -> grpc.StatusCode:
    """The status of a problem. An overloaded server is the one 503 that is no outage: the client has to slow down."""
    if code == "overloaded":
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return _STATUS.get(http_status, grpc.StatusCode.INTERNAL)


def refuse_taken_port(settings: GrpcSettings) -> None:
    """Raises `OSError` when somebody listens at the port. Ask before the workers start: they share it."""
    assert settings.port is not None
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, settings.port))


class GrpcExchange:
    """A request that waits for its answer: HTTP status, header lines and body, which become gRPC's."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.answer: asyncio.Future[tuple[int, bytes, bytes]] = asyncio.get_running_loop().create_future()

    def reply(self, status: int, header_lines: bytes, body: bytes) -> None:
        # The client may have left within the same turn of the event loop.
        if not self.answer.done():
            self.answer.set_result((status, header_lines, body))


class GrpcServer:
    """Start and stop it on the worker's event loop."""

    def __init__(
        self,
        settings: GrpcSettings,
        limits: LimitSettings,
        model: str,
        card: Card,
        entrance: Entrance,
        ready: Callable[[], bool],
        gate: Gate | None = None,
    ) -> None:
        """`card` is any version's; `ready` says whether this worker can answer. Without a gate, everybody may ask."""
        self._gate = gate if gate is not None and gate.guards_predictions else None
        self._settings = settings
        self._model = model
        self._entrance = entrance
        self._ready = ready
        self._signature = signature_of(card, limits)
        self._inputs, self._outputs = input_tensors(card), output_tensors(card)
        self._health = Health(("", SERVICE), ready)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.max_concurrent_requests,
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", settings.max_message_bytes or limits.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", limits.max_header_bytes),
            ],
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._methods()),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> None:
        """Listen. Raises `RuntimeError` when the port cannot be had."""
        self._server.add_insecure_port(f"{self._settings.host}:{self._settings.port}")
        await self._health.start()
        await self._server.start()
        logger.info("gRPC: the Open Inference Protocol at %s:%s", self._settings.host, self._settings.port)

    async def stop(self) -> None:
        """Say that it stops, refuse new requests, answer those that are under way, and end the connections.

        grpc's own stop would answer CANCELLED, after which no client tries again, to whatever it has not handed over
        yet or gets meanwhile. To who still waits, a connection that ends is UNAVAILABLE, as is a refusal.
        """
        port = self._settings.port
        assert port is not None
        self._stopping = True
        stop_listening(port)
        await self._health.stop()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._settings.drain_s)
        hang_up(port)
        await self._server.stop(None)

    def _methods(self) -> dict[str, Any]:
        def method(name: str, answer: Any) -> Any:
            request_type, response_type = getattr(messages, f"{name}Request"), getattr(messages, f"{name}Response")

            async def answer_or_refuse(request: Any, context: Any) -> Any:
                try:
                    return answer(request, context)
                except (Refused, UnknownVersion, Problem) as error:
                    problem = problem_of(error)
                    metadata = _metadata_of(problem.header_lines)
                    await _refuse(
                        context, status_of(problem.status, problem.code), problem.message, problem.code, metadata
                    )
                    return response_type()

            return grpc.unary_unary_rpc_method_handler(
                answer_or_refuse, request_type.FromString, response_type.SerializeToString
            )

        return {
            "ServerLive": method("ServerLive", self._server_live),
            "ServerReady": method("ServerReady", self._server_ready),
            "ServerMetadata": method("ServerMetadata", self._server_metadata),
            "ModelReady": method("ModelReady", self._model_ready),
            "ModelMetadata": method("ModelMetadata", self._model_metadata),
            # Bytes in and out: what is no message is a problem like any other.
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer),
        }

    async def _infer(self, body: bytes, context: Any) -> bytes:
        request, problem = messages.ModelInferRequest(), _STOPPING if self._stopping else None
        try:
            request.ParseFromString(body)
        except DecodeError:
            problem = malformed("this is no ModelInferRequest")
        self._note_call()
        pins = tuple(name for name in (request.model_name, request.model_version) if name and name != self._model)
        head = head_of(context.invocation_metadata(), pins, context.time_remaining(), problem)
        exchange = GrpcExchange(peer_of(context.peer()))
        handler: Handler = PredictionHandler(self._entrance, ModelInfer(self._signature, request))
        if self._gate is not None:
            handler = GuardedHandler(handler, self._gate)
        work = handler.begin(head, b"", exchange)
        try:
            status, lines, answer = await exchange.answer
        except asyncio.CancelledError:
            if work is not None:
                work.cancel()
            raise
        metadata = _metadata_of(lines)
        if status != 200:
            error = _decode_problem(answer).error
            await _refuse(context, status_of(status, error.code), error.message, error.code, metadata)
            return b""
        context.set_trailing_metadata(metadata)
        return answer

    def _note_call(self) -> None:
        """Keep grpc's task of the running call until it ends: then the answer is written."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _server_live(self, _request: Any, _context: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    def _server_ready(self, _request: Any, _context: Any) -> Any:
        return messages.ServerReadyResponse(ready=self._ready())

    def _admit(self, context: Any) -> None:
        """Metadata is for who may predict; liveness and readiness are for everybody. Raises `Refused`."""
        if self._gate is not None:
            self._gate.predictor(head_of(context.invocation_metadata(), (), None, None).credential)

    def _server_metadata(self, _request: Any, context: Any) -> Any:
        self._admit(context)
        return messages.ServerMetadataResponse(name="shokado", version="1")

    def _model_ready(self, request: Any, context: Any) -> Any:
        self._admit(context)
        version = self._version_of(request)
        runner = self._entrance.dispatcher.runners.get(version) if version else None
        return messages.ModelReadyResponse(ready=self._ready() if version is None else bool(runner and runner.ready))

    def _model_metadata(self, request: Any, context: Any) -> Any:
        self._admit(context)
        version = self._version_of(request)
        answer = messages.ModelMetadataResponse(name=request.name, platform="shokado")
        answer.versions.extend([version] if version else sorted(self._entrance.dispatcher.runners))
        for field, tensors in ((answer.inputs, self._inputs), (answer.outputs, self._outputs)):
            for tensor in tensors:
                field.add(**asdict(tensor))
        return answer

    def _version_of(self, request: Any) -> str | None:
        """The version that name and version of a request mean; none: the model with all its versions.

        Raises `UnknownVersion` or, when they mean two, `Problem`.
        """
        resolve = self._entrance.dispatcher.resolve
        found = {resolve(name) for name in (request.name, request.version) if name and name != self._model}
        if len(found) > 1:
            raise conflicting_version(request.name)
        return found.pop() if found else None


def head_of(
    metadata: Iterable[tuple[str, Any]], pins: tuple[str, ...], remaining_s: float | None, problem: Problem | None
) -> RequestHead:
    """What HTTP's headers say, from the metadata of the same names; `remaining_s` is the client's own deadline."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in metadata if isinstance(value, str)]
    # The codec knows but one content type, and answers in it; grpc undoes its own codings.
    headers = [header for header in headers if header[0] not in (b"content-type", b"accept", b"content-encoding")]
    head = read_head(headers, pins)
    deadlines = [seconds for seconds in (head.deadline_s, remaining_s) if seconds is not None]
    return replace(head, deadline_s=min(deadlines, default=None), problem=problem or head.problem)


def peer_of(address: str) -> str:
    """The address in what grpc calls a peer, such as `ipv4:127.0.0.1:50000` or `ipv6:%5B::1%5D:50000`."""
    kind, _, rest = unquote(address).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def _metadata_of(lines: bytes) -> tuple[tuple[str, str], ...]:
    pairs = (line.decode("latin-1").split(": ", 1) for line in lines.splitlines())
    metadata = {name: value for name, value in pairs if name != "content-type"}
    if "retry-after" in metadata:
        # What clients that retry by themselves go by: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
        metadata["grpc-retry-pushback-ms"] = str(int(metadata["retry-after"]) * 1000)
    return tuple(metadata.items())


async def _refuse(
    context: Any, status: grpc.StatusCode, message: str, code: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    """End the call with a status; what its method returns is not sent.

    A status that is merely set comes behind an empty message, after which no client tries again by itself. But the
    exception of `abort`, which grpc keeps, knows the context by its frames: a cycle of some 40 objects.
    """
    try:
        await context.abort(status, message, (("x-error-code", code), *metadata))
    except grpc.aio.AbortError as error:
        error.__traceback__ = None
