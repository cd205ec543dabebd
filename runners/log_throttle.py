"""What may fail as often as there are requests is logged a few times, with how often it was not."""

import time
from collections.abc import Callable
from math import inf

import msgspec


class _Window(msgspec.Struct):
    begun_at: float = -inf
    lines: int = 0
    left_out: int = 0
    """Since the last line."""


class LogThrottle:
    """Says which lines the log gets: of each thing that they are about `lines` in `window_s`, and so in a minute one.

    Things are from a fixed set, as each is remembered. For one thread.
    """

    def __init__(self, lines: int = 1, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._window_s = window_s
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def left_out(self, about: str = "") -> int | None:
        """How many lines about this were left out before the one that is to be written now; None: it is one more."""
        window = self._windows.setdefault(about, _Window())
        now = self._clock()
        if now >= window.begun_at + self._window_s:
            window.begun_at, window.lines = now, 0
        if window.lines >= self._lines:
            window.left_out += 1
            return None
        window.lines += 1
        left_out, window.left_out = window.left_out, 0
        return left_out

    def is_over(self, about: str = "") -> bool:
        """Forget the lines about this, and tell whether there were any: the next one is written at once."""
        return self._windows.pop(about, None) is not None
