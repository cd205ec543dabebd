"""Draining: how the idle connections of a stopping server are closed, one after the other."""

import asyncio
import struct
import termios
from fcntl import ioctl
from typing import Protocol

CLOSED_PER_S = 40
"""Connections that are closed in a second, if there is the time: each may be about to be used."""


class IdleConnection(Protocol):
    """What drains."""

    loop: asyncio.AbstractEventLoop

    @property
    def last_active(self) -> float:
        """When it last had an answer, by its loop's clock."""
        ...

    def close_if_unused(self) -> None:
        """Close, unless a request is under way or on its way."""
        ...


class Drain:
    """Those of a process that leave, until each has been given its time to be closed."""

    def __init__(self, drain_s: float, spread_s: float) -> None:
        """Each is kept for at least `drain_s`; within `spread_s` after that all are closed."""
        self._drain_s = drain_s
        self._spread_s = spread_s
        self._leaving: list[IdleConnection] = []

    def add(self, connection: IdleConnection) -> None:
        self._leaving.append(connection)
        if len(self._leaving) == 1:
            # uvicorn tells all connections in one iteration of the loop.
            connection.loop.call_soon(self._give_times, connection.loop)

    def _give_times(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the connection that was idle for longest the first time: it is the least likely to be used just then.

        The others may still ask, and be told that their answer is the last.
        """
        leaving = sorted(self._leaving, key=lambda connection: connection.last_active)
        self._leaving.clear()
        spread_s = min(self._spread_s, len(leaving) / CLOSED_PER_S)
        for number, connection in enumerate(leaving):
            loop.call_later(self._drain_s + spread_s * number / len(leaving), connection.close_if_unused)


def has_unread(transport: asyncio.Transport) -> bool:
    """Whether the kernel has bytes of a client's that the loop has not come to yet."""
    if transport.is_closing():
        return False
    found = ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
    return bool(struct.unpack("i", found)[0])
