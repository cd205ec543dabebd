"""The evidence sender: puts what a worker has gathered for experiments into the store, every few seconds, once.

In: what gathers, which makes a batch when it is asked. Out: numbered batches, of which the store takes each one once.
"""

import asyncio
import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from shokado.stores.evidence import EvidenceBatch
from shokado.stores.follower import Follower
from shokado.stores.store import StoreUnavailable

EVERY_S = 2.0
"""How often evidence goes to the store; so much of it is lost with a worker that is killed."""
TOLD_WITHIN_S = EVERY_S + 1.0
"""Within which what was answered is in the store, and labels that arrived are."""
MakeBatch = Callable[[int], EvidenceBatch]
"""Makes the batch of that number of what was taken; once more where the store was away."""


class EvidenceSender(ABC):
    """Gathers on behalf of one worker, and sends. Methods belong to the event loop."""

    def __init__(self, follower: Follower, clock: Callable[[], float]) -> None:
        self._follower = follower
        self._clock = clock
        self._numbers = itertools.count(1)
        self._unsent: Callable[[], EvidenceBatch] | None = None
        """Makes what is being added, or could not be."""

    @abstractmethod
    def _take(self) -> MakeBatch | None:
        """Take what was gathered, and begin anew; None where there is nothing."""

    async def run(self) -> None:
        """Put what was gathered into the store until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.add()

    async def add(self) -> None:
        """Add what was gathered up to now, and before it what could not be added last time."""
        for _ in range(2):
            if self._unsent is None:
                if (make := self._take()) is None:
                    return
                self._unsent = partial(make, next(self._numbers))
            with contextlib.suppress(StoreUnavailable):
                # What fails may be there all the same: sent again under its number, it counts once.
                await self._follower.ask(self._store, self._unsent)
                self._unsent = None

    def _store(self, make: Callable[[], EvidenceBatch]) -> None:
        """Make a batch and add it, in the follower's thread: thousands of units take a while."""
        self._follower.store.add_evidence(make(), self._clock())
