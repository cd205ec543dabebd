"""The express lane: a uvicorn protocol that answers the prediction routes before any ASGI machinery.

It is uvicorn's own `HttpToolsProtocol`, whose parser does all the HTTP. Two things are added. A request for one of
`routes` goes to its handler here instead of becoming an ASGI task; any other, and one that asks for `100-continue`, an
upgrade or HTTP/1.0, goes on to uvicorn. And a head whose exact bytes were parsed before on this worker is not parsed
again: equal bytes mean an equal request, and clients that keep a connection send the same head over and over.

Answers leave in the order of the requests, whatever the order they become ready in and whichever way they take.
"""

import asyncio
import random
import re
import struct
import termios
from collections import deque
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, replace
from fcntl import ioctl
from functools import lru_cache
from typing import Any, ClassVar

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from shokado.access.address import parsed
from shokado.dialects.head import RequestHead, read_head
from shokado.dialects.problem import Problem, body_too_large, malformed
from shokado.transports.body_quota import BodyQuota
from shokado.transports.exchange import Cancellable, Exchange, Handler, new_id, reply_problem
from shokado.transports.loop_budget import PER_ITERATION, LoopBudget
from shokado.transports.routes import Routes

MAX_REMEMBERED_HEADS = 1024
MAX_REMEMBERED_HEAD_BYTES = 2048
MAX_PIPELINED = 128
"""Unanswered requests of one connection beyond which it is not read from."""
LINGER_S = 2.0
"""How long a connection that gets a last answer is kept, so that the client can read it before it is reset."""
MIN_TAKEN_BYTES = 64 * 2**10
"""What a client must take of an answer that waits for it, in the time that a request may take to arrive."""
CLOSED_AT_ONCE = 100
"""One in so many of the idle connections is closed when there are too many: finding the longest idle takes a while."""
DRAIN_S = 1.0
"""How long an idle connection is kept at least when the server stops: a request may be on its way to it."""
CLOSED_PER_S = 40
"""Idle connections that a stopping server closes in a second, if it has the time: each may be about to be used."""
MAX_HOST_BYTES = 512
"""A name has at most 253 characters, of which each may be written as three."""
_HOST = re.compile(
    rb"(?:(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-f:.]+(?:%25[\w.~%-]+)?\]|\[v[0-9A-Fa-f]+\.[\w.~!$&'()*+,;=:-]+\])"
    rb"(?::[0-9]*)?"
).fullmatch
"""A name or an address, and a port. Source: RFC 3986, section 3.2.2, and RFC 6874 for zones."""
AGE_JITTER = 0.2
"""Part of the greatest age of connections by which theirs differ, as those that began together must not end so."""


@dataclass(frozen=True, slots=True)
class ExpressHead:
    """The head of a request that the lane answers: the route's handler, the headers, and the body's length in bytes.

    `body_bytes` is -1 for a chunked body.
    """

    handler: Handler
    head: RequestHead
    body_bytes: int
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of one connection, and of their number."""

    max_body_bytes: int
    max_header_bytes: int
    idle_s: float = 75.0
    """How long a connection may rest between requests."""
    request_s: float = 30.0
    """How long a request may take from its first byte to its last, and how long an answer may find no taker."""
    max_connections: int = 10_000
    """Of this process."""
    drain_s: float | None = DRAIN_S
    """How long an idle connection is kept at least when the server stops; none: until the client closes it."""
    spread_s: float = 0.0
    """Within which time after that the idle connections are closed, one after the other."""
    max_age_s: float | None = None
    """After which a connection's next answer is its last, give or take a fifth, if its client is on another machine."""
    left_headers: frozenset[bytes] = frozenset()
    """Names of headers, in lower case, whose requests are left to uvicorn."""


class LaneExchange(msgspec.Struct, eq=False):
    """A request whose answer goes straight to its connection."""

    connection: "ExpressLane"
    keep_alive: bool
    answer: bytes | None = None
    work: Cancellable | None = None

    @property
    def peer(self) -> str:
        return self.connection.peer

    def reply(self, status: int, header_lines: bytes, body: bytes) -> None:
        self.connection.answer(self, status, header_lines, body)


def _refuse_head(exchange: Exchange, _path: bytes, problem: Problem) -> None:
    reply_problem(exchange, problem, new_id())


class LaneFlow(FlowControl):
    """Reads on only when nothing waits to be answered or to be written; uvicorn alone would read without bound."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting and not self.write_paused:
            super().resume_reading()


class ExpressLane(HttpToolsProtocol):
    """One connection. `open_lane` gives the class its routes; until then everything goes to uvicorn."""

    routes: ClassVar[Routes] = Routes()
    limits: ClassVar[LaneLimits] = LaneLimits(16 * 2**20, 64 * 2**10)
    heads: ClassVar[dict[bytes, ExpressHead]] = {}
    budget: ClassVar[LoopBudget] = LoopBudget()
    body_quota: ClassVar[BodyQuota] = BodyQuota(64 * 2**20)
    refuse_head: "ClassVar[staticmethod[[Exchange, bytes, Problem], None]]" = staticmethod(_refuse_head)
    """Answers a request whose head is refused, or what is none; told its path, empty where it was not read."""
    stopping: ClassVar[bool] = False
    """Whether the next answer of every connection is its last."""
    leaving: ClassVar[list["ExpressLane"]] = []
    """Idle connections of a stopping server that have not been given their time to be closed yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timeout_keep_alive = self.limits.idle_s  # type: ignore[assignment]  # seconds; uvicorn only counts them
        self._exchanges: deque[LaneExchange] = deque()
        """In the order of the requests; the first one's answer is the next to be written."""
        self._held: Callable[[], None] | None = None
        """Starts a request of uvicorn's that came after unanswered exchanges."""
        self._running: RequestResponseCycle | None = None
        """The request of uvicorn's that is being answered; `cycle` is the last one, which may wait behind it."""
        self._in_message = False
        self._idle_bytes = 0
        self._progressed = False
        self._express: ExpressHead | None = None
        self._body: bytes | bytearray = b""
        self._kept_bytes = 0
        """How much of the body is counted in `body_quota`."""
        self._judged = False
        """Whether the head of the request that is arriving was found to be admitted."""
        self._learning: bytes | None = None
        self._draining = self.stopping
        """Whether the next answer is the last."""
        self._closing = False
        """Whether the connection is closed as soon as nothing is under way."""
        self._last = False
        """No further request of this connection is answered; what arrives is read and dropped."""
        self._last_active = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._arrival_timer: asyncio.TimerHandle | None = None
        """Runs while a request has begun to arrive and is not here yet."""
        self._taking_timer: asyncio.TimerHandle | None = None
        """Runs while more is to be written than the client takes."""
        self._untaken_bytes = 0
        self._age_timer: asyncio.TimerHandle | None = None

    # What arrives -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = LaneFlow(transport, self.pipeline)
        self._last_active = self.loop.time()
        self._idle_timer = self.loop.call_later(self.limits.idle_s, self._close_if_idle)
        address = parsed(self.peer) if self.limits.max_age_s is not None else None
        if self.limits.max_age_s is not None and address is not None and not address.is_loopback:
            age_s = self.limits.max_age_s * random.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)  # noqa: S311  # no secret
            self._age_timer = self.loop.call_later(age_s, self.retire)
        if len(self.connections) > self.limits.max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        if self._in_message:
            self._last_active = self.loop.time()
        else:
            data = self._take_remembered(data)
            if not data or self._last:
                return
            self._learning = _learnable_head(data)
        self._feed(data)

    def _take_remembered(self, data: bytes) -> bytes:
        """Begin whole requests with remembered heads; returns what is left of `data`."""
        heads = self.heads
        start = 0
        while (end := data.find(b"\r\n\r\n", start) + 4) > 3:
            express = heads.get(data[start:end])
            if express is None or self._last or (self.cycle is not None and self._unfinished_asgi):
                break
            stop = end + express.body_bytes
            if stop > len(data):
                break
            self._unset_keepalive_if_required()
            self._begin(express, data[end:stop])
            start = stop
        return data[start:] if start else data

    def _feed(self, data: bytes) -> None:
        """Give data to the parser, which calls the `on_` methods below."""
        self._progressed = False
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self._offers_upgrade():
                self._decline_upgrade(data[upgrade.args[0] :])
            elif self._should_upgrade():
                self.handle_websocket_upgrade()
        except HttpParserError as error:
            self.send_400_response(str(error))
        self._learning = None
        if self._in_message and not self._last:
            if self._arrival_timer is None:
                self._arrival_timer = self.loop.call_later(self.limits.request_s, self._refuse_late)
            # A head, chunk extensions or a trailer that does not end.
            self._idle_bytes = 0 if self._progressed else self._idle_bytes + len(data)
            if self._idle_bytes > self.limits.max_header_bytes:
                self._refuse(_headers_too_large(self.limits.max_header_bytes))
            elif self._express is not None:
                self._keep_arriving(self._express)

    def _keep_arriving(self, express: ExpressHead) -> None:
        """Keep what is here of a body, if its head is admitted and there is room for it."""
        problem = None
        if not self._judged:
            self._judged = True
            problem = self._judge(express)
        more = len(self._body) - self._kept_bytes
        if problem is None and (problem := self.body_quota.reserve(more)) is None:
            self._kept_bytes += more
        if problem is not None:
            self._refuse(problem)

    def _judge(self, express: ExpressHead) -> Problem | None:
        """What its head alone says against a request."""
        problem = express.handler.judge(express.head, self.peer)
        if problem is None and express.body_bytes > self.limits.max_body_bytes:
            problem = body_too_large(self.limits.max_body_bytes)
        return problem

    def _offers_upgrade(self) -> bool:
        """Whether the client would rather go on in a protocol that is not spoken here, such as `h2c`."""
        parser = self.parser
        return parser.should_upgrade() and parser.get_method() != b"CONNECT" and not self._should_upgrade()

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1: the parser stopped after the head, as if `rest`, the body, were in the other protocol."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join((*lines, b"", rest)))

    # What the parser reports --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_message = self._progressed = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._progressed = True
        if self._last or self._offers_upgrade():
            return
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self.limits.max_header_bytes:
            self._refuse(_headers_too_large(self.limits.max_header_bytes))
            return
        if (problem := _framing_problem(self.headers, self.parser.get_http_version())) is not None:
            self._refuse(problem)
            return
        express = self._express_head()
        if express is None:
            super().on_headers_complete()
            if self._draining and self.cycle is not None:
                self.cycle.keep_alive = False
            return
        if self._learning is not None and express.body_bytes >= 0:
            if len(self.heads) >= MAX_REMEMBERED_HEADS:
                self.heads.clear()
            self.heads[self._learning] = express
        self._express = express
        self._body = b""
        self._judged = False
        if express.body_bytes > self.limits.max_body_bytes and (problem := self._judge(express)) is not None:
            self._refuse(problem)

    def on_body(self, body: bytes) -> None:
        self._progressed = True
        if self._last:
            return
        if self._express is None:
            super().on_body(body)
            return
        if self._body:
            # Not a list of parts: a chunk may be a single byte.
            self._body = self._body if isinstance(self._body, bytearray) else bytearray(self._body)
            self._body += body
        else:
            self._body = body
        if len(self._body) > self.limits.max_body_bytes:
            self._refuse(body_too_large(self.limits.max_body_bytes))

    def on_message_complete(self) -> None:
        self._in_message = False
        self._learning = None
        self._stop_arrival_timer()
        express, self._express = self._express, None
        if self._last or self._offers_upgrade():
            return
        if express is None:
            super().on_message_complete()
            return
        body = bytes(self._body)
        self._drop_body()
        self._begin(express, body)

    def _drop_body(self) -> None:
        self._body = b""
        if self._kept_bytes:
            self.body_quota.release(self._kept_bytes)
            self._kept_bytes = 0

    def _express_head(self) -> ExpressHead | None:
        """The head just parsed, if the lane answers it."""
        parser = self.parser
        if (
            self._unfinished_asgi
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or self.expect_100_continue
            or parser.should_upgrade()
            or b"%" in self.url
            or b"?" in self.url
            or (found := self.routes.find(self.url)) is None
        ):
            return None
        if self.limits.left_headers and any(name in self.limits.left_headers for name, _ in self.headers):
            return None
        lengths = [int(value) for name, value in self.headers if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        body_bytes = -1 if chunked else lengths[0] if lengths else 0
        head = read_head(self.headers, found.pins)
        return ExpressHead(found.handler, head, body_bytes, parser.should_keep_alive())

    # Exchanges and their answers -----------------------------------------------------------------------------------

    @property
    def _unfinished_asgi(self) -> bool:
        """Whether uvicorn has a request of this connection; those after it must then go the same way, in order."""
        cycle = self.cycle
        return cycle is not None and not (cycle.response_complete or cycle.disconnected)

    def _begin(self, express: ExpressHead, body: bytes) -> None:
        exchange = LaneExchange(self, express.keep_alive and not self._draining)
        exchanges = self._exchanges
        exchanges.append(exchange)
        self._last = not exchange.keep_alive
        if len(exchanges) > MAX_PIPELINED:
            self.flow.pause_reading()
        budget = self.budget
        left = budget.left
        if not left:
            budget.defer(self._start, express, body, exchange)
            return
        if left == PER_ITERATION:
            budget.renew_soon(self.loop.call_soon)
        budget.left = left - 1
        self._start(express, body, exchange)

    def _start(self, express: ExpressHead, body: bytes, exchange: LaneExchange) -> None:
        if self.transport.is_closing():
            return
        work = express.handler.begin(express.head, body, exchange)
        if exchange.answer is None:
            exchange.work = work

    def answer(self, exchange: LaneExchange, status: int, header_lines: bytes, body: bytes) -> None:
        """Write an exchange's answer as soon as all before it are written."""
        closing = b"" if exchange.keep_alive else b"connection: close\r\n"
        exchange.answer = b"%b%b%b%bcontent-length: %d\r\n\r\n%b" % (
            STATUS_LINE[status],
            _default_lines.of(self.server_state.default_headers),
            header_lines,
            closing,
            len(body),
            body,
        )
        exchange.work = None
        exchanges = self._exchanges
        if exchanges[0] is exchange:
            while exchanges and (ready := exchanges[0].answer) is not None:
                self.transport.write(ready)
                self.server_state.total_requests += 1
                if not exchanges.popleft().keep_alive:
                    self._close_after_last_answer()
            if not exchanges:
                self._all_answered()

    def _all_answered(self) -> None:
        self._last_active = self.loop.time()
        if self.transport.is_closing():
            return
        if self.cycle is None or not self._unfinished_asgi:
            self.flow.resume_reading()
        if self._held is not None:
            start, self._held = self._held, None
            start()
        elif self._closing and not self._last:
            self._close_later()

    def _refuse(self, problem: Problem) -> None:
        """Answer with a problem after all earlier answers, and read no further request from this connection.

        Behind requests of uvicorn's there is no answer but theirs, the last of which closes the connection.
        """
        if self._unfinished_asgi and not self._take_back():
            self._close_when_answered()
            return
        self._last = True
        self._drop_body()
        exchange = LaneExchange(self, keep_alive=False)
        self._exchanges.append(exchange)
        if self._express is not None:
            self._express.handler.begin(replace(self._express.head, problem=problem), b"", exchange)
        else:
            path = self.url.partition(b"?")[0] if self._in_message else b""
            self.refuse_head(exchange, path, problem)

    def _take_back(self) -> bool:
        """Let go of uvicorn's request when it is the only one and its own body cannot be read, so as to refuse it."""
        cycle = self.cycle
        if not cycle.more_body or cycle.response_started or self.pipeline:
            return False
        self._held = None
        _disconnect(cycle)
        return True

    def _close_when_answered(self) -> None:
        """Read no further request, and close after the answers to those that are here."""
        self._last = True
        if not self._unfinished_asgi:
            self._exchanges[-1].keep_alive = False
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    # The connection's life ----------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        if not self._last:
            in_body = self._express is not None or self._unfinished_asgi
            message = f"this is no HTTP request: {msg}"
            self._refuse(malformed(message) if in_body else Problem(400, "bad_header", message))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if self._exchanges:
            self._held = lambda: super(ExpressLane, self)._start_asgi_task(cycle, app)
        else:
            super()._start_asgi_task(cycle, app)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more, but may still read: true keeps the connection until it has its answers."""
        if not self._exchanges and not self._unfinished_asgi:
            return False
        if not self._last:
            self._close_when_answered()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()
        self._wait_for_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking_timer is not None:
            self._taking_timer.cancel()
            self._taking_timer = None
        if not self._exchanges:
            self.flow.resume_reading()

    def retire(self) -> None:
        """Say in the next answer that begins that it is the last; a connection that is not used stays as it is."""
        self._draining = True

    def shutdown(self) -> None:
        """The server stops: answer what is under way, then close."""
        if self.limits.drain_s is None:
            return
        self._draining = self._closing = True
        if self._unfinished_asgi:
            super().shutdown()
        elif self._exchanges:
            self._close_when_answered()
        else:
            self.leaving.append(self)
            if len(self.leaving) == 1:
                # uvicorn tells all connections in one turn.
                self.loop.call_soon(self._close_in_turn)

    def _close_in_turn(self) -> None:
        """Give each of the connections that are leaving its time, the one that was idle for longest first.

        It is the least likely to be used just then. The others may still ask, and be told that their answer is the
        last.
        """
        leaving = sorted(self.leaving, key=lambda connection: connection._last_active)
        self.leaving.clear()
        spread_s = min(self.limits.spread_s, len(leaving) / CLOSED_PER_S)
        for number, connection in enumerate(leaving):
            delay_s = (self.limits.drain_s or 0) + spread_s * number / len(leaving)
            self.loop.call_later(delay_s, connection._close_if_unused)

    def on_response_complete(self) -> None:
        self._last_active = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_body()
        for timer in (self._idle_timer, self._arrival_timer, self._taking_timer, self._age_timer):
            if timer is not None:
                timer.cancel()
        for exchange in self._exchanges:
            # Parted, as after an answer: the work knows its exchange, too.
            work, exchange.work = exchange.work, None
            if work is not None:
                work.cancel()
        self._exchanges.clear()
        self._held = None
        if self._running is not None and not self._running.response_complete:
            _disconnect(self._running)
        # uvicorn leaves it to go off after a reset, and would remember the connection until then.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _close_after_last_answer(self) -> None:
        self._last = True
        if self._in_message:
            # The client still sends. Closing now could reset the connection before it has read the answer.
            self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def _close_later(self) -> None:
        """While the server drains: close unless a request is on its way."""
        self.loop.call_later(self.limits.drain_s or 0, self._close_if_unused)

    def _close_if_unused(self) -> None:
        if self._in_message or self._has_unread:
            # A request is arriving; the supervisor's own patience bounds how long.
            self._close_later()
        elif not self._exchanges and not self._unfinished_asgi:
            self.transport.close()

    @property
    def _has_unread(self) -> bool:
        """Whether the kernel has bytes of the client's that the loop has not come to yet."""
        if self.transport.is_closing():
            return False
        found = ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
        return bool(struct.unpack("i", found)[0])

    def _close_if_idle(self) -> None:
        """One timer a connection, wound up again when it fires, instead of one a request."""
        idle_s = self.loop.time() - self._last_active
        if self._exchanges or self._unfinished_asgi:
            idle_s = 0.0
        if idle_s >= self.limits.idle_s:
            self._end()
        else:
            self._idle_timer = self.loop.call_later(self.limits.idle_s - idle_s, self._close_if_idle)

    def _end(self) -> None:
        """Close, without waiting for a client that does not take what was written long ago."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # Slow clients, and too many of them ---------------------------------------------------------------------------

    def _refuse_late(self) -> None:
        """408: the request has not wholly arrived in time."""
        self._arrival_timer = None
        if self.flow.read_paused:
            # It is held up here, not by the client.
            self._arrival_timer = self.loop.call_later(self.limits.request_s, self._refuse_late)
        elif not self._last:
            self._refuse(_too_slow(self.limits.request_s))

    def _stop_arrival_timer(self) -> None:
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _wait_for_taking(self) -> None:
        self._untaken_bytes = self.transport.get_write_buffer_size()
        self._taking_timer = self.loop.call_later(self.limits.request_s, self._reset_if_not_taken)

    def _reset_if_not_taken(self) -> None:
        """Let go of a client that reads its answers too slowly, if at all: they are memory."""
        if self._untaken_bytes - self.transport.get_write_buffer_size() < MIN_TAKEN_BYTES:
            self.transport.abort()
        else:
            self._wait_for_taking()

    @property
    def peer(self) -> str:
        """Address at the other end; empty where it has none."""
        return self.client[0] if self.client is not None else ""

    @property
    def _idle(self) -> bool:
        return not (self._in_message or self._exchanges or self._unfinished_asgi or self._last)

    def _make_room(self) -> None:
        """Close the connections that have been idle for longest; where none is idle, refuse this new one."""
        idle = [other for other in self.connections if isinstance(other, ExpressLane) and other._idle]
        idle.remove(self)
        idle.sort(key=lambda other: other._last_active)
        for other in idle[: 1 + len(idle) // CLOSED_AT_ONCE]:
            other._last = True
            other._end()
        if not idle:
            self._refuse(_too_many_connections(self.limits.max_connections))


def open_lane(
    routes: Routes,
    limits: LaneLimits,
    body_quota: BodyQuota,
    refuse_head: Callable[[Exchange, bytes, Problem], None] = _refuse_head,
) -> None:
    """From now on, the connections of this process answer these routes."""
    ExpressLane.routes = routes
    ExpressLane.limits = limits
    ExpressLane.heads = {}
    ExpressLane.budget = LoopBudget()
    ExpressLane.body_quota = body_quota
    ExpressLane.refuse_head = staticmethod(refuse_head)
    ExpressLane.stopping = False
    ExpressLane.leaving = []


def retire(connections: Iterable[object]) -> None:
    """From now on, say in every answer that it is its connection's last: those there are, and those to come."""
    if ExpressLane.limits.drain_s is None:
        return
    ExpressLane.stopping = True
    for connection in connections:
        if isinstance(connection, ExpressLane):
            connection.retire()


def register() -> None:
    """Make the lane the protocol of every uvicorn server that this process starts; call before it is configured."""
    import uvicorn.config

    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{ExpressLane.__name__}"


class _DefaultLines:
    """uvicorn's default headers as lines; it makes a new list of them each second, for the date."""

    def __init__(self) -> None:
        self._headers: object = None
        self._lines = b""

    def of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if self._headers is not headers:
            self._headers, self._lines = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._lines


_default_lines = _DefaultLines()


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Tell an app that the client of its request is gone."""
    cycle.disconnected = True
    cycle.message_event.set()


def _framing_problem(headers: list[tuple[bytes, bytes]], version: str) -> Problem | None:
    """What a proxy and this server could read in different ways. Source: RFC 9112, sections 3.2 and 6.1."""
    hosts = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _is_host(value):
                host = value[:100].decode("latin-1")
                return Problem(400, "bad_header", f"{host!r} is no host, with or without a port")
        elif name == b"transfer-encoding":
            codings += 1
            if value.strip().lower() != b"chunked" or codings > 1 or version != "1.1":
                return Problem(400, "bad_header", "transfer-encoding is understood in HTTP/1.1, as chunked and once")
    if hosts > 1 or (not hosts and version != "1.0"):
        return Problem(400, "bad_header", f"a request has one host header, and this one has {hosts}")
    return None


@lru_cache(maxsize=16)  # Clients of one server say the same few over and over.
def _is_host(value: bytes) -> bool:
    return len(value) <= MAX_HOST_BYTES and _HOST(value.strip()) is not None


def _headers_too_large(limit: int) -> Problem:
    return Problem(431, "headers_too_large", f"the headers are longer than {limit} bytes", {"limit": limit})


def _too_slow(limit_s: float) -> Problem:
    return Problem(408, "request_timeout", f"the request did not arrive within {limit_s:g} s", {"limit_s": limit_s})


def _too_many_connections(limit: int) -> Problem:
    message = f"{limit} connections are busy; try again later"
    return Problem(503, "too_many_connections", message, {"limit": limit}, retry_after_s=1)


def _learnable_head(data: bytes) -> bytes | None:
    """The bytes of a head that `data` begins with, if they can be taken for the same head wherever they recur."""
    end = data.find(b"\r\n\r\n") + 4
    if not 3 < end <= MAX_REMEMBERED_HEAD_BYTES or not data.startswith(b"POST "):
        return None
    head = data[:end]
    return head if head.count(b"\n") == head.count(b"\r\n") else None
