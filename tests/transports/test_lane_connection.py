"""One connection's life on the lane, with a handler that answers when the test says so."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import pytest

from shokado.dialects.problem import Problem
from shokado.transports.express_lane import (
    MAX_PIPELINED,
    MAX_REMEMBERED_HEAD_BYTES,
    MAX_REMEMBERED_HEADS,
    ExpressLane,
    LaneExchange,
)
from tests.support.garbage import of_kinds, uncollected
from tests.support.raw_http import Connection, request
from tests.support.waiting import wait_until
from tests.transports.lane_server import BIG, LaneServer, Work, lane_server

CONNECTIONS = 10_000
TOGETHER = 50
RESETS = b"\1\0\0\0\0\0\0\0"
"""The linger option with which closing sends a reset."""


def held(number: int = 0, **how: object) -> bytes:
    return request(b"%06d" % number, "/held", **how)  # type: ignore[arg-type]


@pytest.fixture
def lane() -> Iterator[LaneServer]:
    with lane_server() as server:
        yield server


def test_answers_leave_in_the_order_of_the_requests_whatever_is_ready_first(lane: LaneServer) -> None:
    with Connection(lane) as connection:
        connection.send(b"".join(held(number) for number in range(4)))
        lane.wait_for(4)
        for number in (3, 1, 2, 0):
            lane.answer(number)
        assert [int(answer.body) for answer in connection.read_all(4)] == [0, 1, 2, 3]


def test_a_request_off_the_lane_waits_for_those_before_it_and_holds_those_after_it(lane: LaneServer) -> None:
    with Connection(lane) as connection:
        connection.send(held(1) + request(b"12345", "/other") + request(b"123", "/other") + held(2))
        lane.wait_for(1)
        lane.answer(0)
        assert [int(answer.body) for answer in connection.read_all(3)] == [1, 5, 3]
        assert int(connection.read().body) == len(b"000002"), "behind uvicorn's requests it goes their way"
        connection.send(held(3))
        lane.wait_for(2)
        lane.answer(1)
        assert int(connection.read().body) == 3, "and the lane is open again"


def test_only_unanswered_work_is_cancelled_when_the_client_vanishes(lane: LaneServer) -> None:
    connection = Connection(lane)
    connection.send(held(0) + held(1) + held(2))
    lane.wait_for(3)
    lane.answer(0)
    lane.answer(2)
    assert connection.read().status == 200
    connection.reset()
    wait_until(lambda: lane.handler.begun[1].cancelled)
    assert [work.cancelled for work in lane.handler.begun] == [False, True, False]


def test_a_connection_with_many_unanswered_requests_is_not_read_from(lane: LaneServer) -> None:
    count = 30_000
    with Connection(lane) as connection:
        connection.socket.settimeout(0.5)
        # What the server does not read may fit into the buffers between, or not.
        with contextlib.suppress(TimeoutError):
            connection.socket.sendall(b"".join(held(number) for number in range(count)))
        lane.wait_for(MAX_PIPELINED + 1)
        # Those of what was read before that begin in the iterations after it.
        time.sleep(0.5)
        begun = len(lane.handler.begun)
        assert MAX_PIPELINED < begun < count / 2
        lane.handler.echo = True
        for number in range(begun):
            lane.answer(number)
        connection.socket.settimeout(20)
        assert [int(answer.body) for answer in connection.read_all(begun)] == list(range(begun))


def test_a_head_is_remembered_once_and_only_if_it_is_short(lane: LaneServer) -> None:
    lane.handler.echo = True
    with Connection(lane) as connection:
        for number in range(5):
            assert int(connection.ask(held(number)).body) == number
        assert len(lane.heads) == 1
        connection.ask(held(headers=[("x-padding", "p" * MAX_REMEMBERED_HEAD_BYTES)]))
        connection.ask(request(b"x", "/other"))
        connection.ask(request(b"6\r\n000001\r\n0\r\n\r\n", "/held", headers=[("transfer-encoding", "chunked")]))
        assert len(lane.heads) == 1


def test_remembered_heads_are_bounded_in_number(lane: LaneServer) -> None:
    lane.handler.echo = True
    with Connection(lane) as connection:
        for number in range(MAX_REMEMBERED_HEADS + 10):
            assert int(connection.ask(held(number, headers=[("x-number", str(number))])).body) == number
            assert len(lane.heads) <= MAX_REMEMBERED_HEADS
        assert len(lane.heads) == 10


# Heads, and bodies on their way -----------------------------------------------------------------------------------

REFUSAL = Problem(401, "missing_key", "show a key")


@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunks"])
def test_what_its_head_refuses_is_refused_before_its_body_is_kept(lane: LaneServer, chunks: bool) -> None:
    lane.handler.verdict = REFUSAL
    with Connection(lane) as connection:
        connection.send(held())
        lane.wait_for(1)
        assert lane.handler.judged == 0, "a request in one piece is judged when it begins"
        lane.answer(0)
        assert connection.read().status == 200
        how = ("transfer-encoding", "chunked") if chunks else ("content-length", "1000000")
        connection.send(request(b"1000\r\n0" if chunks else b"0", "/held", headers=[how, ("x-request-id", "unread")]))
        answer = connection.read()
        assert (answer.status, answer.code, answer.header("connection")) == (401, "missing_key", "close")
        assert [work.body for work in lane.handler.begun[1:]] == [b""]
        with contextlib.suppress(ConnectionError):
            connection.send(b"0" * 100_000)
        assert connection.is_closed()
    assert lane.body_quota.reserved == 0


def test_a_head_is_judged_once_however_its_body_comes(lane: LaneServer) -> None:
    lane.handler.echo = True
    data = held()
    with Connection(lane) as connection:
        for _ in range(2):
            for start in range(len(data) - 6, len(data)):
                connection.send(data[:start])
                time.sleep(0.002)  # so that the parts come one by one
                assert int(connection.ask(data[start:]).body) == 0
                data = held()
    assert 0 < lane.handler.judged <= 12


def test_bodies_on_their_way_are_bounded_together() -> None:
    """One for which there is no room is refused; what was kept is given back whether it is answered or gone."""
    half = 600_000
    with lane_server(max_receiving_bytes=2**20) as lane, Connection(lane) as first, Connection(lane) as vanishing:
        lane.handler.echo = True
        how = [("content-length", str(half + 1))]
        first.send(request(b"0" * half, "/held", headers=how))
        wait_until(lambda: lane.body_quota.reserved == half)
        vanishing.send(request(b"0" * 200_000, "/held", headers=how))
        wait_until(lambda: lane.body_quota.reserved == half + 200_000)
        with Connection(lane) as late:
            late.send(request(b"0" * half, "/held", headers=how))
            answer = late.read()
            assert (answer.status, answer.code, answer.header("retry-after")) == (503, "too_many_bodies", "1")
            assert late.is_closed()
        with Connection(lane) as small:
            assert small.ask(held()).status == 200, "what comes in one piece waits for nobody"
        assert len(first.ask(b"0").body) == half + 1
        wait_until(lambda: lane.body_quota.reserved == 200_000)
        vanishing.reset()
        wait_until(lambda: lane.body_quota.reserved == 0)


# How long connections live ----------------------------------------------------------------------------------------


def test_a_retired_connection_says_so_in_its_next_answer(lane: LaneServer) -> None:
    lane.handler.echo = True
    for path in ("/held", "/other"):
        with Connection(lane) as connection:
            assert connection.ask(request(b"0", path)).header("connection") is None
            lane.retire()
            answer = connection.ask(request(b"0", path))
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert connection.is_closed()


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


def test_idle_connections_of_a_stopping_server_end_one_after_the_other() -> None:
    """The longest idle one first; those that are used meanwhile are answered and told."""
    with lane_server(drain_s=0.2, spread_s=2.0) as lane, contextlib.ExitStack() as opened:
        lane.handler.echo = True
        connections = [opened.enter_context(Connection(lane)) for _ in range(80)]
        for connection in reversed(connections):
            assert connection.ask(held()).status == 200
            time.sleep(0.002)  # the loop's clock counts milliseconds
        lane.begin_to_stop()
        assert connections[-1].is_closed(), "the longest idle"
        answer = connections[0].ask(held())
        assert (answer.status, answer.header("connection")) == (200, "close")
        ends = []
        for connection in reversed(connections):
            assert connection.is_closed()
            ends.append(time.monotonic())
        assert ends[-1] - ends[0] > 1
        wait_until(lambda: lane.stopped)


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
    with lane_server(request_s=0.3) as lane, Connection(lane) as connection:
        connection.send(b"".join(held(number) for number in range(count)) + held(count)[:-2])
        lane.wait_for(MAX_PIPELINED)
        time.sleep(0.8)  # a slow model
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


def test_the_longest_idle_connection_makes_room_for_a_new_one() -> None:
    with lane_server(max_connections=3) as lane:
        lane.handler.echo = True
        first, second, third = (Connection(lane) for _ in range(3))
        for connection in (second, third, first):
            assert connection.ask(held()).status == 200
            time.sleep(0.02)  # the loop's clock counts milliseconds
        with Connection(lane) as fourth:
            assert fourth.ask(held()).status == 200
            assert second.is_closed()
            for connection in (first, third, fourth):
                assert connection.ask(held()).status == 200


def test_a_connection_with_a_request_under_way_is_not_closed_for_a_new_one() -> None:
    with lane_server(max_connections=2) as lane, Connection(lane) as busy, Connection(lane) as arriving:
        busy.send(held(1))
        lane.wait_for(1)
        arriving.send(held(2)[:-2])
        wait_until(lambda: lane.connections == 2)
        time.sleep(0.1)  # until the half request has been read
        with Connection(lane) as refused:
            answer = refused.read()
            assert (answer.status, answer.code) == (503, "too_many_connections")
            assert (answer.header("connection"), answer.header("retry-after")) == ("close", "1")
            assert refused.is_closed()
        arriving.send(held(2)[-2:])
        lane.wait_for(2)
        lane.answer(0)
        lane.answer(1)
        assert (int(busy.read().body), int(arriving.read().body)) == (1, 2)


def test_a_connection_that_waits_for_an_answer_is_not_idle() -> None:
    with lane_server(idle_s=0.3) as lane, Connection(lane) as connection:
        connection.send(held(7))
        lane.wait_for(1)
        time.sleep(0.8)  # a slow model
        lane.answer(0)
        assert int(connection.read().body) == 7


def test_a_stopping_server_answers_what_is_under_way_and_what_is_on_its_way() -> None:
    with lane_server(drain_s=1.0) as lane:
        with Connection(lane) as busy, Connection(lane) as idle, Connection(lane) as quiet, Connection(lane) as half:
            busy.send(held(1))
            lane.wait_for(1)
            half.send(held(3)[:-3])
            idle.ask(request(b"x", "/other"))
            lane.begin_to_stop()
            wait_until(lambda: not busy_server_reads(lane))
            lane.answer(0)
            answer = busy.read()
            assert int(answer.body) == 1
            assert busy.is_closed()
            lane.handler.echo = True
            for connection, data in ((idle, held(2)), (half, held(3)[-3:])):
                answer = connection.ask(data)
                assert (answer.status, answer.header("connection")) == (200, "close")
                assert connection.is_closed()
            assert quiet.is_closed()
        wait_until(lambda: lane.stopped)


def busy_server_reads(lane: LaneServer) -> bool:
    """Whether the server still takes connections."""
    try:
        lane.connect().close()
    except OSError:
        return False
    return True


def test_a_server_whose_clients_end_first_waits_for_them() -> None:
    """As a version's own service does: the gateway may send more until it has drained."""
    with lane_server(drain_s=None) as lane:
        lane.handler.echo = True
        with Connection(lane) as connection:
            assert connection.ask(held(1)).status == 200
            lane.begin_to_stop()
            wait_until(lambda: not busy_server_reads(lane))
            for number in range(20):
                answer = connection.ask(held(number))
                assert (int(answer.body), answer.header("connection")) == (number, None)
            assert not lane.stopped
        wait_until(lambda: lane.stopped)


def test_nothing_of_an_answered_request_is_left_to_the_garbage_collector(lane: LaneServer) -> None:
    with uncollected():
        with Connection(lane) as connection:
            connection.send(b"".join(held(number) for number in range(10)))
            lane.wait_for(10)
            for number in range(10):
                lane.answer(number)
            lane.handler.echo = True
            connection.send(held(10))
            connection.read_all(11)
            lane.handler.begun.clear()
        wait_until(lambda: not of_kinds(LaneExchange, Work), 5)


def test_nothing_of_a_closed_connection_is_left_to_the_garbage_collector(lane: LaneServer) -> None:
    """However it ended: after an answer of the lane or of uvicorn, unread, or with its work under way."""
    lane.handler.echo = True
    cut = request(b"x" * 70_000, "/held")
    asking = held(1), request(b"1", "/other"), b"GARBAGE\r\n\r\n", b"", b"POST /held HTT", cut[:20_000], cut[:-70_000]
    with uncollected():
        for _ in range(CONNECTIONS // TOGETHER):
            together = [lane.connect() for _ in range(TOGETHER)]
            for number, connection in enumerate(together):
                connection.sendall(asking[number % len(asking)])
            for number, connection in enumerate(together):
                if number % len(asking) < 3:
                    assert connection.recv(65_536)
                if number % 2:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
                connection.close()
            lane.handler.begun.clear()
        lane.handler.echo = False
        with Connection(lane) as leaving:
            leaving.send(held(1))
            lane.wait_for(1)
            leaving.reset()
            wait_until(lambda: lane.handler.begun[0].cancelled)
        lane.handler.begun.clear()
        wait_until(lambda: not of_kinds(ExpressLane, LaneExchange, Work), 20)
