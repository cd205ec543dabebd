"""The watch over drift: counts a sample of what this worker scores, and adds it to what all workers count.

    batches, cached answers --(sample)--> every `flush_s`, in a thread: counts in the reference's bins --> the store
    the store --> counts of all workers over an hour or a day --> `VersionDrift`

The path of a request pays an addition for most batches. What cannot be added now, because the store is away, is added
when it is back, to the five minutes that it belongs to.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from configuration.drift_settings import DriftSettings
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import ModelFile
from runners.artefacts.integrity import DamagedFile
from runners.artefacts.reference import Counts, read_reference
from runners.batching.observer import BatchObserver, EndedBatch
from shokado.dispatch.observers import Failure, PredictionObserver
from shokado.dispatch.request import Prediction
from shokado.drift.column_counts import ColumnCounts
from shokado.drift.version_drift import DriftWindow, Unwatched, VersionDrift, drift_of, nothing_of
from shokado.monitoring.row_sample import RowSample
from shokado.stores.follower import Follower
from shokado.stores.store import BINNED_BUCKET_S, Binned, StoreUnavailable, binned_bucket_of

KEEP_S = DriftWindow.DAY.seconds + 2 * BINNED_BUCKET_S
"""How long counts are kept: for the longest window, and the five minutes that it begins in."""
_STARTING = "its reference is being read; ask again in a moment"
_REFUSED_AS = "unknown_level"

logger = logging.getLogger("bentoml.shokado")


class DriftWatch(BatchObserver, PredictionObserver):
    """Counts rows of the versions that have a reference. Methods belong to the event loop."""

    def __init__(
        self,
        settings: DriftSettings,
        follower: Follower,
        artefacts: Callable[[], Mapping[str, Artefact]],
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`artefacts` are those of the versions in memory."""
        self._settings = settings
        self._follower = follower
        self._artefacts = artefacts
        self._clock = clock
        self._draw = draw
        self._read: dict[str, tuple[str, ModelFile | None]] = {}
        """What each version was when its reference was read."""
        self._watched: dict[str, ColumnCounts | Unwatched] = {}
        self._samples: dict[str, RowSample] = {}
        self._refused: Counter[str] = Counter()
        self._kept: defaultdict[int, dict[Binned, Counts]] = defaultdict(dict)
        """Counts that are not in the store yet, by the beginning of their five minutes."""
        self._one_at_a_time = asyncio.Lock()

    def batch(self, batch: EndedBatch) -> None:
        sample = self._samples.get(batch.version)
        if sample is None or batch.scores is None:
            return
        if batch.failures:
            scored = np.setdiff1d(np.arange(len(batch.rows)), list(batch.failures))
            sample.add(batch.rows[scored], batch.scores[scored])
        else:
            sample.add(batch.rows, batch.scores)

    def answered_from_cache(self, version: str, predictions: Sequence[Prediction]) -> None:
        """Rows that were scored before, and so are in no batch, were answered again."""
        sample = self._samples.get(version)
        if sample is None:
            return
        rows = sum([prediction.row_count for prediction in predictions])
        if not sample.passed(rows):
            joined = predictions[0].origin.row_format.join([prediction.rows for prediction in predictions], rows)
            sample.add(joined, np.concatenate([prediction.scores for prediction in predictions]))

    def failed(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            if failure.kind == _REFUSED_AS and failure.feature is not None:
                self._refused[failure.feature] += 1

    async def run(self) -> None:
        """Follow what versions there are, and add counts to the store, until cancelled."""
        while True:
            try:
                await self.follow()
                await self.flush()
            except Exception:
                logger.exception("drift was not counted for a while")
            await asyncio.sleep(self._settings.flush_s)

    async def follow(self, artefacts: Mapping[str, Artefact] | None = None) -> None:
        """Watch these versions by the references that they have now; None: those that are in memory."""
        artefacts = self._artefacts() if artefacts is None else artefacts
        for version in self._read.keys() - artefacts.keys():
            del self._read[version]
            self._watched.pop(version, None)
            self._samples.pop(version, None)
        for version, artefact in artefacts.items():
            known = artefact.digest, artefact.card.reference
            if self._read.get(version) == known:
                continue
            # What was drawn is of the artefact before.
            self._samples.pop(version, None)
            watched = await asyncio.to_thread(_watched, artefact, self._settings)
            self._read[version], self._watched[version] = known, watched
            if isinstance(watched, ColumnCounts):
                self._samples[version] = self._new_sample(watched)

    async def flush(self) -> None:
        """Add what was counted up to now to the store."""
        # Not to be cancelled: what was added would be added again.
        await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def _flush(self) -> None:
        async with self._one_at_a_time:
            await self._count()
            with contextlib.suppress(StoreUnavailable):
                for bucket in list(self._kept):
                    await self._follower.ask(self._follower.store.add_binned, self._kept[bucket], float(bucket))
                    del self._kept[bucket]

    async def _count(self) -> None:
        drawn, refused = self._take()
        bucket = binned_bucket_of(self._clock())
        for version, (columns, sample) in drawn.items():
            counts = await asyncio.to_thread(_counted, columns, sample, refused)
            kept, of = self._kept[bucket], Binned(version, columns.bins)
            kept[of] = kept[of] + counts if of in kept else counts
        for kept_bucket in [one for one in self._kept if one < bucket - KEEP_S]:
            del self._kept[kept_bucket]

    async def told(self, version: str, window: DriftWindow) -> VersionDrift:
        """What all workers counted. Raises `StoreUnavailable`."""
        watched = self._watched.get(version)
        if not isinstance(watched, ColumnCounts):
            why = watched.why if watched is not None else self._why_unknown(version)
            return nothing_of(version, why, window, self._settings)
        now = self._clock()
        since = binned_bucket_of(now - window.seconds)
        of = Binned(version, watched.bins)
        found = await self._follower.ask(self._follower.store.binned, of, float(since))
        return await asyncio.to_thread(
            lambda: drift_of(
                version, watched, sum(found.values(), watched.nothing()), window, now - since, self._settings
            )
        )

    @property
    def versions(self) -> Sequence[str]:
        """Those that are watched."""
        return [version for version, watched in self._watched.items() if isinstance(watched, ColumnCounts)]

    def _take(self) -> tuple[dict[str, tuple[ColumnCounts, RowSample | None]], Counter[str]]:
        """What there is to count of each version, and the refusals by feature; from now on, others are gathered."""
        refused, self._refused = self._refused, Counter()
        drawn: dict[str, tuple[ColumnCounts, RowSample | None]] = {}
        for version, sample in self._samples.items():
            columns = self._watched[version]
            assert isinstance(columns, ColumnCounts)
            if sample.seen:
                drawn[version] = columns, sample
                self._samples[version] = self._new_sample(columns)
            elif any(columns.refused(feature) is not None for feature in refused):
                drawn[version] = columns, None
        return drawn, refused

    def _new_sample(self, columns: ColumnCounts) -> RowSample:
        return RowSample(self._settings.rows_per_flush, columns.kept, self._draw)

    def _why_unknown(self, version: str) -> str:
        return _STARTING if version in self._artefacts() else "it is not in memory"


class CachedAnswers(PredictionObserver):
    """Has a watch count what the answer cache answers. Apart from it, as most servers have no cache."""

    def __init__(self, watch: DriftWatch) -> None:
        self._watch = watch

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:
        cached = [prediction for prediction in predictions if prediction.cached]
        if cached:
            self._watch.answered_from_cache(version, cached)


def _watched(artefact: Artefact, settings: DriftSettings) -> ColumnCounts | Unwatched:
    card = artefact.card
    if not artefact.in_store:
        return Unwatched("it is elsewhere, and this machine has no artefact of it, and so no reference")
    try:
        reference = read_reference(artefact.folder, card)
    except DamagedFile as error:
        return Unwatched(f"its reference cannot be used: {error}; where it was replaced, serve the version again")
    if reference is None or card.reference is None:
        return Unwatched(f"it has no reference; one is made by: shokado models reference {artefact.tag} FILE")
    return ColumnCounts(card, reference, card.reference.sha256, settings.max_features)


def _counted(columns: ColumnCounts, sample: RowSample | None, refused: Mapping[str, int]) -> Counts:
    counts = columns.nothing() if sample is None else columns.count(*sample.drawn(), sample.seen)
    for feature, requests in refused.items():
        at = columns.refused(feature)
        if at is not None:
            counts[at] += requests
    return counts
