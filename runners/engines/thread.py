"""Threads for foreign code that may never return."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def begin_in_own_thread(function: Callable[..., Result], *arguments: object) -> "asyncio.Future[Result]":
    """Call a function in a thread that holds up nobody: neither other threads, nor the end of the process.

    The future has its outcome. Nobody need wait for it: the thread goes on when the future is cancelled.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
            # Where nobody waits any more it is no news that nobody has asked for it.
            outcome.exception()
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # none only where the function returns it

    def work() -> None:
        result = error = None
        try:
            result = function(*arguments)
        except BaseException as raised:
            error = raised
        # A loop that is closed waits for nothing any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name=f"shokado-{function.__name__}", daemon=True).start()
    return outcome


async def in_own_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """The outcome of a function that is called like that.

    When it is cancelled it waits for the thread nevertheless, so that a task whose thread is busy is not done; when it
    is cancelled once more, it leaves the thread.
    """
    outcome = begin_in_own_thread(function, *arguments)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        await asyncio.wait([outcome])
        raise
