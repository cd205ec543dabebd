"""Waiting for a condition, and never for a while: in a thread, or on an event loop."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

PATIENCE_S = 150
"""Half of what pytest gives a test, for machines with much else to do: only a test that fails waits so long."""

Result = TypeVar("Result")


def wait_until(condition: Callable[[], object], timeout_s: float = 30, look_every_s: float = 0.02) -> None:
    """Return as soon as the condition holds; fail when it does not in time. What is dear to look at, look at less."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s: {condition}"
        time.sleep(look_every_s)


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds, which somebody else on the loop, or beside it, sees to."""
    while not condition():
        await asyncio.sleep(0.005)


async def eventually(condition: Callable[[], object]) -> None:
    """The same for what takes turns of the loop and no time."""
    while not condition():
        await asyncio.sleep(0)


def in_time(scenario: Coroutine[Any, Any, Result]) -> Result:
    """Run it on a loop of its own; fail when it does not end."""
    return asyncio.run(asyncio.wait_for(scenario, PATIENCE_S))
