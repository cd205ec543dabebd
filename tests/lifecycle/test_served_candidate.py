"""A candidate that is served, by a stand-in for the server: what it asks, how fast, and when it gives up."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shokado.lifecycle.errors import GatewayAway, GatewayRefused, ReplayRefused
from shokado.lifecycle.replaying.logged_calls import LoggedCall, calls_in
from shokado.lifecycle.replaying.replay_order import ReplayOrder
from shokado.lifecycle.replaying.served_candidate import MOST_UNANSWERED, Schedule, ServedCandidate
from tests.support.paper_log import KINDS, PaperLog, paper_card

FEATURES = [KINDS["width"], KINDS["city"]]
VERSION: dict[str, Any] = {
    "version": "v3", "ready": True, "state": "ready", "active_in": [], "weights": {}, "shadow_in": [], "aliases": ["c"],
    "model": "paper", "signature": {"task": "binary", "features": FEATURES, "classes": [0, 1]},
}  # fmt: skip
ANSWER: dict[str, Any] = {
    "predictions": [0.75], "classes": [1], "version": "v3", "reason": "PINNED", "generation": 1, "request_id": "r",
    "prediction_id": "p", "latency_ms": 1.5,
}  # fmt: skip
Answers = Callable[[int], tuple[int, Any] | None]
"""What the n-th prediction is answered: a status and JSON; None: nothing, the connection is closed."""


@dataclass
class StandIn:
    url: str
    asked: list[tuple[dict[str, str], Any]] = field(default_factory=list)


@contextmanager
def standing_in(answers: Answers, version: dict[str, Any]) -> Iterator[StandIn]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(200, version)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.asked.append((dict(self.headers), body))
            answer = answers(len(found.asked) - 1)
            if answer is None:
                self.close_connection = True
                return
            self.reply(*answer)

        def reply(self, status: int, content: Any) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = StandIn(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def calls(folder: Path, number: int) -> list[LoggedCall]:
    PaperLog(folder).write(paper_card(), [[at / 2, at % 2, 40] for at in range(number)], [0.5] * number)
    return list(calls_in(folder, ReplayOrder(0.0, 2e9)))


def candidate(server: StandIn, rate: float = 10_000, concurrency: int = 1) -> ServedCandidate:
    return ServedCandidate(server.url, "c", None, rate, concurrency)


def ignore(_: object) -> None:
    pass


def test_each_request_is_sent_pinned_by_name_and_marked(tmp_path: Path) -> None:
    with standing_in(lambda _: (200, ANSWER), VERSION) as server:
        replayed = candidate(server).replay(calls(tmp_path, 2), ignore)
    (first, one), (_, other) = server.asked
    assert (one, other) == (
        {"instances": [{"width": 0.0, "city": "Bern"}]},
        {"instances": [{"width": 0.5, "city": "Basel"}]},
    )
    assert first["X-Model-Version"] == "v3", "an alias is told apart from the version that it names"
    assert first["X-Request-ID"].startswith("shokado-replay-")
    assert "X-Unit-ID" not in first
    assert [(one.latency_ms, one.fault) for one in replayed] == [(1.5, "")] * 2
    assert replayed[0].scores is not None
    assert replayed[0].scores.tolist() == [0.75]
    assert replayed[0].positions is not None
    assert replayed[0].positions.tolist() == [1]


def test_what_is_refused_fails_alone(tmp_path: Path) -> None:
    refusal = {"error": {"code": "unknown_level", "message": "no such city"}, "request_id": "r"}
    answers = [(200, ANSWER), (422, refusal), (200, ANSWER | {"version": "v1", "reason": "FALLBACK"})]
    with standing_in(lambda at: answers[at], VERSION) as server:
        replayed = candidate(server).replay(calls(tmp_path, 3), ignore)
    assert [(one.fault, one.message) for one in replayed] == [
        ("", ""), ("unknown_level", "no such city"), ("another_version", "v1 answered: FALLBACK"),
    ]  # fmt: skip


def test_a_server_that_went_away_is_given_up(tmp_path: Path) -> None:
    with standing_in(lambda at: (200, ANSWER) if at < 5 else None, VERSION) as server:
        told: list[str] = []
        with pytest.raises(GatewayAway, match="No server answers"):
            candidate(server).replay(calls(tmp_path, 100), lambda done: told.extend(one.fault for one in done))
    assert told == [""] * 5 + ["no_answer"] * (MOST_UNANSWERED - 1)


def test_a_key_that_is_taken_back_ends_it(tmp_path: Path) -> None:
    denied = {"error": {"code": "unauthorized", "message": "no key"}, "request_id": "r"}
    with standing_in(lambda at: (200, ANSWER) if at < 2 else (401, denied), VERSION) as server:
        with pytest.raises(GatewayRefused, match="wants a key"):
            candidate(server, concurrency=4).replay(calls(tmp_path, 20), ignore)
        assert len(server.asked) < 20


def test_a_version_that_is_not_ready_is_not_asked() -> None:
    with standing_in(lambda _: None, VERSION | {"ready": False, "state": "starting"}) as server:
        with pytest.raises(ReplayRefused, match=r"v3 of .* is starting"):
            candidate(server)
        assert server.asked == []


@pytest.mark.parametrize("address", ["localhost:3000", "ftp://localhost", "http://localhost:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises((GatewayRefused, GatewayAway)):
        ServedCandidate(address, "v3", None, 1, 1)


def test_turns_keep_their_distance_and_are_not_made_up_for() -> None:
    now = [100.0]
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    async def take() -> None:
        schedule = Schedule(4, lambda: now[0], sleep)
        for _ in range(3):
            await schedule.turn()
        now[0] += 10
        for _ in range(2):
            await schedule.turn()

    asyncio.run(take())
    assert slept == [0.25, 0.25, 0.25]
