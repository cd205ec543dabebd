"""The guard before a route: what it hands on, in what shape it refuses, and that nothing of a request is left."""

import asyncio
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from configuration.settings import AccessSettings
from shokado.access.gate import Gate
from shokado.access.keys import Role, add_key, digest_of
from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem, malformed
from shokado.transports.admission import AdmissionHandler
from shokado.transports.body_quota import BodyQuota
from shokado.transports.exchange import Exchange
from shokado.transports.plain import Predictions
from shokado.transports.routes import Routes
from tests.support.garbage import NOISE, uncollected
from tests.support.redis_server import RedisServer, needs_redis
from tests.transports.memory_exchange import MemoryExchange


@dataclass
class Work:
    """What the handler behind was given."""

    head: RequestHead
    body: bytes
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Behind:
    """Keeps what it gets."""

    path = "/behind"

    def __init__(self) -> None:
        self.begun: list[Work] = []

    def judge(self, head: RequestHead, _peer: str) -> Problem | None:
        return head.problem

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> Work:
        self.begun.append(Work(head, body))
        if head.problem is not None:
            exchange.reply(head.problem.status, b"x: y\r\n", b"")
        return self.begun[-1]


def guarded(folder: Path, **access: Any) -> tuple[AdmissionHandler, Behind, bytes]:
    """The guard, what is behind it, and the digest of a key."""
    secret = add_key(folder / "keys.yaml", "ci", Role.PREDICT)
    gate = Gate(AccessSettings.model_validate({"keys_file": "keys.yaml", **access}), "paper", folder)
    behind = Behind()
    return AdmissionHandler(behind, gate), behind, digest_of(secret.encode())


def codes(behind: Behind) -> list[str | None]:
    return [work.head.problem.code if work.head.problem is not None else None for work in behind.begun]


def test_who_has_no_key_is_refused_by_the_route_itself(tmp_path: Path) -> None:
    guard, behind, credential = guarded(tmp_path)
    for head in (RequestHead(), RequestHead(credential=b"x" * 32), RequestHead(credential=credential)):
        guard.begin(head, b"body", MemoryExchange())
    assert codes(behind) == ["missing_key", "unknown_key", None]
    assert [work.body for work in behind.begun] == [b"", b"", b"body"], "what is refused is not read"
    by_key, by_reason = guard.gate.take_counts()
    assert (by_key, by_reason) == ({("ci", "admitted"): 1}, {"missing_key": 1, "unknown_key": 1})
    assert guard.gate.take_counts() == ({}, {})


def test_what_is_refused_anyway_is_refused_for_that(tmp_path: Path) -> None:
    """The lane refuses a body that is too long before it hands on the headers."""
    guard, behind, _ = guarded(tmp_path)
    guard.begin(RequestHead(problem=malformed("long")), b"", MemoryExchange())
    assert codes(behind) == ["malformed_body"]


def test_rates_count_by_key_and_peer(tmp_path: Path) -> None:
    guard, behind, credential = guarded(tmp_path, rates={"per_address": "2/hour"})
    for _ in range(3):
        guard.begin(RequestHead(credential=credential), b"", MemoryExchange())
    assert codes(behind) == [None, None, "rate_limited"]
    assert guard.gate.take_counts()[0] == {("ci", "admitted"): 2, ("ci", "refused"): 1}


def test_refusals_count_by_their_address(tmp_path: Path) -> None:
    guard, behind, credential = guarded(tmp_path, rates={"per_address": "3/hour"})
    for head in (RequestHead(), RequestHead(credential=b"x" * 32), RequestHead(problem=malformed("bad"))):
        guard.begin(head, b"body", MemoryExchange())
    guard.begin(RequestHead(credential=b"x" * 32), b"body", MemoryExchange())
    guard.begin(RequestHead(credential=credential), b"body", MemoryExchange())
    assert codes(behind) == ["missing_key", "unknown_key", "malformed_body", "rate_limited", "rate_limited"]
    assert {work.body for work in behind.begun[:2]} == {b""}


def test_requests_of_another_method_count_by_their_own_address(tmp_path: Path) -> None:
    guard, behind, _ = guarded(tmp_path, trusted_proxies=["10.0.0.0/8"], rates={"per_address": "1/hour"})
    predictions = Predictions(1000, BodyQuota(10_000))
    predictions.routes = Routes([guard])

    async def ask() -> None:
        transport = httpx.ASGITransport(predictions, client=("10.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
            for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
                await client.get(behind.path, headers={"X-Forwarded-For": address})

    asyncio.run(ask())
    assert codes(behind) == ["method_not_allowed", "rate_limited", "method_not_allowed"]


def test_a_head_is_judged_without_being_counted(tmp_path: Path) -> None:
    guard, behind, credential = guarded(tmp_path, rates={"per_address": "1/hour"})
    good, bad = RequestHead(credential=credential), RequestHead()

    def verdict(head: RequestHead) -> str | None:
        problem = guard.judge(head, MemoryExchange.peer)
        return problem.code if problem is not None else None

    assert [verdict(head) for head in (good, good, bad)] == [None, None, "missing_key"]
    guard.begin(good, b"", MemoryExchange())
    assert [verdict(head) for head in (good, bad)] == ["rate_limited", "missing_key"]
    assert codes(behind) == [None]


def test_nothing_of_a_request_is_left_to_the_garbage_collector(tmp_path: Path) -> None:
    guard, behind, credential = guarded(tmp_path, rates={"per_key": "5/hour"})
    heads = [RequestHead(credential=credential), RequestHead()]
    with uncollected():
        for head in heads * NOISE:
            guard.begin(head, b"body", MemoryExchange())
        behind.begun.clear()
        assert gc.collect() < NOISE


def test_without_anything_to_ask_there_is_no_guard() -> None:
    assert not Gate(AccessSettings(), "paper", Path()).guards_predictions
    limited = AccessSettings.model_validate({"rates": {"per_key": "1/second"}})
    assert Gate(limited, "paper", Path()).guards_predictions


@needs_redis
@pytest.mark.parametrize("gone", ["while it waits", "while it is worked on"])
def test_a_client_may_leave_at_any_time(tmp_path: Path, gone: str) -> None:
    async def run(url: str) -> tuple[Behind, int]:
        guard, behind, credential = guarded(tmp_path, rates={"per_key": "5/hour", "url": url})
        waiting = guard.begin(RequestHead(credential=credential), b"", MemoryExchange())
        assert waiting is not None
        if gone == "while it is worked on":
            while not behind.begun:
                await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.sleep(0)
        others = len(asyncio.all_tasks()) - 1
        assert guard.gate.rates is not None
        await guard.gate.rates.close()
        return behind, others

    with RedisServer(tmp_path / "redis") as store:
        behind, others = asyncio.run(run(store.url))
    assert [work.cancelled for work in behind.begun] == ([True] if gone == "while it is worked on" else [])
    assert others == 0
