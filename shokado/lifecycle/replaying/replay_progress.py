"""How far a replay is: a line every few seconds."""

import time
from collections.abc import Callable, Sequence

from shokado.lifecycle.progress import say
from shokado.lifecycle.replaying.candidate import ReplayedCall

EVERY_S = 5.0


class ReplayProgress:
    """Counts calls as they are replayed."""

    def __init__(self, of: int, clock: Callable[[], float] = time.monotonic, tell: Callable[[str], None] = say) -> None:
        """`of` is how many calls there are."""
        self._of = of
        self._clock = clock
        self._tell = tell
        self._began_at = self._told_at = clock()
        self._done = self._failed = 0

    def told(self, replayed: Sequence[ReplayedCall]) -> None:
        """Count these."""
        self._done += len(replayed)
        self._failed += sum(1 for one in replayed if one.fault)
        now = self._clock()
        if now >= self._told_at + EVERY_S and self._done < self._of:
            self._told_at = now
            rate = self._done / (now - self._began_at)
            left_s = (self._of - self._done) / rate
            self._tell(f"{self._done:,} of {self._of:,} requests, {self._failed:,} failed; {left_s:.0f} s to go")

    @property
    def in_words(self) -> str:
        """What has become of all, until now."""
        return f"{self._done:,} requests in {self._clock() - self._began_at:.1f} s, {self._failed:,} failed"
