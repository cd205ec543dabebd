"""A server that is told to stop answers everything that was sent to it, and ends with 0."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import psutil
import pytest

from tests.dialects.cases import single
from tests.end_to_end.closed_loop import load
from tests.support.raw_http import NATIVE, SINGLE, Answer, Connection, request, rows_request
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until

EMBEDDED = {"SHOKADO_WORKERS": "2"}
SERVICE = {
    "SHOKADO_WORKERS": "1",
    "SHOKADO_VERSIONS__V1__PLACEMENT": "service",
    "SHOKADO_VERSIONS__V2__PLACEMENT": "service",
}
KINDS = [rows_request(), request(single(), SINGLE), rows_request(*[ROW] * 300, version="v2")]


@pytest.mark.parametrize("environment", [EMBEDDED, SERVICE], ids=["embedded", "service"])
def test_stopping_under_load_loses_no_request(models: object, environment: dict[str, str]) -> None:
    """Every request sent on an established connection is answered, the last of each with `connection: close`."""
    with serving(environment=environment) as server:
        with load(server, 16, lambda number: KINDS[number % 3]) as clients:
            clients.wait_for_answers(20)
            idle = Connection(server)
            assert idle.ask(rows_request()).status == 200
            stopped_at = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            clients.join()
            took_s = time.monotonic() - stopped_at
        assert clients.lost == 0
        assert {answer.status for answer in clients.answers} == {200}
        assert all(client.said_close for client in clients.clients)
        assert idle.is_closed()
        wait_until(lambda: server.process.poll() is not None, 20)
        assert server.process.returncode == 0
        assert took_s < 5
        assert time.monotonic() - stopped_at < 15
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("environment", [EMBEDDED, SERVICE], ids=["embedded", "service"])
def test_a_request_on_its_way_when_the_server_stops_is_answered(models: object, environment: dict[str, str]) -> None:
    """Those on connections that were idle at the signal, and much later those that were half sent; over both.

    A version's own service must outlast them all.
    """
    with serving(environment=environment | {"SHOKADO_WORKERS": "1"}) as server:
        requests = [rows_request(path=path) for path in (NATIVE, NATIVE + "?x")]
        begun = [Connection(server) for _ in requests]
        idle = [Connection(server) for _ in requests]
        unused = Connection(server)
        for connection, data in zip(begun, requests, strict=True):
            connection.send(data[:150])
        for connection in [*idle, unused]:
            assert connection.ask(rows_request()).status == 200
        with load(server, 1, lambda _: rows_request()) as clients:
            server.process.send_signal(signal.SIGTERM)
            clients.join()  # it is told that the connection ends: the worker has the signal
        for connection, data in zip(idle, requests, strict=True):
            assert_answered_at_last(connection, data)
        assert unused.is_closed()
        for connection, data in zip(begun, requests, strict=True):
            assert_answered_at_last(connection, data[150:])
        wait_until(lambda: server.process.poll() is not None, 20)
        assert server.process.returncode == 0


@pytest.mark.parametrize("environment", [EMBEDDED, SERVICE], ids=["embedded", "service"])
def test_readiness_turns_false_before_anything_else_does(models: object, environment: dict[str, str]) -> None:
    """While the pause lasts, requests are answered on old connections and new ones; then the server ends in time.

    Soon after the signal each answer is the last of its connection, so that clients go elsewhere while there is time.
    """
    paused = environment | {"SHOKADO_SHUTDOWN__PAUSE_S": "4"}
    with serving(environment=paused) as server, load(server, 8, lambda number: KINDS[number % 3]) as clients:
        server.process.send_signal(signal.SIGTERM)
        stopped_at = time.monotonic()
        wait_until(lambda: ask_health(server, "/readyz").status == 503, 3)
        assert ask_health(server, "/livez").status == 200
        clients.wait_for_answers(20)
        for kind in KINDS:
            with Connection(server) as late:
                assert late.ask(kind).status == 200
        assert ask_health(server, "/readyz").json["reason"] == "the server is stopping"
        assert time.monotonic() - stopped_at < 4, "too slow a machine to see anything of the pause"
        clients.join()
        assert all(client.said_close for client in clients.clients)
        for kind in (KINDS[0], rows_request(path=NATIVE + "?x"), request(path="/livez", method="GET")):
            # The workers hear of it one after the other.
            wait_until(partial(is_told_to_end, server, kind), 3)
        assert time.monotonic() - stopped_at < 4, "told in the pause"
        assert clients.lost == 0
        assert {answer.status for answer in clients.answers} == {200}
        wait_until(lambda: server.process.poll() is not None, 20)
        assert server.process.returncode == 0


def test_pooled_clients_that_ask_at_random_lose_nothing(models: object) -> None:
    """200 connections that are idle most of the time: each is told to end by an answer, or closed while it is idle."""
    paused = EMBEDDED | {"SHOKADO_SHUTDOWN__PAUSE_S": "3", "SHOKADO_SHUTDOWN__DRAIN_S": "12"}
    kinds = [*KINDS, rows_request(path=NATIVE + "?x"), request(path="/v1/traffic-split", method="GET")]
    with serving(environment=paused) as server:
        pool = asyncio.run(pooled(server, 200, kinds, stop=lambda: server.process.send_signal(signal.SIGTERM)))
        assert pool.failures == []
        assert pool.ends["told"] > 100
        assert pool.ends["idle"] > 0, "some must not have asked in time, or this test shows nothing"
        wait_until(lambda: server.process.poll() is not None, 25)
        assert server.process.returncode == 0


@dataclass
class Pool:
    """What became of pooled connections."""

    ends: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


async def pooled(server: Server, size: int, kinds: list[bytes], stop: Callable[[], None]) -> Pool:
    """Connections that ask again after a random pause, until the server, told to stop by `stop`, has ended them all."""
    pool, asked = Pool(), asyncio.Semaphore(0)
    draw = random.Random(11)

    async def use(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while True:
            # As a pool looks before it takes a connection.
            if reader.at_eof():
                pool.ends["idle"] += 1
                return
            try:
                writer.write(kinds[number % len(kinds)])
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            except (OSError, asyncio.IncompleteReadError) as error:
                pool.failures.append(f"{number}: {error!r}")
                return
            if not head.startswith(b"http/1.1 200"):
                pool.failures.append(f"{number}: {head[:100]!r}")
            asked.release()
            if b"connection: close" in head:
                pool.ends["told"] += 1
                return
            await asyncio.sleep(draw.expovariate(1 / 2.0))  # a client's pauses

    clients = [asyncio.create_task(use(number)) for number in range(size)]
    for _ in range(2 * size):
        await asked.acquire()
    stop()
    await asyncio.wait_for(asyncio.gather(*clients), 60)
    return pool


def test_a_drain_that_takes_too_long_is_given_up(models: object) -> None:
    """Neither a client that never ends its request nor a process that is held can keep the server for longer."""
    limit = {"SHOKADO_WORKERS": "1", "SHOKADO_SHUTDOWN__DRAIN_S": "2", "SHOKADO_VERSIONS__V2__PLACEMENT": "service"}
    with serving(environment=limit) as server, Connection(server) as endless:
        assert endless.ask(rows_request(version="v2")).status == 200
        workers = server.workers()
        (service,) = [pid for pid in workers if "shokado-v2" in " ".join(psutil.Process(pid).cmdline())]
        os.kill(service, signal.SIGSTOP)
        endless.send(rows_request()[:150])
        with Connection(server) as waiting:
            waiting.send(rows_request(version="v2"))
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: server.process.poll() is not None, 15)
        assert server.process.returncode == 0
        assert endless.is_closed()
        assert not any(psutil.pid_exists(pid) for pid in workers)


def ask_health(server: Server, path: str) -> Answer:
    return ask_once(server, request(path=path, method="GET", content_type=None))


def is_told_to_end(server: Server, data: bytes) -> bool:
    return ask_once(server, data).header("connection") == "close"


def ask_once(server: Server, data: bytes) -> Answer:
    """Over a connection of its own, whatever it says of its end."""
    with Connection(server) as connection:
        answer = connection.ask(data)
        assert answer.status in (200, 503)
        return answer


def assert_answered_at_last(connection: Connection, data: bytes) -> None:
    answer = connection.ask(data)
    assert (answer.status, answer.header("connection")) == (200, "close")
    assert connection.is_closed()
