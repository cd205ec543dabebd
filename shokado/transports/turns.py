"""Turns of the event loop: how many requests may begin in each.

A loop that finds a thousand requests would begin them all before it does anything else. Whoever needs several turns for
an answer, as a probe of `/readyz` or an administrator behind the plain door, would wait for many thousands.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

PER_TURN = 128

CallSoon = Callable[[Callable[[], None]], object]


class Turns:
    """Of one event loop. What may not begin at once begins in one of the next turns, in the order it came.

    Whoever begins a request counts `left` down, and calls `await_next` at the first of a turn; at 0 it must `wait`.
    """

    __slots__ = ("_waiting", "left")

    def __init__(self) -> None:
        self.left = PER_TURN
        """How many may still begin in this turn."""
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def await_next(self, call_soon: CallSoon) -> None:
        """Have the next turn told by the loop's `call_soon`."""
        call_soon(lambda: self._next(call_soon))

    def wait(self, start: Callable[..., None], *given: Any) -> None:
        """Call `start` with what is given when its turn comes."""
        self._waiting.append((start, given))

    def _next(self, call_soon: CallSoon) -> None:
        waiting = self._waiting
        left = PER_TURN
        while waiting and left:
            start, given = waiting.popleft()
            left -= 1
            start(*given)
        self.left = left
        if left < PER_TURN:
            self.await_next(call_soon)
