"""Tallying: what this worker counted becomes part of the store's tallies, every few seconds.

In: how predictions ended, and comparisons with shadows, as they are told. Out: additions to the store. What cannot be
added now, because the store is away, is added when it is back.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from shokado.dispatch.fault import Fault
from shokado.dispatch.observers import Failure, PredictionObserver
from shokado.dispatch.request import Prediction
from shokado.dispatch.seen_rows import SeenCounts
from shokado.dispatch.shadow import Pair, ShadowCounts
from shokado.experiments.figures import Counted
from shokado.stores.follower import Follower
from shokado.stores.store import StoreUnavailable, Tally

EVERY_S = 2.0
"""How often counts go to the store: one write for all that was counted, and no more is lost with a worker."""

_COMPARED = (
    "shadow_rows", "shadow_disagreements", "shadow_difference_sum", "shadow_dropped_rows", "shadow_skipped_rows",
)  # fmt: skip


@dataclass(slots=True)
class _Ended:
    """How a version's requests ended since the last addition, as tallies over all environments."""

    requests: int = 0
    rows: int = 0
    on_time: int = 0
    failed: int = 0


class Tallying(PredictionObserver):
    """The task of a worker that adds its counts to the store. Methods belong to the event loop."""

    def __init__(
        self,
        follower: Follower,
        on_time_s: float = inf,
        clock: Callable[[], float] = time.time,
        seen: Callable[[], SeenCounts] = dict,
    ) -> None:
        """An answer within `on_time_s` is on time. `seen` hands over what was seen since it was last asked."""
        self.told_until = -inf
        """Until when, monotonic, all that was counted is in the store."""
        self._follower = follower
        self._on_time_s = on_time_s
        self._clock = clock
        self._seen = seen
        self._ended: defaultdict[str, _Ended] = defaultdict(_Ended)
        self._kept: defaultdict[Tally, float] = defaultdict(float)

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:
        ended, on_time_s = self._ended[version], self._on_time_s
        ended.requests += len(predictions)
        ended.rows += sum([prediction.row_count for prediction in predictions])
        ended.on_time += sum([prediction.latency_s <= on_time_s for prediction in predictions])

    def failed(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            if failure.version is not None and failure.fault is not Fault.CLIENT:
                self._ended[failure.version].failed += 1

    def compared(self, pair: Pair, counts: ShadowCounts) -> None:
        """Add what became of copies for a shadow since this was last told."""
        for name in _COMPARED:
            if number := getattr(counts, name):
                self._kept[Tally(pair.shadow, pair.environment, name)] += number

    async def run(self) -> None:
        """Put tallies into the store until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.add()

    async def add(self) -> None:
        """Add what was counted up to now."""
        began, counts = time.monotonic(), self._take()
        try:
            if counts:
                await self._follower.ask(self._follower.store.add, counts, self._clock())
        except StoreUnavailable:
            for tally, number in counts.items():
                self._kept[tally] += number
        else:
            self.told_until = began

    def _take(self) -> dict[Tally, float]:
        ended, self._ended = self._ended, defaultdict(_Ended)
        for (environment, name), number in self._seen().items():
            self._kept[Tally("", environment, name)] += number
        counts, self._kept = self._kept, defaultdict(float)
        for version, how in ended.items():
            for name, number in (
                (Counted.REQUESTS, how.requests),
                (Counted.ROWS, how.rows),
                (Counted.ON_TIME, how.on_time),
                (Counted.FAILED, how.failed),
            ):
                if number:
                    counts[Tally(version, "", name)] += number
        return counts
