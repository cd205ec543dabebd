"""Tallying: what this worker counted becomes part of the store's tallies, every few seconds.

In: outcomes of requests and comparisons with shadows, from their own counters. Out: additions to the store. What
cannot be added now, because the store is away, is added when it is back.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from shokado.experiments.figures import Counted
from shokado.monitoring.metrics import Outcomes
from shokado.stores.follower import Follower
from shokado.stores.store import StoreUnavailable, Tally

EVERY_S = 2.0
"""How often counts go to the store: one write for all that was counted, and no more is lost with a worker."""


class Tallying:
    """The task of a worker that adds its counts to the store. Methods belong to the event loop."""

    def __init__(
        self,
        follower: Follower,
        take: Callable[[], Mapping[Tally, float]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`take` hands over what was counted since it was last called."""
        self._follower = follower
        self._take = take
        self._clock = clock
        self._kept: defaultdict[Tally, float] = defaultdict(float)

    async def run(self) -> None:
        """Put tallies into the store until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.add()

    async def add(self) -> None:
        """Add what was counted up to now."""
        for tally, number in self._take().items():
            self._kept[tally] += number
        if not self._kept:
            return
        counts, self._kept = self._kept, defaultdict(float)
        try:
            await self._follower.ask(self._follower.store.add, counts, self._clock())
        except StoreUnavailable:
            for tally, number in counts.items():
                self._kept[tally] += number


def tallies_of(outcomes: Mapping[str, Outcomes]) -> dict[Tally, float]:
    """How requests ended, by version, as tallies over all environments."""
    return {
        Tally(version, "", name): float(number)
        for version, ended in outcomes.items()
        for name, number in (
            (Counted.REQUESTS, ended.requests),
            (Counted.ROWS, ended.rows),
            (Counted.ON_TIME, ended.on_time),
            (Counted.FAILED, ended.failed),
        )
        if number
    }
