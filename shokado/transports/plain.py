"""Prediction routes behind ASGI, for everything that does not take the express lane.

`Predictions` answers any of them; those that BentoML's own clients call are BentoML APIs as well. The input models give
BentoML and its clients the schema, but hand the request over as it came: decoding it is the dialect's work here as on
the lane, so that both answer alike.
"""

import asyncio
from dataclasses import replace
from typing import Annotated, Any, Generic, Self, TypeVar

from bentoml import IODescriptor
from bentoml.validators import TensorSchema
from pydantic import Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shokado.dialects.head import read_head
from shokado.dialects.problem import Problem, body_too_large, parted
from shokado.dialects.unit import Unit
from shokado.transports.body_quota import BodyQuota
from shokado.transports.routes import Found, Routes

NumberRow = Annotated[Any, TensorSchema("numpy-array")]
"""A list, object or array. BentoML's clients make numbers of JSON of numpy's only where the schema says that an array
belongs there; an object passes as it is."""
TextRow = dict[str, str] | list[str] | str
"""No array, as numpy takes NUL from the end of a text; the object first, as BentoML's clients encode by the first of
alternatives, and would send an object's names as a list."""
Row = TypeVar("Row")

_CLIENT_GONE = 499


class _Untouched(IODescriptor):
    """Puts the request itself into every field, unread."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[type[Any], ...]) -> str:  # noqa: ARG003
        """What the schema calls it, whatever a row is."""
        return cls.__name__

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Self:  # noqa: ARG003
        untouched: Self = cls.model_construct(**dict.fromkeys(cls.model_fields, request))
        return untouched


Sticky = Annotated[Unit, Field(description="What sticky assignment sticks to: the first of the three that is given.")]


class NativeInput(_Untouched, Generic[Row]):
    """What `POST /v1/models/predict` takes."""

    instances: list[Row] = Field(description="Rows: lists of all features in their order, or objects by name.")
    version: str | None = Field(default=None, description="A version or alias to pin; left out: the split decides.")
    unit: Sticky = None
    user_id: Sticky = None
    request_id: Sticky = None


class SingleInput(_Untouched, Generic[Row]):
    """What `POST /predict` takes."""

    features: Row = Field(description="One row: a list of all features in their order, or an object by name.")
    model_version: str | None = Field(default=None, description="A version or alias to pin.")
    use_ab_testing: bool = Field(default=True, description="False: the active version answers.")
    unit: Sticky = None
    user_id: Sticky = None
    request_id: Sticky = None


class BatchInput(_Untouched, Generic[Row]):
    """What `POST /batch_predict` takes."""

    instances: list[Row] = Field(description="Rows: lists of all features in their order, or objects by name.")
    model_version: str | None = Field(default=None, description="A version or alias to pin.")
    use_ab_testing: bool = Field(default=True, description="False: the active version answers.")
    unit: Sticky = None
    user_id: Sticky = None
    request_id: Sticky = None


class NativeOutput(IODescriptor):
    """What `POST /v1/models/predict` answers."""

    predictions: list[float] | list[list[float]] = Field(
        description="Per row: the positive class's probability (binary), all classes' (multiclass), or the value."
    )
    classes: list[int | str] | None = Field(default=None, description="The label of each row, for classifiers.")
    version: str
    reason: str = Field(description="SPLIT, STICKY, PINNED, ACTIVE or FALLBACK.")
    generation: int = Field(description="Of the routing state that the version was assigned under.")
    request_id: str
    prediction_id: str
    latency_ms: float


class SingleOutput(IODescriptor):
    """What `POST /predict` answers."""

    prediction: float | list[float]
    prediction_class: int | str | None = None
    confidence: float | None = Field(default=None, description="Probability of the chosen class.")
    model_version: str
    request_id: str
    prediction_id: str
    timestamp: str
    latency_ms: float


class BatchOutput(IODescriptor):
    """What `POST /batch_predict` answers."""

    predictions: list[dict[str, float | list[float] | int | str]] = Field(description="As of `POST /predict`, per row.")
    total: int
    class_counts: dict[str, int] | None = Field(default=None, description="Of the predicted classes.")
    model_version: str
    request_id: str
    prediction_id: str
    latency_ms: float


class RowsOutput(IODescriptor):
    """What `POST /rows` answers: packed float32 scores, which no schema describes."""


class RowsInput(_Untouched):
    """What `POST /rows` of a version's own service takes: packed float32 values."""

    rows: bytes = b""


class PlainExchange:
    """A request whose answer somebody awaits."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def reply(self, status: int, header_lines: bytes, body: bytes) -> None:
        response = Response(body, status)
        lines = [line.split(b": ", 1) for line in header_lines.splitlines()]
        response.raw_headers = [(name, value) for name, value in lines]
        response.raw_headers.append((b"content-length", b"%d" % len(body)))
        self.answer.set_result(response)


class Predictions:
    """The prediction routes as an ASGI app and for BentoML's APIs; it has no routes until the worker has started."""

    def __init__(self, max_body_bytes: int, body_quota: BodyQuota) -> None:
        self.routes = Routes()
        self.body_quota = body_quota
        self._max_body_bytes = max_body_bytes

    def find(self, path: str) -> Found | None:
        return self.routes.find(path.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self.answer(request) if request.method == "POST" else await self._refuse_method(request)
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        """Answer a request for one of the routes."""
        found = self.find(request.scope["path"])
        assert found is not None, "asked for a path that is none of the routes"
        return await answer(found, request, self._max_body_bytes, self.body_quota)

    async def _refuse_method(self, request: Request) -> Response:
        """405, in the shape of the route's errors."""
        found = self.find(request.scope["path"])
        assert found is not None, "asked for a path that is none of the routes"
        message = f"{request.method} {request.url.path}: predictions are asked for by POST"
        problem = Problem("method_not_allowed", message)
        head = read_head(request.scope["headers"])
        exchange = PlainExchange(_peer_of(request))
        found.handler.begin(replace(head, problem=problem), b"", exchange)
        response = await exchange.answer
        response.headers["allow"] = "OPTIONS, POST"
        return response


async def answer(found: Found, request: Request, max_body_bytes: int, body_quota: BodyQuota) -> Response:
    """Answer one request; when the client leaves first, its work is cancelled and nobody reads what is returned."""
    head = read_head(request.scope["headers"], found.pins)
    exchange = PlainExchange(_peer_of(request))
    body, problem = b"", found.handler.judge(head, exchange.peer)
    try:
        if problem is None:
            body = await read_body(request, max_body_bytes, body_quota)
    except ClientDisconnect:
        return Response(status_code=_CLIENT_GONE)
    except Problem as error:
        problem = parted(error)
    work = found.handler.begin(head if problem is None else replace(head, problem=problem), body, exchange)
    gone = asyncio.ensure_future(_until_disconnected(request))
    await asyncio.wait((exchange.answer, gone), return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not exchange.answer.done():
        if work is not None:
            work.cancel()
        return Response(status_code=_CLIENT_GONE)
    return exchange.answer.result()


def _peer_of(request: Request) -> str:
    return request.client.host if request.client is not None else ""


async def read_body(request: Request, max_body_bytes: int, body_quota: BodyQuota) -> bytes:
    """The body. One that is too long is not kept, nor read when its length says so.

    Raises `Problem` (413, 503) and `ClientDisconnect`.
    """
    if int(request.headers.get("content-length", "0")) > max_body_bytes:
        raise body_too_large(max_body_bytes)
    body = bytearray()
    kept = 0
    try:
        async for part in request.stream():
            body += part
            if len(body) > max_body_bytes:
                raise body_too_large(max_body_bytes)
            if (problem := body_quota.reserve(len(body) - kept)) is not None:
                raise problem
            kept = len(body)
    finally:
        body_quota.release(kept)
    return bytes(body)


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
