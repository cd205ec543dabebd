"""The lane alone: a real uvicorn with a handler that answers when the test says so, in place of models."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import uvicorn

from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem
from shokado.transports.body_quota import BodyQuota
from shokado.transports.exchange import Exchange, reply_problem
from shokado.transports.express_lane.connection import LaneConnection
from shokado.transports.express_lane.context import LaneContext, LaneLimits
from shokado.transports.routes import Routes
from tests.support.raw_http import request
from tests.support.waiting import wait_until

BIG = 24_000_000
"""Bytes: more than the kernel keeps for a connection."""


def held(number: int = 0, **how: object) -> bytes:
    """A request for the held handler's route, which is told by its number."""
    return request(b"%06d" % number, HeldHandler.path, **how)  # type: ignore[arg-type]


class Work:
    """A request that waits for the test to answer it."""

    def __init__(self, body: bytes, exchange: Exchange) -> None:
        self.body = body
        self.exchange = exchange
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HeldHandler:
    """Keeps what it gets; `echo` answers at once with the body."""

    path = "/held"

    def __init__(self) -> None:
        self.begun: list[Work] = []
        self.echo = False
        self.judged = 0
        self.verdict: Problem | None = None
        """What every head is refused for."""
        self.hold_refusals = False
        """Whether refused requests wait for the test as well."""

    def judge(self, head: RequestHead, _peer: str) -> Problem | None:
        self.judged += 1
        return self.verdict or head.problem

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> Work | None:
        work = Work(body, exchange)
        self.begun.append(work)
        if head.problem is not None and not self.hold_refusals:
            reply_problem(exchange, head.problem, "held")
            return None
        if self.echo:
            exchange.reply(200, b"content-type: text/plain\r\n", body)
            return None
        return work


class LaneServer:
    """A running lane on a loopback port."""

    def __init__(self, limits: LaneLimits, host: str, body_quota: BodyQuota) -> None:
        self.handler = handler = HeldHandler()

        class Lane(LaneConnection):
            context: ClassVar[LaneContext] = LaneContext(Routes([handler]), limits, body_quota)

        self.body_quota = body_quota
        self.heads = Lane.context.heads
        self.host = "127.0.0.1"
        """Where it is connected to."""
        config = uvicorn.Config(_app, http=Lane, lifespan="off", log_level="error", timeout_keep_alive=1)
        self._server = uvicorn.Server(config)
        self._socket = socket.create_server((host, 0))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self._socket.getsockname()[1]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self._server.started)

    def retire(self) -> None:
        """Have all connections end with their next answer."""

        def tell() -> None:
            for connection in self._server.server_state.connections:
                if isinstance(connection, LaneConnection):
                    connection.retire()
            told.set()

        told = threading.Event()
        self._loop.call_soon_threadsafe(tell)
        assert told.wait(10)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """That of any connection there is."""
        connection: Any = next(iter(self._server.server_state.connections))
        loop: asyncio.AbstractEventLoop = connection.loop
        return loop

    def begin_to_stop(self) -> None:
        self._server.should_exit = True

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._server.server_state.connections)

    @property
    def stopped(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        self._server.force_exit = True
        self.begin_to_stop()
        self._thread.join(20)
        assert self.stopped

    def answer(self, number: int) -> None:
        """Answer the number-th request that was begun, with its own body, on the server's loop."""
        work = self.handler.begun[number]
        self._loop.call_soon_threadsafe(lambda: work.exchange.reply(200, b"content-type: text/plain\r\n", work.body))

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.handler.begun) >= count)


@contextlib.contextmanager
def lane_server(host: str = "127.0.0.1", max_receiving_bytes: int = 2**22, **limits: Any) -> Iterator[LaneServer]:
    bounds = LaneLimits(**({"max_body_bytes": 2**20, "max_header_bytes": 2**14} | limits))
    server = LaneServer(bounds, host, BodyQuota(max_receiving_bytes))
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Everything off the lane: reads the body and says how long it was; `/big` is answered at length."""
    length = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message["body"])
        more = message["more_body"]
    body = b"0" * BIG if scope["path"] == "/big" else b"%d" % length
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
