"""Requests that come in pieces: heads are judged before bodies are kept, and what is kept is bounded."""

import contextlib
import time

import pytest

from shokado.dialects.problem import Problem
from tests.support.raw_http import Connection, request
from tests.support.waiting import wait_until
from tests.transports.lane_server import LaneServer, held, lane_server

REFUSAL = Problem("missing_key", "show a key")


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
