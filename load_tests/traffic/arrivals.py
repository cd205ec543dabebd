"""When requests arrive: a Poisson process, which goes on whatever the answers do. Pure: time and chance are arguments.

The sum of such processes is one with the sum of their rates, so each user has its own.
"""

from collections.abc import Iterator
from random import Random


class Arrivals:
    """Times at which requests are due, on average `rate` a second from `start_s` on. Source: exponential gaps."""

    def __init__(self, rate: float, start_s: float, random: Random) -> None:
        self._rate = rate
        self._random = random
        self.next_s = start_s + random.expovariate(rate)
        """When the next request is due."""

    def until(self, now_s: float) -> Iterator[float]:
        """When the requests were due that were not told yet, up to now, oldest first, however many there are."""
        while self.next_s <= now_s:
            due_s = self.next_s
            self.next_s += self._random.expovariate(self._rate)
            yield due_s
