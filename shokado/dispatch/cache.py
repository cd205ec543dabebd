"""The answer cache: identical rows for the same artefact of a version are answered without its engine.

    dispatcher --> submit --(known)--> answered from memory, a turn of the loop later
                      `--(not known)--> runner --> answered, and kept

The rows of a whole request are one key, together with the version and the identity of its artefact: an answer is never
that of another version, nor of another artefact under the same name. Only scores are kept, never errors. Here: what
every cache does, and the one in the worker's own memory; `redis_cache` has the shared one, `opening_cache` the choice.
"""

import time
from abc import ABC, abstractmethod
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from weakref import WeakKeyDictionary

import numpy as np

from configuration.settings import CacheSettings
from runners.artefacts.identity import identity_of
from runners.batching.job import Job
from runners.runner import Runner
from shokado.dispatch.request import Prediction

KEY_BYTES = 32
"""Length of a hash of which no two different rows have the same, not even if somebody tries."""
ENTRY_BYTES = 340
"""Memory that one entry takes besides its scores: key, expiry and place in the dictionary (measured: 245 to 380)."""


@dataclass(slots=True)
class CacheCounts:
    """What became of one version's requests since the last flush; those with too many rows are not counted."""

    hits: int = 0
    misses: int = 0
    errors: int = 0
    """Failures of the cache itself: it could not be asked, would not keep an answer, or had kept a damaged one."""


class Cache(ABC):
    """Stands between the dispatcher and the runners. All methods belong to the event loop."""

    def __init__(self, max_rows: int, call_soon: Callable[..., object], clock: Callable[[], float]) -> None:
        """Requests with more than `max_rows` rows are neither looked up nor kept."""
        self._max_rows = max_rows
        self._call_soon = call_soon
        self._clock = clock
        self._counts: defaultdict[str, CacheCounts] = defaultdict(CacheCounts)
        self._hashes: WeakKeyDictionary[Runner, blake2b] = WeakKeyDictionary()

    def submit(self, prediction: Prediction, runner: Runner) -> None:
        """Answer the prediction if the same rows were answered before, else hand it to the runner, and keep its answer.

        `done` is never called before this returns. Raises what `Runner.submit` raises.
        """
        if prediction.row_count > self._max_rows or not runner.ready:
            runner.submit(prediction)
        else:
            self._look_up(self._key(prediction, runner), prediction, runner)

    def flush(self) -> dict[str, CacheCounts]:
        """Hand over what was counted since the last time, by version."""
        counts, self._counts = self._counts, defaultdict(CacheCounts)
        return dict(counts)

    @abstractmethod
    async def settle(self) -> None:
        """Wait until all that was submitted so far is answered or with its runner; call it before a runner drains."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of what the cache holds; nothing may be submitted afterwards."""

    @abstractmethod
    def _look_up(self, key: bytes, prediction: Prediction, runner: Runner) -> None:
        """Find the scores and `_answer`, or else `_compute`."""

    @abstractmethod
    def _keep(self, key: bytes, version: str, packed: bytes) -> None:
        """Keep packed float32 scores."""

    def _key(self, prediction: Prediction, runner: Runner) -> bytes:
        begun = self._hashes.get(runner)
        if begun is None:
            served = blake2b(f"{runner.version}\0{identity_of(runner.card)}".encode()).digest()
            begun = self._hashes[runner] = blake2b(key=served, digest_size=KEY_BYTES)
        hashed = begun.copy()
        hashed.update(runner.row_format.key(prediction.rows))
        return hashed.digest()

    def _answer(self, prediction: Prediction, packed: bytes) -> None:
        self._counts[prediction.version].hits += 1
        # Over bytes, so nobody can write into what others are given as well.
        scores = np.frombuffer(packed, dtype=np.float32)
        per_row = prediction.card.scores_per_row
        prediction.scores = scores if per_row == 1 else scores.reshape(prediction.row_count, per_row)
        prediction.cached = True
        self._call_soon(_finish, prediction)

    def _compute(self, key: bytes, prediction: Prediction, runner: Runner) -> None:
        self._counts[prediction.version].misses += 1
        prediction.done = partial(self._computed, key, runner.version, prediction.done)
        runner.submit(prediction)

    def _computed(self, key: bytes, version: str, done: Callable[[Job], None], job: Job) -> None:
        done(job)
        if job.error is None and job.scores is not None:
            self._keep(key, version, np.asarray(job.scores, dtype=np.float32).tobytes())


class MemoryCache(Cache):
    """Keeps what was used last, within a number of bytes, for a time. One per worker."""

    # The standard library's ordered dictionary suffices: cachetools.TTLCache takes 1.5 times the memory an entry and
    # removes all that has expired in one go, which stops the loop for 60 ms when 64 MiB have. Here, what has expired
    # is pushed out by what is newer.

    def __init__(
        self, settings: CacheSettings, call_soon: Callable[..., object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(settings.max_rows, call_soon, clock)
        self._ttl_s = settings.ttl_s
        self._max_bytes = settings.max_bytes
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def _look_up(self, key: bytes, prediction: Prediction, runner: Runner) -> None:
        now = self._clock()
        entry = self._entries.get(key)
        # A request that is too late is the runner's to refuse.
        if entry is None or entry[0] <= now or prediction.deadline <= now:
            self._compute(key, prediction, runner)
            return
        self._entries.move_to_end(key)
        self._answer(prediction, entry[1])

    async def settle(self) -> None:
        pass

    async def close(self) -> None:
        self._entries.clear()
        self._bytes = 0

    def _keep(self, key: bytes, version: str, packed: bytes) -> None:  # noqa: ARG002
        old = self._entries.pop(key, None)
        if old is not None:
            self._bytes -= ENTRY_BYTES + len(old[1])
        self._entries[key] = (self._clock() + self._ttl_s, packed)
        self._bytes += ENTRY_BYTES + len(packed)
        while self._bytes > self._max_bytes:
            _, (_, oldest) = self._entries.popitem(last=False)
            self._bytes -= ENTRY_BYTES + len(oldest)


def _finish(prediction: Prediction) -> None:
    if not prediction.cancelled:
        prediction.done(prediction)
