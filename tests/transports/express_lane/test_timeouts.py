"""How long a connection may rest, send, leave an answer untaken, and live."""

import contextlib
import select
import socket
import time

import pytest

from shokado.transports.express_lane.exchanges import MAX_PIPELINED
from tests.support.raw_http import Connection, request
from tests.support.waiting import wait_until
from tests.transports.lane_server import BIG, held, lane_server


def own_address() -> str:
    """One of this machine that is no loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but its loopback")
        return str(probe.getsockname()[0])


def test_a_connection_ends_at_its_age_with_an_answer_and_not_on_loopback() -> None:
    with lane_server(host="0.0.0.0", max_age_s=0.3) as lane:  # to be reached at an address of the machine
        lane.handler.echo = True
        with Connection(lane) as near:
            lane.host = own_address()
            for _ in range(2):
                with Connection(lane) as far:
                    answers = 0
                    while far.ask(held()).header("connection") is None:
                        answers += 1
                    assert answers > 1
                    assert far.is_closed()
            assert near.ask(held()).header("connection") is None, "although it is older than any age"


def test_an_idle_connection_is_closed_after_its_time_and_not_before() -> None:
    with lane_server(idle_s=1.5) as lane:
        lane.handler.echo = True
        with Connection(lane) as unused, Connection(lane) as used:
            started = time.monotonic()
            while time.monotonic() - started < 2.5:
                assert used.ask(held()).status == 200
                time.sleep(0.05)  # pauses of a client, shorter than the limit
            rested = time.monotonic()
            assert unused.is_closed()
            assert used.is_closed()
            assert time.monotonic() - rested > 1


@pytest.mark.parametrize("path", ["/held", "/other"])
def test_requests_off_the_lane_and_slow_uploads_keep_a_connection_alive(path: str) -> None:
    """Longer than the idle limit in all, never longer between two signs of life."""
    with lane_server(idle_s=0.6) as lane, Connection(lane) as connection:
        lane.handler.echo = True
        for _ in range(8):
            assert connection.ask(request(b"x", "/other")).body == b"1"
            time.sleep(0.15)  # a client's pause
        data = request(b"0" * 40, path)
        for start in range(0, len(data), 16):
            connection.send(data[start : start + 16])
            time.sleep(0.15)  # a slow network
        assert connection.read().status == 200


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/held", "/other"])
@pytest.mark.parametrize("begun", [7, 60, 200], ids=["request line", "headers", "body"])
def test_a_request_that_arrives_too_slowly_is_refused(path: str, begun: int) -> None:
    """However steadily its bytes come: a limit on silence would never be reached."""
    data = request(b"0" * 400, path, headers=[("x-padding", "p" * 100)])
    with lane_server(request_s=0.5, idle_s=60) as lane, Connection(lane) as connection:
        connection.send(data[:begun])
        started = time.monotonic()
        for number in range(begun, begun + 50):
            if select.select([connection.socket], [], [], 0.05)[0]:
                break
            connection.send(data[number : number + 1])
        answer = connection.read()
        assert (answer.status, answer.header("connection")) == (408, "close")
        assert answer.code == "request_timeout"
        assert time.monotonic() - started > 0.3
        assert connection.is_closed()


def test_a_late_request_is_refused_after_the_answers_to_those_before_it() -> None:
    with lane_server(request_s=0.3) as lane, Connection(lane) as connection:
        connection.send(held(1) + held(2)[:-2])
        lane.wait_for(1)
        time.sleep(0.8)  # a slow model and a slower client
        lane.answer(0)
        assert [answer.status for answer in connection.read_all(2)] == [200, 408]
        assert connection.is_closed()


def test_a_request_that_is_here_is_not_late_however_long_its_answer_takes() -> None:
    with lane_server(request_s=0.3) as lane, Connection(lane) as connection:
        for number in range(2):
            data = held(number)
            connection.send(data[:-2])
            time.sleep(0.1)  # a slow network
            connection.send(data[-2:])
            lane.wait_for(number + 1)
            time.sleep(0.6)  # a slow model
            lane.answer(number)
            assert int(connection.read().body) == number


def test_a_request_that_the_server_does_not_read_is_not_late() -> None:
    count = MAX_PIPELINED + 20
    with lane_server(request_s=1) as lane, Connection(lane) as connection:
        connection.send(b"".join(held(number) for number in range(count)) + held(count)[:-2])
        lane.wait_for(MAX_PIPELINED)
        time.sleep(1.5)  # a slow model
        begun = len(lane.handler.begun)
        for number in range(begun):
            lane.answer(number)
        assert {answer.status for answer in connection.read_all(begun)} == {200}
        lane.handler.echo = True
        connection.send(held(count)[-2:])
        for answer in connection.read_all(count + 1 - begun):
            assert answer.status == 200


@pytest.mark.parametrize("path", ["/held", "/big"])
def test_a_client_that_does_not_read_its_answers_is_let_go(path: str) -> None:
    with lane_server(request_s=0.4) as lane, Connection(lane) as connection:
        lane.handler.echo = True
        connection.socket.settimeout(5)
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(40):
                connection.send(request(b"0" * 1_000_000, path))
        wait_until(lambda: not lane.connections, 10)


def test_a_client_that_reads_slowly_but_steadily_gets_its_answer() -> None:
    with lane_server(request_s=1) as lane, Connection(lane) as connection:
        connection.send(request(b"", "/big"))
        started = time.monotonic()
        taken = 0
        while taken < BIG:
            data = connection.socket.recv(131_072)
            assert data, "cut off"
            taken += len(data)
            time.sleep(0.02)  # a slow network
        assert time.monotonic() - started > 2


def test_a_connection_that_waits_for_an_answer_is_not_idle() -> None:
    with lane_server(idle_s=0.3) as lane, Connection(lane) as connection:
        connection.send(held(7))
        lane.wait_for(1)
        time.sleep(0.8)  # a slow model
        lane.answer(0)
        assert int(connection.read().body) == 7
