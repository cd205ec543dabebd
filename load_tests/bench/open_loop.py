"""Open-loop load: requests leave when the schedule says so, whether or not earlier ones were answered.

Latencies count from the scheduled time, so that a request that finds no free connection is not flattered. In: bytes of
requests, a rate, a duration. Out: `OpenLoopCounts`, the latencies by status.
"""

import asyncio
import re
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)").search
_TICK_S = 0.001
LEAD_IN_S = 1.0
"""Time for a load to become what it is: a server may take the first tenth of a second of an overload for a burst."""
PATIENCE_S = 5.0
"""How long answers are awaited after the last request was due."""


@dataclass
class OpenLoopCounts:
    """What the clients saw; seconds from when a request was due to when its answer was here, by status."""

    seconds: float
    """How long requests were counted."""
    latencies_s: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    broken: int = 0
    """Requests whose connection ended, or that were never answered."""
    unsent: int = 0
    """Requests that were due and found no free connection until the end."""

    def per_second(self, status: int) -> float:
        return len(self.latencies_s[status]) / self.seconds


class OpenLoopConnection(asyncio.Protocol):
    """One connection, which has at most one request under way."""

    def __init__(self, load: "OpenLoop") -> None:
        self._load = load
        self._transport: asyncio.Transport
        self._due_at: float | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._load.is_free(self)

    def send(self, request: bytes, due_at: float) -> None:
        self._due_at = due_at
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, rest = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH(head)
        if length is None or len(rest) < int(length[1]):
            return
        self._data = b""
        assert self._due_at is not None
        self._load.answered(int(head[9:12]), self._due_at)
        self._due_at = None
        self._load.is_free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._load.lost(self, self._due_at is not None)


class OpenLoop:
    """Sends `requests` in turn at `rate` a second over `connections`; a rate of 0 sends as fast as answers come.

    What is due in the first `LEAD_IN_S` of the load is not counted.
    """

    def __init__(self, requests: Sequence[bytes], rate: float, seconds: float) -> None:
        self.seen = OpenLoopCounts(seconds)
        self._requests = requests
        self._rate = rate
        self._seconds = seconds
        self._free: deque[OpenLoopConnection] = deque()
        self._waiting: deque[float] = deque()
        self._sent = 0
        self._under_way = 0
        self._started_at = self._counted_from = 0.0
        self._ended = False

    def is_free(self, client: OpenLoopConnection) -> None:
        if self._waiting:
            self._send(client, self._waiting.popleft())
        elif self._started_at and not self._rate and not self._ended:
            self._send(client, time.monotonic())
        else:
            self._free.append(client)

    def answered(self, status: int, due_at: float) -> None:
        self._under_way -= 1
        now = time.monotonic()
        if due_at >= self._counted_from and (self._rate or now <= self._counted_from + self._seconds):
            self.seen.latencies_s[status].append(now - due_at)

    def lost(self, client: OpenLoopConnection, waited: bool) -> None:
        if client in self._free:
            self._free.remove(client)
        if waited:
            self._under_way -= 1
            self.seen.broken += 1

    async def run(self, host: str, port: int, connections: int) -> OpenLoopCounts:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: OpenLoopConnection(self), host, port)
        self._started_at = time.monotonic()
        self._counted_from = self._started_at + LEAD_IN_S - _TICK_S / 10
        if self._rate:
            await self._follow_schedule()
        else:
            while self._free:
                self._send(self._free.popleft(), time.monotonic())
            await asyncio.sleep(LEAD_IN_S + self._seconds)
        self._ended = True
        patience_ends = time.monotonic() + PATIENCE_S
        self.seen.unsent = len(self._waiting)
        self._waiting.clear()
        while self._under_way and time.monotonic() < patience_ends:
            await asyncio.sleep(0.01)
        self.seen.broken += self._under_way
        return self.seen

    async def _follow_schedule(self) -> None:
        total = int(self._rate * (LEAD_IN_S + self._seconds))
        due = 0
        while due < total:
            now = time.monotonic()
            while due < total and (due_at := self._started_at + due / self._rate) <= now:
                due += 1
                if self._free:
                    self._send(self._free.popleft(), due_at)
                else:
                    self._waiting.append(due_at)
            await asyncio.sleep(_TICK_S)

    def _send(self, client: OpenLoopConnection, due_at: float) -> None:
        self._under_way += 1
        client.send(self._requests[self._sent % len(self._requests)], due_at)
        self._sent += 1


def run(
    address: tuple[str, int], requests: Sequence[bytes], connections: int, rate: float, seconds: float
) -> OpenLoopCounts:
    """Run the whole load, on a loop of its own."""

    async def whole() -> OpenLoopCounts:
        return await OpenLoop(requests, rate, seconds).run(*address, connections)

    return uvloop.run(whole())
