"""What is known of a store is young when a request is answered, whatever the process's clocks did meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from shokado.function.bounded_look import BoundedLook


class Looking:
    """A store that is looked at, and clocks that are set by hand."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.ticks = 50.0
        self.looks = 0
        self.held: asyncio.Event | None = None
        """What a look waits for."""
        self.bounded = BoundedLook(self.look, 1.0, 0.05, lambda: self.wall, lambda: self.ticks)

    async def look(self) -> None:
        self.looks += 1
        if self.held is not None:
            await self.held.wait()

    def pass_time(self, wall_s: float, ticks_s: float) -> None:
        self.wall += wall_s
        self.ticks += ticks_s


def run(scenario: Callable[[Looking], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(Looking()), 20)

    asyncio.run(bounded())


def test_it_looks_first_and_then_when_what_is_known_is_old() -> None:
    async def scenario(store: Looking) -> None:
        for _ in range(3):
            await store.bounded.refresh()
        assert store.looks == 1
        store.pass_time(0.9, 0.9)
        await store.bounded.refresh()
        assert store.looks == 1
        store.pass_time(0.2, 0.2)
        await store.bounded.refresh()
        assert store.looks == 2

    run(scenario)


def test_an_hour_counts_by_whichever_clock_goes_on() -> None:
    async def scenario(store: Looking) -> None:
        for number, frozen in enumerate([(3600.0, 0.0), (0.0, 3600.0), (-3600.0, 0.1)], 2):
            await store.bounded.refresh()
            store.pass_time(*frozen)
            await store.bounded.refresh()
            assert store.looks == number

    run(scenario)


def test_a_look_that_takes_long_holds_up_nobody_for_long() -> None:
    async def scenario(store: Looking) -> None:
        store.held = asyncio.Event()
        await store.bounded.refresh()
        assert not store.bounded.is_fresh
        await store.bounded.refresh()
        assert store.looks == 1, "both wait for the same look"
        store.held.set()
        await store.bounded.refresh()
        assert (store.looks, store.bounded.is_fresh) == (1, True)

    run(scenario)


def test_what_was_read_before_it_stood_still_is_no_look_of_now() -> None:
    async def scenario(store: Looking) -> None:
        store.held = asyncio.Event()
        await store.bounded.refresh()
        store.pass_time(3600.0, 0.0)
        store.held.set()
        await store.bounded.refresh()
        assert (store.looks, store.bounded.is_fresh) == (2, True)

    run(scenario)
