"""What becomes of the connections of a server that stops."""

import contextlib
import time

from tests.support.raw_http import Connection, request
from tests.support.waiting import wait_until
from tests.transports.lane_server import LaneServer, held, lane_server


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
