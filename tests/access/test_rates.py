"""Rates in memory: how many get through, when the next may, and that memory is bounded."""

import asyncio
from typing import Any

from access.rates import BoundedMemory, Rates
from configuration.settings import RateSettings


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def rates(clock: Clock, **settings: Any) -> Rates:
    return Rates(RateSettings(**settings), "paper", clock)


def test_a_window_takes_its_number_and_the_next_begins_anew() -> None:
    clock = Clock()
    limited = rates(clock, per_address="2/minute")
    assert [limited.take("", "a") is None for _ in range(3)] == [True, True, False]
    clock.now += 20
    refused = limited.take("", "a")
    assert refused is not None
    assert (refused.status, refused.code, refused.retry_after_s) == (429, "rate_limited", 40)
    assert refused.headers["x-ratelimit-reset"] == "1060"
    assert limited.take("", "b") is None
    clock.now += 40
    assert limited.take("", "a") is None


def test_every_limit_of_a_list_holds_and_keys_and_addresses_apart() -> None:
    limited = rates(Clock(), per_key="5/second; 6/hour", per_address="2/second")
    assert limited.take("ci", "a") is None
    assert limited.take("ci", "a") is None
    assert limited.take("ci", "a") is not None, "of the address"
    assert limited.take("ci", "b") is None
    assert limited.take("ci", "b") is None
    assert limited.take("ci", "c") is not None, "of the key"
    assert limited.take("other", "c") is None
    assert limited.take("", "") is None, "neither is known"


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    clock = Clock()
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
    clock = Clock()
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
