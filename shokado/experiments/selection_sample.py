"""The sample of selections: for which rows of each level the positive class is predicted, labels or not.

    answered predictions --(each with a chance of `segments.share`)--> counts by level --(every 5 s)--> the store

Labels may come for those alone who were selected; who is selected needs none. Predictions of which none counts cost a
subtraction together.
"""

import asyncio
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from shokado.dispatch.observers import PredictionObserver
from shokado.dispatch.request import Prediction
from shokado.experiments.prediction_id import MAX_CARRIED_ROWS
from shokado.experiments.segment_counts import SegmentCounted, Segmenting, is_binary
from shokado.stores.follower import Follower
from shokado.stores.level_counts import LevelCount
from shokado.stores.store import StoreUnavailable

ADD_EVERY_S = 5.0
"""So much of the counts is lost at most when a worker is killed."""


class SelectionSample(PredictionObserver):
    """Make one per worker. Methods belong to the event loop."""

    def __init__(
        self,
        follower: Follower,
        segmenting: Segmenting,
        share: float,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`share` is above 0, and `draw` gives numbers in [0, 1)."""
        self._follower = follower
        self._segmenting = segmenting
        self._share = share
        self._clock = clock
        self._draw = draw
        self._counts: defaultdict[LevelCount, float] = defaultdict(float)
        self._next = self._gap()
        """How many predictions are passed over until the next one that counts."""

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:
        at, told = self._next, len(predictions)
        while at < told:
            self._count(version, predictions[at])
            at += 1 + self._gap()
        self._next = at - told

    async def run(self) -> None:
        """Add counts to the store until cancelled."""
        while True:
            await asyncio.sleep(ADD_EVERY_S)
            await self.add()

    async def add(self) -> None:
        """Add what was counted up to now; while the store is away, it is kept."""
        counts, self._counts = self._counts, defaultdict(float)
        if not counts:
            return
        try:
            await self._follower.ask(self._follower.store.add_levels, counts, self._clock())
        except StoreUnavailable:
            for of, number in counts.items():
                self._counts[of] += number

    def _gap(self) -> int:
        """How many lie between two of a sample in which each is with the same chance: geometric."""
        return int(math.log(1 - self._draw()) / math.log(1 - self._share)) if self._share < 1 else 0

    def _count(self, version: str, prediction: Prediction) -> None:
        card = prediction.origin.card
        levels, scores = self._segmenting.of(card), prediction.scores
        if levels is None or scores is None or not is_binary(card):
            return
        rows = min(prediction.row_count, MAX_CARRIED_ROWS)
        codes = iter(levels.codes(prediction.rows, rows))
        for is_selected in (scores[:rows] >= card.positive_from).tolist():
            for feature in levels.features:
                level = feature.names[next(codes)]
                self._counts[LevelCount(version, feature.key, level, SegmentCounted.SERVED)] += 1
                if is_selected:
                    self._counts[LevelCount(version, feature.key, level, SegmentCounted.SERVED_SELECTED)] += 1
