"""Prediction routes behind ASGI, for everything that does not take the express lane.

`Predictions` answers any of them, as the lane does; those that BentoML's own clients call are BentoML APIs as well (see
`bentoml_io`).
"""

import asyncio
from dataclasses import replace

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shokado.dialects.head import read_head
from shokado.dialects.problem import Problem, body_too_large, parted
from shokado.transports.body_quota import BodyQuota
from shokado.transports.routes import Found, Routes

_CLIENT_GONE = 499
"""nginx's status for a client that left before its answer: nobody reads it."""


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
