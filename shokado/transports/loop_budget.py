"""A budget for each iteration of the event loop: so many requests may begin in it, and the others wait their turn.

A loop that finds a thousand requests would begin them all before it does anything else. Whoever needs several
iterations for an answer, as a probe of `/readyz` or an administrator behind ASGI, would wait for many thousands. The
kernel bounds its network drivers in the same way and by the same word.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

PER_ITERATION = 128
"""Requests. One row takes some 20 us, so that they hold the loop for 2 to 3 ms."""

CallSoon = Callable[[Callable[[], None]], object]


class LoopBudget:
    """The budget of one event loop. What exceeds it begins in one of the next iterations, in the order it came.

    Whoever begins a request counts `left` down, and calls `renew_soon` at the first of an iteration; at 0 it must
    `defer`.
    """

    __slots__ = ("_deferred", "left")

    def __init__(self) -> None:
        self.left = PER_ITERATION
        """How many requests may still begin in this iteration."""
        self._deferred: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def renew_soon(self, call_soon: CallSoon) -> None:
        """Renew the budget in the next iteration, which the loop's `call_soon` tells."""
        call_soon(lambda: self._renew(call_soon))

    def defer(self, start: Callable[..., None], *given: Any) -> None:
        """Call `start` with what is given when the budget allows."""
        self._deferred.append((start, given))

    def _renew(self, call_soon: CallSoon) -> None:
        deferred = self._deferred
        left = PER_ITERATION
        while deferred and left:
            start, given = deferred.popleft()
            left -= 1
            start(*given)
        self.left = left
        if left < PER_ITERATION:
            self.renew_soon(call_soon)
