"""The lookup of features: entities of many requests travel together, and no request waits longer than it may.

    look_up --(cached)----------------------------------------------------------> done
        `--> queue --(a connection is free)--> one call for up to so many --+---> done
               `--(too long)--> Overloaded             `--(late, failed)----'

Work-conserving, as the batchers of versions are: a free connection takes what waits at once, and what arrives
meanwhile is the next batch. An entity that waits already, or is being asked for, is not asked for twice.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Protocol

import msgspec

from configuration.feature_settings import FeatureSettings
from runners.errors import DeadlineExceeded, Overloaded
from runners.log_throttle import LogThrottle
from runners.placements.far_side import CallRefused, EndpointError
from shokado.features.entity_features import Entity, EntityFeatures, Lack
from shokado.features.feature_cache import FeatureCache
from shokado.features.feature_wire import FeatureAnswer

MAX_KEY_CHARACTERS = 256
"""Entities with a longer text, which is one to be transformed, are neither kept nor asked for together: hardly any is
like another, and they would take much memory."""

logger = logging.getLogger("bentoml.shokado")


class LookupOutcome(StrEnum):
    """What became of an entity that was to be looked up."""

    CACHED = "cached"
    LOOKED_UP = "looked_up"
    LATE = "late"
    """There was no answer in time."""
    FAILED = "failed"
    """The transformer could not be reached, or failed."""
    EJECTED = "ejected"
    """It was not asked, as it has failed so often."""
    REFUSED = "refused"
    """Too many were waiting."""


@dataclass(slots=True)
class LookupCounts:
    """What happened since the last flush."""

    entities: Counter[LookupOutcome] = field(default_factory=Counter)
    ages_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """How old values were when they were looked up, by feature."""
    calls_s: list[float] = field(default_factory=list)
    """How long calls took that were answered."""
    lacks: Counter[tuple[str, Lack, bool]] = field(default_factory=Counter)
    """Values that rows had to go without: the feature, why, and whether it was given a default."""


class FeatureAsker(Protocol):
    """Who is asked; see `transformer_calls`."""

    address: str

    async def ask(self, entities: Sequence[Entity]) -> tuple[FeatureAnswer, list[EntityFeatures]]: ...

    async def close(self) -> None: ...


class Lookup(msgspec.Struct, eq=False):
    """The entities of one request, and what is known of each: None where nothing could be had."""

    entities: Sequence[Entity]
    found: list[EntityFeatures | None]
    done: Callable[["Lookup"], None]
    """Called once, with `found` as it is then or with the error."""
    waiting: int = 0
    timer: asyncio.TimerHandle | None = None
    ends: bool = False
    """Whether its request's deadline is what ends it."""
    over: bool = False
    error: DeadlineExceeded | None = None

    def cancel(self) -> None:
        """Nobody wants it any more; `done` is not called."""
        self.over = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Waiting(msgspec.Struct, eq=False):
    """An entity that waits for its turn or its answer, and the lookups that want it, with its position in them."""

    entity: Entity
    key: Hashable | None
    wanted_by: list[tuple[Lookup, int]]


class FeatureLookup:
    """A worker's own; all methods belong to its event loop."""

    def __init__(
        self,
        settings: FeatureSettings,
        transformer: FeatureAsker,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._transformer = transformer
        self._clock = clock
        self._wall_clock = wall_clock
        self._cache = FeatureCache(settings.cache_ttl_s, settings.cache_entities, clock)
        self._queue: OrderedDict[Hashable, _Waiting] = OrderedDict()
        self._under_way: dict[Hashable, _Waiting] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._counts = LookupCounts()
        self._failures_in_a_row = 0
        self._away_until = -inf
        self._log = LogThrottle()
        self._names: dict[tuple[str, ...], frozenset[str]] = {}

    def look_up(self, entities: Sequence[Entity], deadline: float, done: Callable[[Lookup], None]) -> Lookup:
        """Look up the features of each entity; `done` may be called before this returns.

        `deadline` is the request's, in seconds of the clock. Raises `Overloaded` where too many wait, and
        `DeadlineExceeded`.
        """
        now = self._clock()
        if deadline <= now:
            raise DeadlineExceeded
        lookup = Lookup(entities, [None] * len(entities), done)
        missed: list[tuple[int, Entity, Hashable | None]] = []
        for index, entity in enumerate(entities):
            key = _key_of(entity)
            known = self._cache.get(key) if key is not None else None
            lookup.found[index] = known
            if known is None:
                missed.append((index, entity, key))
        counts = self._counts.entities
        counts[LookupOutcome.CACHED] += len(entities) - len(missed)
        if missed and now < self._away_until:
            counts[LookupOutcome.EJECTED] += len(missed)
            missed = []
        if len(self._queue) + len(missed) > self._settings.max_waiting_entities:
            counts[LookupOutcome.REFUSED] += len(missed)
            raise Overloaded(self._settings.timeout_ms / 1000)
        for index, entity, key in missed:
            self._want(lookup, index, entity, key)
        if not lookup.waiting:
            self._end(lookup)
            return lookup
        patience_s = self._settings.timeout_ms / 1000
        lookup.ends = deadline - now < patience_s
        lookup.timer = asyncio.get_running_loop().call_later(min(patience_s, deadline - now), self._late, lookup)
        self._send()
        return lookup

    def names_for(self, names: tuple[str, ...]) -> frozenset[str] | None:
        """The features that the transformer has of entities with these names; None while it has never told them."""
        return self._names.get(names)

    def flush(self) -> LookupCounts:
        """What happened since the last flush."""
        counts, self._counts = self._counts, LookupCounts()
        return counts

    def note_lack(self, feature: str, lack: Lack, defaulted: bool) -> None:  # told as an observer is
        """Count a row that has no value of a feature."""
        self._counts.lacks[feature, lack, defaulted] += 1

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._transformer.close()

    def _want(self, lookup: Lookup, index: int, entity: Entity, key: Hashable | None) -> None:
        lookup.waiting += 1
        want = (lookup, index)
        if key is not None:
            waiting = self._queue.get(key) or self._under_way.get(key)
            if waiting is not None:
                waiting.wanted_by.append(want)
                return
        # One that is not asked for together has a key in the queue that is its own.
        self._queue[want if key is None else key] = _Waiting(entity, key, [want])

    def _send(self) -> None:
        """Give free connections what waits."""
        while self._queue and len(self._calls) < self._connections():
            batch = self._take()
            if not batch:
                continue
            task = asyncio.get_running_loop().create_task(self._call(batch))
            self._calls.add(task)
            task.add_done_callback(self._called)

    def _connections(self) -> int:
        """How many calls may be under way: one alone while it is tried whether the transformer is back."""
        return 1 if self._failures_in_a_row >= self._settings.eject_after_failures else self._settings.connections

    def _take(self) -> list[_Waiting]:
        """The first that is still wanted, and those behind it that have the same names."""
        taken: dict[Hashable, _Waiting] = {}
        names: tuple[str, ...] = ()
        for at, waiting in self._queue.items():
            if all(lookup.over for lookup, _ in waiting.wanted_by):
                taken[at] = waiting
                continue
            own = tuple(waiting.entity)
            names = names or own
            if own == names:
                taken[at] = waiting
            if len(taken) >= self._settings.max_batch_entities:
                break
        for at in taken:
            del self._queue[at]
        batch = [waiting for waiting in taken.values() if not all(lookup.over for lookup, _ in waiting.wanted_by)]
        self._under_way.update((waiting.key, waiting) for waiting in batch if waiting.key is not None)
        return batch

    async def _call(self, batch: list[_Waiting]) -> None:
        started = self._clock()
        outcome = LookupOutcome.LOOKED_UP
        features: Sequence[EntityFeatures | None] = [None] * len(batch)
        try:
            answer, features = await self._transformer.ask([waiting.entity for waiting in batch])
        except CallRefused as error:
            # Whatever of it is wrong, the transformer answers.
            outcome = LookupOutcome.FAILED
            self._tell(error)
        except (EndpointError, DeadlineExceeded) as error:
            outcome = LookupOutcome.FAILED
            self._failed(error)
            # Its frames know the batch, and futures in them know the error: a cycle for the collector.
            error.__traceback__ = None
        except Exception as error:
            # Nobody would end the requests otherwise.
            outcome = LookupOutcome.FAILED
            logger.exception("features: a lookup failed unforeseen: %s", type(error).__name__)
        else:
            self._names[tuple(batch[0].entity)] = frozenset(column.name for column in answer.features)
            self._answered(answer, self._clock() - started)
        finally:
            for waiting in batch:
                self._under_way.pop(waiting.key, None)
        for waiting, known in zip(batch, features, strict=True):
            if known is not None and waiting.key is not None:
                self._cache.put(waiting.key, known)
            for lookup, index in waiting.wanted_by:
                self._settle(lookup, index, known, outcome)
        if self._clock() < self._away_until:
            self._end_waiting()

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            self._send()

    def _answered(self, answer: FeatureAnswer, seconds: float) -> None:
        self._counts.calls_s.append(seconds)
        now = self._wall_clock()
        for column in answer.features:
            if column.times is not None:
                pairs = zip(column.times, column.found, strict=True)
                self._counts.ages_s[column.name] += [now - time for time, found in pairs if found]
        if self._failures_in_a_row and self._log.is_over():
            logger.info("features: the transformer at %s answers again", self._transformer.address)
        self._failures_in_a_row = 0
        self._away_until = -inf

    def _failed(self, error: Exception) -> None:
        self._tell(error)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self._settings.eject_after_failures:
            self._away_until = self._clock() + self._settings.eject_for_s

    def _tell(self, error: Exception) -> None:
        left_out = self._log.left_out()
        if left_out is not None:
            words = "features: the transformer at %s failed: %s (%d more lines since the last)"
            logger.warning(words, self._transformer.address, error, left_out)

    def _end_waiting(self) -> None:
        """Let nobody wait for a transformer that is left alone."""
        waiting, self._queue = self._queue, OrderedDict()
        for entity in waiting.values():
            for lookup, index in entity.wanted_by:
                self._settle(lookup, index, None, LookupOutcome.EJECTED)

    def _settle(self, lookup: Lookup, index: int, known: EntityFeatures | None, outcome: LookupOutcome) -> None:
        if lookup.over:
            return
        self._counts.entities[outcome] += 1
        lookup.found[index] = known
        lookup.waiting -= 1
        if not lookup.waiting:
            self._end(lookup)

    def _late(self, lookup: Lookup) -> None:
        self._counts.entities[LookupOutcome.LATE] += lookup.waiting
        if lookup.ends:
            lookup.error = DeadlineExceeded()
        self._end(lookup)

    def _end(self, lookup: Lookup) -> None:
        lookup.cancel()
        lookup.done(lookup)


def _key_of(entity: Entity) -> Hashable | None:
    """What is the same for the same entity; None where it is not to be compared."""
    for value in entity.values():
        if value.__class__ is str and len(value) > MAX_KEY_CHARACTERS:
            return None
    return tuple(entity.items())
