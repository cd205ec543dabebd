"""Closed-loop clients: each keeps one connection and has one request under way, and says what became of every one."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.raw_http import Answer, Closed, Connection, Listening, request
from tests.support.server import ROW
from tests.support.waiting import wait_until

UNPINNED = request(json.dumps({"instances": [ROW]}).encode())
"""A row for whichever version the split gives it."""
PAUSE_S = 0.004
"""Of a client between two requests: load all the same, and room for whatever else is tested meanwhile."""


@dataclass
class Client:
    """What one client has seen; `lost` counts requests that were sent and never wholly answered."""

    answers: list[Answer] = field(default_factory=list)
    lost: int = 0
    said_close: bool = False
    """Whether the last answer announced that the connection ends."""


class ClosedLoop:
    """Clients that ask again soon after they have their answer, from `start` until `stop`."""

    def __init__(
        self, server: Listening, clients: int, request: Callable[[int], bytes], *, reconnect: bool, pause_s: float
    ) -> None:
        """`request` makes a client's n-th request. `reconnect`: a client whose connection ended makes a new one."""
        self.clients = [Client() for _ in range(clients)]
        self._server = server
        self._request = request
        self._reconnect = reconnect
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in self.clients]

    @property
    def answers(self) -> list[Answer]:
        return [answer for client in self.clients for answer in client.answers]

    @property
    def lost(self) -> int:
        return sum(client.lost for client in self.clients)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for_answers(self, more: int) -> None:
        """Until every client has `more` answers than now."""
        wanted = [len(client.answers) + more for client in self.clients]
        wait_until(lambda: all(len(c.answers) >= n for c, n in zip(self.clients, wanted, strict=True)), timeout_s=150)

    def join(self) -> None:
        """Wait for clients that end by themselves, because their connection did."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _run(self, client: Client) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(ConnectionRefusedError):
                self._use_connection(client)
            if not self._reconnect:
                return
            time.sleep(self._pause_s)

    def _use_connection(self, client: Client) -> None:
        with Connection(self._server) as connection:
            while not self._stopping.is_set():
                try:
                    answer = connection.ask(self._request(len(client.answers)))
                except (Closed, ConnectionError, AssertionError):
                    client.lost += 1
                    return
                client.answers.append(answer)
                client.said_close = answer.header("connection") == "close"
                if client.said_close:
                    return
                time.sleep(self._pause_s)


@contextlib.contextmanager
def load(
    server: Listening,
    clients: int,
    request: Callable[[int], bytes],
    *,
    reconnect: bool = False,
    pause_s: float = PAUSE_S,
) -> Iterator[ClosedLoop]:
    """Clients under way; each has had some answers when the context begins."""
    loop = ClosedLoop(server, clients, request, reconnect=reconnect, pause_s=pause_s)
    loop.start()
    try:
        loop.wait_for_answers(5)
        yield loop
    finally:
        loop.stop()
