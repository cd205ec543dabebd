"""Pipelining: a connection's requests begin as they come, and their answers leave in the order of the requests."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from shokado.transports.exchange import Cancellable
from shokado.transports.express_lane.heads import ExpressHead
from shokado.transports.loop_budget import PER_ITERATION, LoopBudget

MAX_PIPELINED = 128
"""Unanswered requests of one connection beyond which it is not read from: as many as begin in one iteration."""


class PipelinedConnection(Protocol):
    """What a queue of exchanges asks of its connection, and tells it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    server_state: ServerState

    @property
    def peer(self) -> str:
        """Address at the other end."""
        ...

    def end_after_answer(self) -> None:
        """The last answer was written."""
        ...

    def all_answered(self) -> None:
        """All requests are answered."""
        ...


class LaneExchange(msgspec.Struct, eq=False):
    """A request whose answer goes straight to its connection."""

    queue: "ExchangeQueue"
    keep_alive: bool
    answer: bytes | None = None
    """Head and body, from when it is known until it can be written."""
    work: Cancellable | None = None

    @property
    def peer(self) -> str:
        return self.queue.peer

    def reply(self, status: int, header_lines: bytes, body: bytes) -> None:
        queue = self.queue
        default_headers = queue.server_state.default_headers
        if default_headers is not _default.headers:
            _default.take(default_headers)
        self.answer = b"%b%b%b%bcontent-length: %d\r\n\r\n%b" % (
            STATUS_LINE[status],
            _default.lines,
            header_lines,
            b"" if self.keep_alive else b"connection: close\r\n",
            len(body),
            body,
        )
        self.work = None
        if queue.waiting[0] is self:
            queue.write_answers()


class ExchangeQueue:
    """The unanswered exchanges of one connection, in the order of their requests."""

    __slots__ = ("_budget", "_connection", "_flow", "_loop", "_transport", "held", "peer", "server_state", "waiting")

    def __init__(self, connection: PipelinedConnection, budget: LoopBudget) -> None:
        """`budget` says how many requests may begin in an iteration of the loop, over all connections."""
        self.waiting: deque[LaneExchange] = deque()
        """The first one's answer is the next to be written."""
        self.held: Callable[[], None] | None = None
        """Starts a request of uvicorn's that came after exchanges that wait."""
        self.peer = connection.peer
        self.server_state = connection.server_state
        self._connection = connection
        self._transport = connection.transport
        self._flow = connection.flow
        self._loop = connection.loop
        self._budget = budget

    def add(self, *, keep_alive: bool) -> LaneExchange:
        """The exchange of a request that is the next in order."""
        exchange = LaneExchange(self, keep_alive)
        self.waiting.append(exchange)
        return exchange

    def begin(self, express: ExpressHead, body: bytes, keep_alive: bool) -> None:  # per request
        """Begin to answer a request, now or when the loop's budget allows."""
        # As `add`, without the call.
        exchange = LaneExchange(self, keep_alive)
        waiting = self.waiting
        waiting.append(exchange)
        if len(waiting) > MAX_PIPELINED:
            self._flow.pause_reading()
        budget = self._budget
        left = budget.left
        if not left:
            budget.defer(self.start, express, body, exchange)
            return
        if left == PER_ITERATION:
            budget.renew_soon(self._loop.call_soon)
        budget.left = left - 1
        self.start(express, body, exchange)

    def start(self, express: ExpressHead, body: bytes, exchange: LaneExchange) -> None:
        """Begin to answer a request that has its place in the order, unless its client is gone."""
        if self._transport.is_closing():
            return
        work = express.handler.begin(express.head, body, exchange)
        if exchange.answer is None:
            exchange.work = work

    def write_answers(self) -> None:
        """Write the answers before which none is missing."""
        waiting = self.waiting
        while waiting and (answer := waiting[0].answer) is not None:
            self._transport.write(answer)
            self.server_state.total_requests += 1
            if not waiting.popleft().keep_alive:
                self._connection.end_after_answer()
        if not waiting:
            self._connection.all_answered()

    def end_with_newest(self) -> None:
        """Have the newest exchange, which is not answered yet, be the connection's last."""
        self.waiting[-1].keep_alive = False

    def cancel(self) -> None:
        """Cancel what is under way, as the client is gone; nothing may be begun or answered after it."""
        for exchange in self.waiting:
            # Parted, as after an answer: the work knows its exchange, too.
            work, exchange.work = exchange.work, None
            if work is not None:
                work.cancel()
        self.waiting.clear()
        self.held = None
        # And these two know each other.
        del self._connection


class _DefaultLines:
    """uvicorn's default headers as lines; it makes a new list of them each second, for the date."""

    def __init__(self) -> None:
        self.headers: object = None
        self.lines = b""

    def take(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers, self.lines = headers, b"".join(b"%b: %b\r\n" % header for header in headers)


_default = _DefaultLines()
