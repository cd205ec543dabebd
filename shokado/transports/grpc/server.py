"""The gRPC entrance of one worker: the Open Inference Protocol's service and `grpc.health.v1`, over the same calls.

In: messages of any client of the protocol. Out: their answers, or a status whose trailing metadata say more. All
workers listen at the same port, among which the kernel deals out the connections.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import unquote

import grpc
import msgspec
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from configuration.settings import GrpcSettings, LimitSettings
from runners.artefacts.card import Card
from runners.inputs.formats import row_format_of
from runners.inputs.rows import RowReader
from shokado.access.decision import Refused
from shokado.access.gate import Gate
from shokado.dialects.error_codes import ERROR_CODES
from shokado.dialects.head import RequestHead, read_head
from shokado.dialects.problem import Problem, ProblemBody, malformed, parted, problem_of
from shokado.dialects.served_models import OVER_GRPC, ServedModels
from shokado.dispatch.request import UnknownVersion
from shokado.transports.admission import AdmissionHandler
from shokado.transports.body_quota import BodyQuota
from shokado.transports.call import Entrance, PredictionHandler
from shokado.transports.exchange import Handler, new_id
from shokado.transports.failure_log import FailureLog
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.codec import ModelInfer
from shokado.transports.grpc.connections import hang_up, stop_listening
from shokado.transports.grpc.health import Health
from shokado.transports.grpc.large_blocks import return_large_blocks
from shokado.transports.grpc.wire import refuse_excess

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

logger = logging.getLogger("bentoml.shokado")

STREAMS_OF_A_CONNECTION = 128
"""Calls of one connection: each may have 64 KiB unread. Clients keep more calls back by themselves."""
RECEIVED_AT_ONCE = 2
"""Messages that grpc may be receiving together, beside those that take long: how long one is it does not tell."""
RECEIVED_SOON_S = 0.05
"""A message that is not here by then counts among the bodies that are on their way, at the length it may have."""
AGE_GRACE_S = 60
"""For the calls that are under way on a connection of the greatest age; what is watched is watched anew then."""
_STOPPING = Problem("stopping", "the server is stopping; ask again, over a new connection")
_METADATA = messages.ServerMetadataResponse(**asdict(OVER_GRPC))
_NO_MESSAGE = malformed("a call has one message, and this one has none")
_failures = FailureLog()
_decode_problem = msgspec.json.Decoder(ProblemBody).decode


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
        models: ServedModels,
        card: Card,
        entrance: Entrance,
        gate: Gate | None = None,
        body_quota: BodyQuota | None = None,
    ) -> None:
        """`card` is any version's. Without a gate, everybody may ask.

        `body_quota` counts arriving bodies, those of other transports as well.
        """
        self._gate = gate if gate is not None and gate.guards_predictions else None
        self._settings = settings
        self._models = models
        self._entrance = entrance
        self.row_format: RowReader = row_format_of(card.features, limits)
        """How requests are read; another one takes its place when versions come that take other features."""
        self._health = Health(("", SERVICE), models.all_ready)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._max_message_bytes = settings.max_message_bytes or limits.max_body_bytes
        self._request_s = limits.request_timeout_s
        self._body_quota = body_quota or BodyQuota(limits.receiving_bytes)
        self._receiving = asyncio.Semaphore(RECEIVED_AT_ONCE)
        self._unread = self._handler(messages.ModelInferRequest())
        """Judges heads before their messages are read."""
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.max_concurrent_requests,
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", limits.max_header_bytes),
                ("grpc.max_allowed_incoming_connections", settings.max_connections),
                ("grpc.max_connection_idle_ms", int(settings.max_connection_idle_s * 1000)),
                ("grpc.max_connection_age_ms", int(limits.max_connection_age_s * 1000)),
                ("grpc.max_connection_age_grace_ms", AGE_GRACE_S * 1000),
                ("grpc.keepalive_time_ms", int(settings.keepalive_time_s * 1000)),
                ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
                # Else grpc allows a client without calls one ping in two hours.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", int(settings.min_ping_interval_s * 1000)),
                # Else grpc lets each stream have as much unread as came fast: megabytes, of messages nobody waits for.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.max_concurrent_streams", STREAMS_OF_A_CONNECTION),
                # Who connects and says nothing.
                ("grpc.server_handshake_timeout_ms", int(limits.request_timeout_s * 1000)),
            ],
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._methods()),))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, self._health_methods()),))

    async def start(self) -> None:
        """Listen. Raises `RuntimeError` when the port cannot be had."""
        return_large_blocks()
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
        """Bytes in and out, and streams of one message: what is declared to have one, grpc reads before it asks."""
        return {
            # An empty message need not be read.
            "ServerLive": self._method(lambda _: messages.ServerLiveResponse(live=True), guarded=False),
            "ServerReady": self._method(
                lambda _: messages.ServerReadyResponse(ready=self._models.all_ready()), guarded=False
            ),
            "ServerMetadata": self._method(lambda _: _METADATA),
            "ModelReady": self._method(self._model_ready, messages.ModelReadyRequest),
            "ModelMetadata": self._method(self._model_metadata, messages.ModelMetadataRequest),
            "ModelInfer": grpc.stream_unary_rpc_method_handler(self._infer),
        }

    def _method(self, answer: Callable[[Any], Any], request_type: Any = None, *, guarded: bool = True) -> Any:
        async def answer_or_refuse(_messages: Any, context: Any) -> bytes:
            problem = await self._refusal(context) if guarded else None
            if problem is None:
                try:
                    request = await self._request(context, request_type) if request_type is not None else None
                    return bytes(answer(request).SerializeToString())
                except (UnknownVersion, Problem) as fault:
                    problem = problem_of(parted(fault))
            await _refuse_for(context, problem)
            return b""

        return grpc.stream_unary_rpc_method_handler(answer_or_refuse)

    def _health_methods(self) -> dict[str, Any]:
        async def asked(context: Any) -> Any:
            """The request; None where it was refused."""
            try:
                return await self._request(context, health_pb2.HealthCheckRequest)
            except Problem as fault:
                problem = parted(fault)
            await _refuse_for(context, problem)
            return None

        async def check(_messages: Any, context: Any) -> bytes:
            request = await asked(context)
            return b"" if request is None else bytes((await self._health.Check(request, context)).SerializeToString())

        async def watch(_messages: Any, context: Any) -> None:
            request = await asked(context)
            if request is not None:
                await self._health.Watch(request, context)

        return {
            "Check": grpc.stream_unary_rpc_method_handler(check),
            "Watch": grpc.stream_stream_rpc_method_handler(
                watch, response_serializer=health_pb2.HealthCheckResponse.SerializeToString
            ),
        }

    async def _request(self, context: Any, request_type: Any) -> Any:
        """The call's message. Raises `Problem`."""
        message = await self._message(context)
        if message is None:
            raise _NO_MESSAGE
        return parsed(message, request_type)

    def _handler(self, request: Any) -> Handler:
        handler: Handler = PredictionHandler(self._entrance, ModelInfer(self.row_format, request))
        return AdmissionHandler(handler, self._gate) if self._gate is not None else handler

    async def _infer(self, _messages: Any, context: Any) -> bytes:
        self._note_call()
        request, exchange = messages.ModelInferRequest(), GrpcExchange(peer_of(context.peer()))
        head = head_of(context.invocation_metadata(), context.time_remaining(), _STOPPING if self._stopping else None)
        problem = self._unread.judge(head, exchange.peer)
        if problem is None:
            try:
                message = await self._message(context)
                if message is None:
                    # Too long, of which grpc has told the client by now, or not there.
                    await _refuse_for(context, _NO_MESSAGE)
                    return b""
                request = infer_request(message, self.row_format)
            except Problem as fault:
                problem = parted(fault)
        names = (request.model_name, request.model_version)
        pins = tuple(name for name in names if name and name != self._models.model)
        head = replace(head, pins=(*pins, *head.pins), problem=problem)
        work = self._handler(request).begin(head, b"", exchange)
        try:
            status, lines, answer = await exchange.answer
        except asyncio.CancelledError:
            if work is not None:
                work.cancel()
            raise
        metadata = _metadata_of(lines)
        if status != 200:
            error = _decode_problem(answer).error
            await _refuse(context, error.code, error.message, metadata)
            return b""
        context.set_trailing_metadata(metadata)
        return answer

    async def _message(self, context: Any) -> bytes | None:
        """The call's message, if there is one. Raises `Problem` (408, 503): too slow, or one of too many."""
        loop = asyncio.get_running_loop()
        kept, problem = 0, _too_slow(self._request_s)

        def count() -> None:
            nonlocal kept, problem
            refused = self._body_quota.reserve(self._max_message_bytes)
            if refused is None:
                kept = self._max_message_bytes
                self._receiving.release()
            else:
                problem = refused
                patience.reschedule(loop.time())

        try:
            async with asyncio.timeout(self._request_s) as patience:
                await self._receiving.acquire()
                counting = loop.call_later(RECEIVED_SOON_S, count)
                try:
                    message = await context.read()
                finally:
                    counting.cancel()
                    if kept:
                        self._body_quota.release(kept)
                    else:
                        self._receiving.release()
        except TimeoutError:
            raise problem from None
        return None if message is grpc.aio.EOF else bytes(message)

    def _note_call(self) -> None:
        """Keep grpc's task of the running call until it ends: then the answer is written."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _refusal(self, context: Any) -> Problem | None:
        """Metadata is for who may predict; liveness and readiness are for everybody."""
        gate = self._gate
        if gate is None:
            return None
        head = head_of(context.invocation_metadata(), None, None)
        key, refused = "", None
        try:
            key = gate.predictor(head.credential)
        except Refused as error:
            refused = parted(error)
        refused = await gate.take(key, gate.address_of(peer_of(context.peer()), head.forwarding)) or refused
        return problem_of(refused) if refused is not None else None

    def _model_ready(self, request: Any) -> Any:
        return messages.ModelReadyResponse(ready=self._models.is_ready(request.name, request.version))

    def _model_metadata(self, request: Any) -> Any:
        return messages.ModelMetadataResponse(**asdict(self._models.metadata(request.name, request.version)))


def infer_request(message: bytes, row_format: RowReader) -> Any:
    """Raises `Problem`, before it is parsed if it has too much in it."""
    refuse_excess(message, row_format)
    return parsed(message, messages.ModelInferRequest)


def parsed(message: bytes, request_type: Any) -> Any:
    """Raises `Problem` that does not know the message, which it would keep: it outlives the call."""
    with contextlib.suppress(DecodeError):
        return request_type.FromString(message)
    raise malformed(f"this is no {request_type.DESCRIPTOR.name}")


def head_of(metadata: Iterable[tuple[str, Any]], remaining_s: float | None, problem: Problem | None) -> RequestHead:
    """What HTTP's headers say, from the metadata of the same names; `remaining_s` is the client's own deadline."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in metadata if isinstance(value, str)]
    # The codec knows but one content type, and answers in it; grpc undoes its own codings.
    headers = [header for header in headers if header[0] not in (b"content-type", b"accept", b"content-encoding")]
    head = read_head(headers)
    deadlines = [seconds for seconds in (head.deadline_s, remaining_s) if seconds is not None]
    return replace(head, deadline_s=min(deadlines, default=None), problem=problem or head.problem)


def peer_of(address: str) -> str:
    """The address in what grpc calls a peer, such as `ipv4:127.0.0.1:50000` or `ipv6:%5B::1%5D:50000`."""
    kind, _, rest = unquote(address).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def _too_slow(limit_s: float) -> Problem:
    return Problem("request_timeout", f"the message did not arrive within {limit_s:g} s", {"limit_s": limit_s})


def _metadata_of(lines: bytes) -> tuple[tuple[str, str], ...]:
    pairs = (line.decode("latin-1").split(": ", 1) for line in lines.splitlines())
    metadata = {name: value for name, value in pairs if name != "content-type"}
    if "retry-after" in metadata:
        # What clients that retry by themselves go by: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
        metadata["grpc-retry-pushback-ms"] = str(int(metadata["retry-after"]) * 1000)
    return tuple(metadata.items())


async def _refuse_for(context: Any, problem: Problem) -> None:
    """End a call that began no prediction."""
    request_id = head_of(context.invocation_metadata(), None, None).request_id or new_id()
    _failures.tell(problem, problem, request_id)
    metadata = _metadata_of(b"x-request-id: %b\r\n%b" % (request_id.encode(), problem.header_lines))
    await _refuse(context, problem.code, problem.message, metadata)


async def _refuse(context: Any, code: str, message: str, metadata: tuple[tuple[str, str], ...]) -> None:
    """End the call with the code's status; what its method returns is not sent.

    A status that is merely set comes behind an empty message, after which no client tries again by itself. But the
    exception of `abort`, which grpc keeps, knows the context by its frames: a cycle of some 40 objects.
    """
    try:
        await context.abort(grpc.StatusCode[ERROR_CODES[code].grpc], message, (("x-error-code", code), *metadata))
    except grpc.aio.AbortError as error:
        parted(error)
