"""Timeouts: how long a connection may rest, take to send a request, leave an answer untaken, and live."""

import asyncio
import random
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from shokado.access.address import parsed
from shokado.dialects.problem import Problem
from shokado.transports.express_lane.context import LaneLimits

MIN_TAKEN_BYTES = 64 * 2**10
"""What a client must take of an answer that waits for it, in the time that a request may take to arrive."""
AGE_JITTER = 0.2
"""Part of the greatest age of connections by which theirs differ, as those that began together must not end so."""


class TimedConnection(Protocol):
    """What timeouts ask of their connection, and tell it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl

    @property
    def peer(self) -> str:
        """Address at the other end."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        ...

    def retire(self) -> None:
        """Make the next answer the last: the connection has reached its age."""
        ...

    def refuse(self, problem: Problem) -> None:
        """Refuse the request, which has not arrived in time."""
        ...

    def end(self) -> None:
        """End the connection: it was idle for too long."""
        ...


class Timeouts:
    """The timers of one connection, from when it is made until it is lost."""

    __slots__ = (
        "_age",
        "_arrival",
        "_connection",
        "_idle",
        "_limits",
        "_loop",
        "_taking",
        "_untaken_bytes",
        "last_active",
    )

    def __init__(self, connection: TimedConnection, limits: LaneLimits) -> None:
        self.last_active = connection.loop.time()
        """When the connection was made, or last had an answer or a part of a request, by the loop's clock."""
        self._connection = connection
        self._limits = limits
        self._loop = connection.loop
        self._idle = self._loop.call_later(limits.idle_s, self._close_if_idle)
        self._arrival: asyncio.TimerHandle | None = None
        """Runs while a request has begun to arrive and is not here yet."""
        self._taking: asyncio.TimerHandle | None = None
        """Runs while more is to be written than the client takes."""
        self._untaken_bytes = 0
        self._age: asyncio.TimerHandle | None = None
        address = parsed(connection.peer) if limits.max_age_s is not None else None
        if limits.max_age_s is not None and address is not None and not address.is_loopback:
            age_s = limits.max_age_s * random.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)  # noqa: S311  # no secret
            self._age = self._loop.call_later(age_s, connection.retire)

    def stop(self) -> None:
        """Stop all, as the connection is lost; nothing may be started after it."""
        for timer in (self._idle, self._arrival, self._taking, self._age):
            if timer is not None:
                timer.cancel()
        # They know each other, and would wait for the garbage collector.
        del self._connection

    # A request arrives ---------------------------------------------------------------------------------------------

    def expect_rest(self) -> None:
        """A request has begun to arrive, and is not here yet."""
        if self._arrival is None:
            self._arrival = self._loop.call_later(self._limits.request_s, self._refuse_late)

    def arrived(self) -> None:
        """All of the request is here."""
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _refuse_late(self) -> None:
        self._arrival = None
        if self._connection.flow.read_paused:
            # It is held up here, not by the client.
            self.expect_rest()
        else:
            self._connection.refuse(_request_timeout(self._limits.request_s))

    # Answers wait for the client -----------------------------------------------------------------------------------

    def expect_taking(self) -> None:
        """More is to be written than the client takes."""
        self._untaken_bytes = self._connection.transport.get_write_buffer_size()
        self._taking = self._loop.call_later(self._limits.request_s, self._reset_if_not_taken)

    def taken(self) -> None:
        """The client has taken what was to be written."""
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _reset_if_not_taken(self) -> None:
        """Let go of a client that reads its answers too slowly, if at all: they are memory."""
        transport = self._connection.transport
        if self._untaken_bytes - transport.get_write_buffer_size() < MIN_TAKEN_BYTES:
            transport.abort()
        else:
            self.expect_taking()

    # Nothing happens -----------------------------------------------------------------------------------------------

    def _close_if_idle(self) -> None:
        """One timer a connection, wound up again when it fires, instead of one a request."""
        idle_s = 0.0 if self._connection.busy else self._loop.time() - self.last_active
        if idle_s >= self._limits.idle_s:
            self._connection.end()
        else:
            self._idle = self._loop.call_later(self._limits.idle_s - idle_s, self._close_if_idle)


def _request_timeout(limit_s: float) -> Problem:
    return Problem("request_timeout", f"the request did not arrive within {limit_s:g} s", {"limit_s": limit_s})
