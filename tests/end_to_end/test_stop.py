"""A server that is told to stop answers everything that was sent to it, and ends with 0."""

import os
import signal
import time

import psutil
import pytest

from tests.end_to_end.closed_loop import load
from tests.protocols.cases import single
from tests.protocols.raw_http import NATIVE, SINGLE, Answer, Connection, request, rows_request
from tests.server import ROW, Server, serving, wait_until

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
    """Those on connections that were idle at the signal, and much later those that were half sent; at both doors.

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
    """While the pause lasts, requests are answered on old connections and new ones; then the server ends in time."""
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
        assert time.monotonic() - stopped_at > 4
        assert clients.lost == 0
        assert {answer.status for answer in clients.answers} == {200}
        wait_until(lambda: server.process.poll() is not None, 20)
        assert server.process.returncode == 0


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
    with Connection(server) as connection:
        return connection.ask(request(path=path, method="GET", content_type=None))


def assert_answered_at_last(connection: Connection, data: bytes) -> None:
    answer = connection.ask(data)
    assert (answer.status, answer.header("connection")) == (200, "close")
    assert connection.is_closed()
