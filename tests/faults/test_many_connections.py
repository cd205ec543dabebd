"""Ten thousand connections that do nothing, and five hundred that send a byte now and then, disturb nobody."""

import contextlib
import resource
import select
import socket
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.end_to_end.closed_loop import load
from tests.support.raw_http import rows_request
from tests.support.server import Server, serving
from tests.support.waiting import wait_until

IDLE = 10_000
SLOW = 500
SOURCES = 4
"""Loopback addresses to connect from: each has ports of its own."""
NEEDED_FILES = IDLE + SLOW + 500
MAX_BYTES_PER_CONNECTION = 16 * 2**10


@pytest.fixture(autouse=True)
def _enough_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NEEDED_FILES:
        pytest.skip(
            f"a process may have {hard} open files here, and {NEEDED_FILES} are needed: ulimit -Hn {NEEDED_FILES}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NEEDED_FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connections(server: Server, count: int) -> Iterator[socket.socket]:
    for number in range(count):
        source = f"127.0.0.{2 + number % SOURCES}"
        yield socket.create_connection(("127.0.0.1", server.port), timeout=20, source_address=(source, 0))


def memory(server: Server) -> int:
    return sum(psutil.Process(pid).memory_full_info().uss for pid in server.workers())


def open_connections(server: Server) -> int:
    return sum(len(psutil.Process(pid).net_connections("tcp")) for pid in server.workers())


def test_idle_and_slow_clients_cost_little_and_disturb_nobody(models: object) -> None:
    limits = {"SHOKADO_LIMITS__REQUEST_TIMEOUT_S": "3", "SHOKADO_LIMITS__MAX_CONNECTIONS": "12000"}
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(serving(environment={"SHOKADO_WORKERS": "2"} | limits))
        with load(server, 4, lambda _: rows_request()) as before:
            before.wait_for_answers(200)
        empty = memory(server)
        idle = [opened.enter_context(connection) for connection in connections(server, IDLE)]
        wait_until(lambda: open_connections(server) > IDLE)
        cost = (memory(server) - empty) / IDLE
        print(f"{cost / 1024:.1f} KiB for an idle connection")
        assert cost < MAX_BYTES_PER_CONNECTION
        slow = [opened.enter_context(connection) for connection in connections(server, SLOW)]
        data = rows_request()
        with load(server, 8, lambda _: data) as clients:
            started = time.monotonic()
            for number in range(8):
                for connection in slow:
                    with contextlib.suppress(ConnectionError):
                        connection.send(data[number : number + 1])
                clients.wait_for_answers(20)
                time.sleep(max(0.0, started + 0.5 * number - time.monotonic()))  # the pace of a slow client
            clients.wait_for_answers(50)
        assert clients.lost == 0
        assert {answer.status for answer in clients.answers} == {200}
        assert all(status_of(connection) == b"408" for connection in slow)
        closing = select.poll()
        for connection in idle:
            closing.register(connection, select.POLLIN)
        assert not closing.poll(0), "nobody closed a connection for being idle a while"


def status_of(connection: socket.socket) -> bytes:
    return connection.recv(100).split()[1]
