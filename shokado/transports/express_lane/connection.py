"""A connection of the express lane: a uvicorn protocol that answers the prediction routes before any ASGI machinery.

It is uvicorn's own `HttpToolsProtocol`, whose parser does all the HTTP. Two things are added. A request for one of the
lane's routes goes to its handler here instead of becoming an ASGI task; any other, and one that asks for
`100-continue`, an upgrade or HTTP/1.0, goes on to uvicorn. And a head that is in the cache of heads is not parsed.

Answers leave in the order of the requests, whatever the order they become ready in and whichever way they take.
"""

import asyncio
from dataclasses import replace
from typing import Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from shokado.dialects.problem import Problem, body_too_large, malformed
from shokado.transports.body_quota import BodyQuota
from shokado.transports.express_lane.arrival import Arrival, judge
from shokado.transports.express_lane.connection_state import ConnectionState
from shokado.transports.express_lane.context import LaneContext, LaneLimits
from shokado.transports.express_lane.draining import has_unread
from shokado.transports.express_lane.exchanges import ExchangeQueue
from shokado.transports.express_lane.flow import LaneFlow
from shokado.transports.express_lane.framing import framing_problem, headers_too_large
from shokado.transports.express_lane.heads import ExpressHead, cacheable_head, express_head
from shokado.transports.express_lane.timeouts import Timeouts
from shokado.transports.routes import Routes

LINGER_S = 2.0
"""How long a connection that gets a last answer is kept, so that the client can read it before it is reset."""
CLOSED_AT_ONCE = 100
"""One in so many of the idle connections is closed when there are too many: finding the longest idle takes a while."""

# Bound here, as an enum's members are found through its metaclass, which would cost every request.
OPEN, ENDING = ConnectionState.OPEN, ConnectionState.ENDING


class LaneConnection(HttpToolsProtocol):
    """One connection. `open_lane` gives the class its routes; until then everything goes to uvicorn."""

    context: ClassVar[LaneContext] = LaneContext(Routes(), LaneLimits(16 * 2**20, 64 * 2**10), BodyQuota(64 * 2**20))

    exchanges: ExchangeQueue
    timeouts: Timeouts

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In seconds, of which uvicorn's type allows whole ones only.
        self.timeout_keep_alive = self.context.limits.idle_s  # type: ignore[assignment]
        self._state = ConnectionState.RETIRING if self.context.retiring else OPEN
        self._arrival: Arrival | None = None
        """The request that the parser has begun and not ended."""
        self._cacheable: bytes | None = None
        """The head that the data being parsed begins with, if it can be cached."""
        self._running: RequestResponseCycle | None = None
        """The request of uvicorn's that is being answered; `cycle` is the last one, which may wait behind it."""

    def _become(self, state: ConnectionState) -> None:
        """Take a step; a connection that is further on its way already stays where it is."""
        if self._state.may_become(state):
            self._state = state

    # What arrives -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = LaneFlow(transport, self.pipeline)
        self.exchanges = ExchangeQueue(self, self.context.budget)
        self.timeouts = Timeouts(self, self.context.limits)
        if len(self.connections) > self.context.limits.max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if self._state is ENDING:
            return
        if self._arrival is not None:
            self.timeouts.last_active = self.loop.time()
            self._arrival.stalled_bytes += len(data)
        else:
            # Whole requests whose heads are in the cache begin here: what most requests do, in as few calls as can be.
            cached = self.context.heads.get
            start, size = 0, len(data)
            while (end := data.find(b"\r\n\r\n", start) + 4) > 3:
                express = cached(data[start:end])
                if express is None or (self.cycle is not None and self._unfinished_asgi):
                    break
                stop = end + express.body_bytes
                if stop > size:
                    break
                if self.timeout_keep_alive_task is not None:
                    self._unset_keepalive_if_required()
                self._begin(express, data[end:stop])
                if stop == size or self._state is ENDING:
                    return
                start = stop
            data = data[start:]
            self._cacheable = cacheable_head(data)
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Give data to the parser, which calls the `on_` methods below."""
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
        self._cacheable = None
        if self._arrival is not None and self._state is not ENDING:
            self.timeouts.expect_rest()
            self._keep(self._arrival)

    def _keep(self, arrival: Arrival) -> None:
        """Keep a request of which more is to come, within its bounds."""
        limits = self.context.limits
        problem = None
        if arrival.stalled_bytes > limits.max_header_bytes:
            # A head, chunk extensions or a trailer that does not end.
            problem = headers_too_large(limits.max_header_bytes)
        elif arrival.express is not None:
            problem = arrival.keep(arrival.express, self.peer, limits.max_body_bytes)
        if problem is not None:
            self.refuse(problem)

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
        self._parse(b"\r\n".join((*lines, b"", rest)))

    # What the parser reports --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._arrival = Arrival(self.context.body_quota)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        arrival = self._arrival
        assert arrival is not None, "a message has begun"
        arrival.stalled_bytes = 0
        if self._state is ENDING or self._offers_upgrade():
            return
        limits = self.context.limits
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > limits.max_header_bytes:
            self.refuse(headers_too_large(limits.max_header_bytes))
            return
        if (problem := framing_problem(self.headers, self.parser.get_http_version())) is not None:
            self.refuse(problem)
            return
        express = None
        if not (self._unfinished_asgi or self.expect_100_continue):
            express = express_head(self.parser, self.url, self.headers, self.context.routes, limits.left_headers)
        if express is None:
            super().on_headers_complete()
            if self._state is not OPEN and self.cycle is not None:
                self.cycle.keep_alive = False
            return
        if self._cacheable is not None and express.body_bytes >= 0:
            self.context.heads.keep(self._cacheable, express)
        arrival.express = express
        if express.body_bytes > limits.max_body_bytes:
            problem = judge(express, self.peer, limits.max_body_bytes)
            if problem is not None:
                self.refuse(problem)

    def on_body(self, body: bytes) -> None:
        arrival = self._arrival
        assert arrival is not None, "a message has begun"
        arrival.stalled_bytes = 0
        if self._state is ENDING:
            return
        if arrival.express is None:
            super().on_body(body)
            return
        arrival.add(body)
        if len(arrival.body) > self.context.limits.max_body_bytes:
            self.refuse(body_too_large(self.context.limits.max_body_bytes))

    def on_message_complete(self) -> None:
        arrival, self._arrival = self._arrival, None
        assert arrival is not None, "a message has begun"
        self._cacheable = None
        self.timeouts.arrived()
        body = bytes(arrival.body)
        arrival.drop_body()
        if self._state is ENDING or self._offers_upgrade():
            return
        if arrival.express is None:
            super().on_message_complete()
        else:
            self._begin(arrival.express, body)

    # Requests and their answers ------------------------------------------------------------------------------------

    @property
    def _unfinished_asgi(self) -> bool:
        """Whether uvicorn has a request of this connection; those after it must then go the same way, in order."""
        cycle = self.cycle
        return cycle is not None and not (cycle.response_complete or cycle.disconnected)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return bool(self.exchanges.waiting) or self._unfinished_asgi

    def _begin(self, express: ExpressHead, body: bytes) -> None:
        keep_alive = express.keep_alive and self._state is OPEN
        if not keep_alive:
            self._become(ENDING)
        self.exchanges.begin(express, body, keep_alive)

    def all_answered(self) -> None:
        """Go on, after the answer before which none is missing: the exchanges are told by their queue."""
        self.timeouts.last_active = self.loop.time()
        flow, exchanges = self.flow, self.exchanges
        if not flow.read_paused and exchanges.held is None and self._state is OPEN:
            return
        if self.transport.is_closing():
            return
        if not self._unfinished_asgi:
            flow.resume_reading()
        if exchanges.held is not None:
            start, exchanges.held = exchanges.held, None
            start()
        elif self._state is ConnectionState.DRAINING:
            self._close_later()

    def refuse(self, problem: Problem) -> None:
        """Answer with a problem after all earlier answers, and read no further request from this connection.

        Behind requests of uvicorn's there is no answer but theirs, the last of which closes the connection.
        """
        if self._state is ENDING:
            return
        if self._unfinished_asgi and not self._take_back():
            self._end_when_answered()
            return
        self._become(ENDING)
        arrival = self._arrival
        exchange = self.exchanges.add(keep_alive=False)
        if arrival is None:
            self.context.refuse_head(exchange, b"", problem)
            return
        arrival.drop_body()
        if arrival.express is None:
            self.context.refuse_head(exchange, self.url.partition(b"?")[0], problem)
        else:
            express = arrival.express
            self.exchanges.start(replace(express, head=replace(express.head, problem=problem)), b"", exchange)

    def _take_back(self) -> bool:
        """Let go of uvicorn's request when it is the only one and its own body cannot be read, so as to refuse it."""
        cycle = self.cycle
        if not cycle.more_body or cycle.response_started or self.pipeline:
            return False
        self.exchanges.held = None
        _disconnect(cycle)
        return True

    def _end_when_answered(self) -> None:
        """Read no further request, and close after the answers to those that are here."""
        self._become(ENDING)
        if not self._unfinished_asgi:
            self.exchanges.end_with_newest()
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def end_after_answer(self) -> None:
        """Close, as the last answer is written."""
        if self._arrival is not None:
            # The client still sends. Closing now could reset the connection before it has read the answer.
            self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    # What uvicorn and the transport tell ---------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        if self._state is not ENDING:
            in_body = (self._arrival is not None and self._arrival.express is not None) or self._unfinished_asgi
            message = f"this is no HTTP request: {msg}"
            self.refuse(malformed(message) if in_body else Problem("bad_header", message))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if self.exchanges.waiting:
            self.exchanges.held = lambda: super(LaneConnection, self)._start_asgi_task(cycle, app)
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.timeouts.last_active = self.loop.time()
        super().on_response_complete()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more, but may still read: true keeps the connection until it has its answers."""
        if not self.busy:
            return False
        if self._state is not ENDING:
            self._end_when_answered()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()
        self.timeouts.expect_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.timeouts.taken()
        if not self.exchanges.waiting:
            self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._arrival is not None:
            self._arrival.drop_body()
            self._arrival = None
        self.timeouts.stop()
        self.exchanges.cancel()
        if self._running is not None and not self._running.response_complete:
            _disconnect(self._running)
        # uvicorn leaves it to go off after a reset, and would remember the connection until then.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    # How it ends ---------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Say in the next answer that begins that it is the last; a connection that is not used stays as it is."""
        self._become(ConnectionState.RETIRING)

    def shutdown(self) -> None:
        """The server stops: answer what is under way, then close."""
        if self.context.limits.drain_s is None:
            return
        self._become(ConnectionState.DRAINING)
        if self._unfinished_asgi:
            super().shutdown()
        elif self.exchanges.waiting:
            self._end_when_answered()
        else:
            self.context.drain.add(self)

    def _close_later(self) -> None:
        """While the server drains: close unless a request is on its way."""
        self.loop.call_later(self.context.limits.drain_s or 0, self.close_if_unused)

    def close_if_unused(self) -> None:
        """Close, unless a request is under way or on its way."""
        if self._arrival is not None or has_unread(self.transport):
            # A request is arriving; the supervisor's own patience bounds how long.
            self._close_later()
        elif not self.busy:
            self.transport.close()

    def end(self) -> None:
        """Close, without waiting for a client that does not take what was written long ago."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def peer(self) -> str:
        """Address at the other end; empty where it has none."""
        return self.client[0] if self.client is not None else ""

    @property
    def last_active(self) -> float:
        """When it last had an answer or a part of a request, by the loop's clock."""
        return self.timeouts.last_active

    @property
    def _idle(self) -> bool:
        return not (self._arrival is not None or self.busy or self._state is ENDING)

    def _make_room(self) -> None:
        """Close the connections that have been idle for longest; where none is idle, refuse this new one."""
        others = [other for other in self.connections if isinstance(other, LaneConnection) and other is not self]
        idle = sorted((other for other in others if other._idle), key=lambda other: other.last_active)
        for other in idle[: 1 + len(idle) // CLOSED_AT_ONCE]:
            other._become(ENDING)
            other.end()
        if not idle:
            self.refuse(_too_many_connections(self.context.limits.max_connections))


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Tell an app that the client of its request is gone."""
    cycle.disconnected = True
    cycle.message_event.set()


def _too_many_connections(limit: int) -> Problem:
    message = f"{limit} connections are busy; try again later"
    return Problem("too_many_connections", message, {"limit": limit})
