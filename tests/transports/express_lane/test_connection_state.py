"""The states of a connection, and that each step between them is one that its client sees."""

import itertools

from shokado.transports.express_lane.connection_state import ConnectionState
from tests.support.raw_http import Connection, request
from tests.support.waiting import wait_until
from tests.transports.lane_server import LaneServer, held, lane_server

S = ConnectionState


def test_a_connection_goes_on_to_its_end_and_never_back() -> None:
    life = list(S)
    assert life == [S.OPEN, S.RETIRING, S.DRAINING, S.ENDING]
    for earlier, later in itertools.combinations(life, 2):
        assert earlier.may_become(later)
        assert not later.may_become(earlier)
    assert all(state.may_become(state) for state in S), "to stay is no change"


def test_open_to_ending_by_a_request_that_closes(lane: LaneServer) -> None:
    with Connection(lane) as connection:
        connection.send(held(1) + held(2, headers=[("connection", "close")]) + held(3))
        lane.wait_for(2)
        lane.answer(1)
        lane.answer(0)
        answers = connection.read_all(2)
        assert [(int(answer.body), answer.header("connection")) for answer in answers] == [(1, None), (2, "close")]
        assert connection.is_closed()
    assert len(lane.handler.begun) == 2


def test_retiring_to_ending_by_the_next_request(lane: LaneServer) -> None:
    """What is under way is answered as before; the request after it is the last, whatever comes behind that."""
    with Connection(lane) as connection:
        connection.send(held(1))
        lane.wait_for(1)
        lane.retire()
        connection.send(held(2) + held(3))
        lane.wait_for(2)
        lane.answer(1)
        lane.answer(0)
        answers = connection.read_all(2)
        assert [(int(answer.body), answer.header("connection")) for answer in answers] == [(1, None), (2, "close")]
        assert connection.is_closed()
    assert len(lane.handler.begun) == 2


def test_retiring_to_ending_by_a_refusal(lane: LaneServer) -> None:
    with Connection(lane) as connection:
        assert_open(lane, connection)
        lane.retire()
        connection.send(b"GARBAGE\r\n\r\n")
        answer = connection.read()
        assert (answer.status, answer.code, answer.header("connection")) == (400, "bad_header", "close")
        assert connection.is_closed()


def test_retiring_to_draining_and_to_its_end_without_a_request() -> None:
    with lane_server(drain_s=0.1) as lane:
        with Connection(lane) as connection:
            assert_open(lane, connection)
            lane.retire()
            lane.begin_to_stop()
            assert connection.is_closed()
        wait_until(lambda: lane.stopped)


def test_draining_to_ending_by_a_request_that_had_begun_to_arrive() -> None:
    with lane_server(drain_s=0.1) as lane:
        lane.handler.echo = True
        with Connection(lane) as connection, Connection(lane) as unused:
            assert_open(lane, connection)
            data = request(b"0" * 100, "/held")
            connection.send(data[:-50])
            wait_until(lambda: lane.body_quota.reserved == 50)
            lane.begin_to_stop()
            assert unused.is_closed()
            lane.retire()  # is no step back
            answer = connection.ask(data[-50:])
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert connection.is_closed()
        wait_until(lambda: lane.stopped)


def test_open_to_ending_when_the_server_stops_while_a_request_is_under_way() -> None:
    """Its answer says so, and a request that comes after the stop is not begun."""
    with lane_server(drain_s=0.1) as lane:
        with Connection(lane) as connection, Connection(lane) as unused:
            connection.send(held(1))
            lane.wait_for(1)
            lane.begin_to_stop()
            assert unused.is_closed()
            connection.send(held(2))
            lane.answer(0)
            answer = connection.read()
            assert (int(answer.body), answer.header("connection")) == (1, "close")
            assert connection.is_closed()
        assert len(lane.handler.begun) == 1
        wait_until(lambda: lane.stopped)


def test_open_to_ending_when_the_client_ends_its_side(lane: LaneServer) -> None:
    with Connection(lane) as connection:
        connection.send(held(1) + request(b"12345", "/other") + held(2)[:-1])
        lane.wait_for(1)
        connection.end_sending()
        lane.retire()
        lane.answer(0)
        assert [int(answer.body) for answer in connection.read_all(2)] == [1, 5]
        assert connection.is_closed(), "half a request is no request"


def test_ending_drops_what_arrives(lane: LaneServer) -> None:
    """Also when it is whole, and its head in the cache."""
    with Connection(lane) as connection:
        assert_open(lane, connection)
        lane.handler.echo = False
        connection.send(held(1) + b"GARBAGE\r\n\r\n" + held(2))
        lane.wait_for(2)
        connection.send(held(3))
        lane.answer(1)
        answers = connection.read_all(2)
        assert [answer.status for answer in answers] == [200, 400]
        assert connection.is_closed()
    assert len(lane.handler.begun) == 2


def assert_open(lane: LaneServer, connection: Connection) -> None:
    lane.handler.echo = True
    answer = connection.ask(held())
    assert (answer.status, answer.header("connection")) == (200, None)
