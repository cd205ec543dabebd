"""Ejection: when a version whose calls fail is left alone, and for how long.

Pure but for its clock: outcomes of calls go in, a verdict comes out. The idea is Envoy's outlier detection: failures in
a row, or their share in a window, eject; each ejection that follows soon lasts longer.
"""

from collections.abc import Callable

WINDOW_S = 10.0
"""How long failures are counted together: long enough for `MIN_CALLS` at a few calls a second."""
MIN_CALLS = 20
"""Calls in a window, from which on the share of failures means something."""
MAX_PAUSE_S = 300.0
"""The longest ejection: a far side that is mended is asked again within five minutes."""
FORGIVEN_AFTER_S = 60.0
"""How long no failure may eject before the next ejection is a first one again."""


class Ejection:
    """The verdict on one version in one worker."""

    def __init__(
        self, failures_in_a_row: int, failure_share: float, first_pause_s: float, clock: Callable[[], float]
    ) -> None:
        self._failures_in_a_row = failures_in_a_row
        self._failure_share = failure_share
        self._first_pause_s = first_pause_s
        self._clock = clock
        self._in_a_row = 0
        self._window_until = clock() + WINDOW_S
        self._calls = self._failures = 0
        self._pause_s = 0.0
        self._returned_at = clock()

    def succeeded(self) -> None:
        """A call was answered."""
        self._turn_window()
        self._calls += 1
        self._in_a_row = 0

    def failed(self) -> bool:
        """A call failed; true when that is one too many."""
        self._turn_window()
        self._calls += 1
        self._failures += 1
        self._in_a_row += 1
        share = self._failures / self._calls if self._calls >= MIN_CALLS else 0.0
        return self._in_a_row >= self._failures_in_a_row or share >= self._failure_share

    def pause_s(self) -> float:
        """How long to leave it alone, from now on: twice as long as the last time, if that was not long ago."""
        forgiven = self._clock() - self._returned_at >= FORGIVEN_AFTER_S
        self._pause_s = self._first_pause_s if forgiven or not self._pause_s else min(2 * self._pause_s, MAX_PAUSE_S)
        return self._pause_s

    def returned(self) -> None:
        """The far side gets calls again, and starts anew."""
        self._returned_at = self._clock()
        self._in_a_row = self._calls = self._failures = 0
        self._window_until = self._returned_at + WINDOW_S

    def _turn_window(self) -> None:
        now = self._clock()
        if now >= self._window_until:
            self._window_until = now + WINDOW_S
            self._calls = self._failures = 0
