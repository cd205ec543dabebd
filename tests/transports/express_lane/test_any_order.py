"""Whatever happens to a connection in whatever order: answers leave in order, and nothing comes after the last.

The loop is real and the transport a list of bytes, so that thousands of orders take seconds.
"""

import asyncio
import re
import socket
from typing import Any, ClassVar, cast

import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from shokado.transports.body_quota import BodyQuota
from shokado.transports.express_lane.connection import LaneConnection
from shokado.transports.express_lane.context import LaneContext, LaneLimits
from shokado.transports.routes import Routes
from tests.support.raw_http import request
from tests.transports.lane_server import HeldHandler, Work

_ANSWER = re.compile(rb"HTTP/1\.1 200 OK\r\n((?:[^\r]+\r\n)+)\r\n(\d{6})")


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    """What is behind the lane: answers with the body."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


CONFIG = uvicorn.Config(echo, interface="asgi3", lifespan="off", log_level="error")
CONFIG.load()


class MemoryTransport:
    """Keeps what is written, until it is closed."""

    def __init__(self, connection: LaneConnection) -> None:
        self.written = b""
        self.closed = False
        self._connection = connection
        self._sockets = socket.socketpair()

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.written += data

    def close(self, error: Exception | None = None) -> None:
        if not self.closed:
            self.closed = True
            for end in self._sockets:
                end.close()
            self._connection.loop.call_soon(self._connection.connection_lost, error)

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self._sockets[0], "peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)}.get(name)

    def pause_reading(self) -> None:
        """Nothing is read here but what the test hands over."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""


HANDLER = HeldHandler()


class Lane(LaneConnection):
    """Remembers heads from one test to the next, so that most requests begin as most do."""

    context: ClassVar[LaneContext] = LaneContext(
        Routes([HANDLER]), LaneLimits(2**20, 2**14, drain_s=0.0), BodyQuota(2**20)
    )


class Life:
    """One connection, and what its client has sent."""

    def __init__(self) -> None:
        self.connection = Lane(CONFIG, ServerState(), {})
        self.transport = MemoryTransport(self.connection)
        self.connection.connection_made(cast("asyncio.Transport", self.transport))
        self.sent = 0
        self.unsent = b""
        self.answered: set[int] = set()

    async def take(self, step: tuple[str, Any]) -> None:
        what, how = step
        if what == "answer":
            self.answer(how)
        elif self.transport.closed:
            return
        elif what == "send":
            self.send(*how)
        elif what == "retire":
            self.connection.retire()
        elif what == "stop":
            self.connection.shutdown()
        elif what == "end":
            if not self.connection.eof_received():
                self.transport.close()
        else:
            self.transport.close(ConnectionResetError())
        for _ in range(4):
            await asyncio.sleep(0)

    def send(self, kinds: list[str], cut: int, left: int) -> None:
        """In two pieces, but for so many bytes, which come before the next ones."""
        data = self.unsent + b"".join(map(self.next_request, kinds))
        end = max(0, len(data) - left)
        self.receive(data[: min(cut, end)])
        self.receive(data[min(cut, end) : end])
        self.unsent = data[end:]

    def next_request(self, kind: str) -> bytes:
        number, self.sent = self.sent, self.sent + 1
        if kind == "chunks":
            return request(b"6\r\n%06d\r\n0\r\n\r\n" % number, "/held", headers=[("transfer-encoding", "chunked")])
        headers = [("connection", "close")] if kind == "last" else []
        return request(b"%06d" % number, "/other" if kind == "plain" else "/held", headers=headers)

    def receive(self, data: bytes) -> None:
        if data and not self.transport.closed:
            self.connection.data_received(data)

    def answer(self, number: int) -> None:
        waiting = [work for work in HANDLER.begun if id(work) not in self.answered and not work.cancelled]
        if waiting:
            self.reply(waiting[number % len(waiting)])

    def reply(self, work: Work) -> None:
        self.answered.add(id(work))
        work.exchange.reply(200, b"content-type: text/plain\r\n", work.body)

    async def finish(self) -> None:
        """Send the rest, and answer all that is under way; what uvicorn has behind it begins meanwhile."""
        await self.take(("send", ([], 0, 0)))
        for _ in range(self.sent + 1):
            await self.take(("answer", -1))


kinds = st.lists(st.sampled_from(["lane", "lane", "plain", "chunks", "last"]), min_size=1, max_size=4)
send = st.tuples(st.just("send"), st.tuples(kinds, st.integers(0, 400), st.sampled_from([0, 0, 3, 50])))
answer = st.tuples(st.just("answer"), st.integers(0, 9))
end = st.tuples(st.sampled_from(["retire", "stop", "end", "reset"]), st.none())


@settings(max_examples=300)
@given(st.lists(st.one_of(send, send, answer, answer, end), min_size=1, max_size=12))
def test_answers_are_in_order_and_nothing_comes_after_the_last(taken: list[tuple[str, Any]]) -> None:
    async def live() -> None:
        life = Life()
        for step in taken:
            await life.take(step)
        await life.finish()
        answers = _ANSWER.findall(life.transport.written)
        assert _ANSWER.sub(b"", life.transport.written) == b"", "answers and nothing between them"
        assert [int(number) for _, number in answers] == list(range(len(answers)))
        assert not any(b"connection: close" in lines for lines, _ in answers[:-1])
        if all(what in ("send", "answer") for what, _ in taken) and not life.transport.closed:
            assert len(answers) == life.sent, "whoever stays gets all answers"
        life.transport.close()
        await asyncio.sleep(0)
        assert Lane.context.body_quota.reserved == 0

    try:
        asyncio.run(live())
    finally:
        # Other tests look for what requests leave behind.
        HANDLER.begun.clear()
