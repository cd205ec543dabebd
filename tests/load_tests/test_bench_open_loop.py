"""The open loop against a real server on a loopback port: requests leave on time, and late answers are told as late."""

import pytest

from load_tests.bench import open_loop
from tests.support.raw_http import request
from tests.transports.lane_server import lane_server


def test_every_request_of_the_schedule_is_sent_and_told_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection for each, and all the time in the world: nothing is left unsent on a busy machine."""
    monkeypatch.setattr(open_loop, "PATIENCE_S", 100.0)
    requests = [request(b"12345", "/other"), request(b"", "/held", content_type="a" * 20_000)]
    with lane_server() as lane:
        lane.handler.echo = True
        seen = open_loop.run(lane.address, requests[:1], connections=60, rate=40, seconds=0.5)
        assert {status: len(times) for status, times in seen.latencies_s.items()} == {200: 20}
        assert seen.per_second(200) == pytest.approx(40)
        assert (seen.broken, seen.unsent) == (0, 0)
        refused = open_loop.run(lane.address, requests[1:], connections=6, rate=4, seconds=0.5)
        assert {status: len(times) for status, times in refused.latencies_s.items()} == {431: 2}


def test_without_a_rate_each_connection_sends_when_it_has_its_answer() -> None:
    with lane_server() as lane:
        lane.handler.echo = True
        seen = open_loop.run(lane.address, [request(b"1", "/held")], connections=3, rate=0, seconds=1.5)
        assert seen.per_second(200) > 30
        assert not seen.broken


def test_what_waits_for_a_connection_counts_from_when_it_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one connection gets no answer: its request is broken in the end, and the others were never sent."""
    monkeypatch.setattr(open_loop, "PATIENCE_S", 0.1)
    with lane_server() as lane:
        seen = open_loop.run(lane.address, [request(b"1", "/held")], connections=1, rate=20, seconds=0.5)
        assert (seen.broken, seen.unsent) == (1, 29)
        assert not seen.latencies_s
