"""Rates in memory: how many get through, when the next may, and that memory is bounded."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from configuration.settings import RateSettings
from shokado.access.rates import BoundedMemory, Rates
from tests.support.clock import HandClock
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import wait_until


def rates(clock: HandClock, **settings: Any) -> Rates:
    return Rates(RateSettings(**settings), "paper", clock, now=lambda: clock.now + 500_000)


def test_a_window_takes_its_number_and_the_next_begins_anew() -> None:
    clock = HandClock()
    limited = rates(clock, per_address="2/minute")
    assert [limited.take("", "a") is None for _ in range(3)] == [True, True, False]
    clock.now += 20
    refused = limited.take("", "a")
    assert refused is not None
    assert (refused.code, refused.retry_after_s) == ("rate_limited", 40)
    assert refused.headers["x-ratelimit-reset"] == "501060"
    assert limited.take("", "b") is None
    clock.now += 40
    assert limited.take("", "a") is None


def test_a_time_of_day_that_is_set_back_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that jumps ahead let anybody through."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    limited = Rates(RateSettings(per_address="2/second"), "paper")
    assert [limited.take("", "a") is None for _ in range(3)] == [True, True, False]
    now += 86_400
    assert limited.take("", "a") is not None
    now -= 2 * 86_400
    refused = limited.take("", "a")
    assert refused is not None
    assert refused.retry_after_s is not None
    assert refused.retry_after_s <= 1
    wait_until(lambda: limited.take("", "a") is None, 5)


@needs_redis
def test_a_redis_whose_time_of_day_was_set_back_locks_nobody_out(tmp_path: Path) -> None:
    """It keeps until when a window lasts, so that a window of a minute may have a day to go."""

    async def run(url: str, keys: redis.Redis) -> list[bool]:
        limited = rates(HandClock(), per_address="2/minute", url=url)
        taken = [await limited.take_shared("", "a") is None for _ in range(3)]
        for key in keys.scan_iter():
            keys.expire(key, 86_400)
        taken += [await limited.take_shared("", "a") is None for _ in range(3)]
        await limited.close()
        return taken

    with RedisServer(tmp_path / "redis") as server, server.client() as keys:
        assert asyncio.run(run(server.url, keys)) == [True, True, False, True, True, False]


def test_every_limit_of_a_list_holds_and_keys_and_addresses_apart() -> None:
    limited = rates(HandClock(), per_key="5/second; 6/hour", per_address="2/second")
    assert limited.take("ci", "a") is None
    assert limited.take("ci", "a") is None
    assert limited.take("ci", "a") is not None, "of the address"
    assert limited.take("ci", "b") is None
    assert limited.take("ci", "b") is None
    assert limited.take("ci", "c") is not None, "of the key"
    assert limited.take("other", "c") is None
    assert limited.take("", "") is None, "neither is known"


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    clock = HandClock()
    memory = BoundedMemory(clock, capacity=3)
    for name in "abca":
        memory.incr(name, 60)
    assert memory.incr("d", 60) == 1
    assert (memory.get("a"), memory.get("b"), memory.get("d")) == (0, 1, 1)
    assert memory.reset() == 3
    clock.now += 61
    memory.incr("e", 60)
    clock.now += 61
    assert memory.get("e") == 0


def test_a_redis_that_is_away_is_tried_again_after_a_while(caplog: Any) -> None:
    clock = HandClock()
    limited = rates(clock, per_address="2/minute", url="redis://:word@127.0.0.1:9/0")

    async def run() -> list[bool]:
        taken = [await limited.take_shared("", "a") is None for _ in range(3)]
        clock.now += 2
        taken.append(await limited.take_shared("", "b") is None)
        await limited.close()
        return taken

    assert asyncio.run(run()) == [True, True, False, True]
    assert limited.away
    assert caplog.text.count("away") == 1, "told once"
    assert "word" not in caplog.text
