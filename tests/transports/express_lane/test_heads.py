"""Which heads are cached, and how many."""

from shokado.transports.express_lane.heads import MAX_HEAD_BYTES, MAX_HEADS
from tests.support.raw_http import Connection, request
from tests.transports.lane_server import LaneServer, held


def test_a_head_is_remembered_once_and_only_if_it_is_short(lane: LaneServer) -> None:
    lane.handler.echo = True
    with Connection(lane) as connection:
        for number in range(5):
            assert int(connection.ask(held(number)).body) == number
        assert len(lane.heads) == 1
        connection.ask(held(headers=[("x-padding", "p" * MAX_HEAD_BYTES)]))
        connection.ask(request(b"x", "/other"))
        connection.ask(request(b"6\r\n000001\r\n0\r\n\r\n", "/held", headers=[("transfer-encoding", "chunked")]))
        assert len(lane.heads) == 1


def test_remembered_heads_are_bounded_in_number(lane: LaneServer) -> None:
    lane.handler.echo = True
    with Connection(lane) as connection:
        for number in range(MAX_HEADS + 10):
            assert int(connection.ask(held(number, headers=[("x-number", str(number))])).body) == number
            assert len(lane.heads) <= MAX_HEADS
        assert len(lane.heads) == 10
