"""One connection's life on the lane, with a handler that answers when the test says so."""

import socket
import time

from shokado.transports.express_lane.connection import LaneConnection
from shokado.transports.express_lane.exchanges import LaneExchange
from tests.support.garbage import of_kinds, uncollected
from tests.support.raw_http import Connection, request
from tests.support.waiting import wait_until
from tests.transports.lane_server import LaneServer, Work, held, lane_server

CONNECTIONS = 10_000
TOGETHER = 50
RESETS = b"\1\0\0\0\0\0\0\0"
"""The linger option with which closing sends a reset."""


def test_a_retired_connection_says_so_in_its_next_answer(lane: LaneServer) -> None:
    lane.handler.echo = True
    for path in ("/held", "/other"):
        with Connection(lane) as connection:
            assert connection.ask(request(b"0", path)).header("connection") is None
            lane.retire()
            answer = connection.ask(request(b"0", path))
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert connection.is_closed()


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
        wait_until(lambda: not of_kinds(LaneConnection, LaneExchange, Work), 20)
