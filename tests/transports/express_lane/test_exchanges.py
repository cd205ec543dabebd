"""Pipelining: what begins and leaves in which order, with a handler that answers when the test says so."""

import contextlib
import time

from shokado.dialects.problem import Problem
from shokado.transports.express_lane.exchanges import MAX_PIPELINED, LaneExchange
from tests.support.garbage import of_kinds, uncollected
from tests.support.raw_http import Connection, request
from tests.support.waiting import wait_until
from tests.transports.lane_server import LaneServer, Work, held


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


def test_the_work_of_a_refusal_is_cancelled_when_the_client_vanishes(lane: LaneServer) -> None:
    """As where a rate is asked for elsewhere before the problem is told."""
    lane.handler.verdict = Problem("missing_key", "show a key")
    lane.handler.hold_refusals = True
    with Connection(lane) as connection:
        connection.send(held(headers=[("content-length", "1000")]))
        lane.wait_for(1)
        connection.reset()
        wait_until(lambda: lane.handler.begun[0].cancelled)
