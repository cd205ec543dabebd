"""A runner: one version from its artefact to its scores, with a state that says what may be asked of it.

STARTING --> READY --drain--> DRAINING --> CLOSED
    \\--> FAILED (with the reason); CLOSED when it is cancelled

AWAY is for versions that are not in this process (see `remote_runner`), and for one whose engine does not come back,
as long as that lasts (see `watch`). `version_state` says what each state means.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import numpy as np

from configuration.settings import BatchingSettings, Placement, VersionSettings
from runners.artefacts.card import Card, CardError
from runners.artefacts.scores import Scores, tolerance_of
from runners.batching.batcher import Batcher, QueueBounds
from runners.batching.job import Job
from runners.batching.observer import BatchObserver
from runners.batching.pace import BatchLimit, Pace
from runners.engines.engine import example_rows, likely_rows, open_engine
from runners.engines.thread import in_own_thread
from runners.engines.watchdog import Watchdog
from runners.errors import ModelFailure, NotReady
from runners.inputs.rows import Rows
from runners.placements.executor import BatchScores, EmbeddedExecutor, Executor
from runners.version_state import READY, VersionState

_WARM_UP_REPEATS = 3
"""How often each size is scored; the fastest counts, as the first calls pay for what later ones find done."""
_WARM_UP_PATIENCE_S = 1.0
"""Time of one batch after which no larger one is tried: it would only make the start longer."""
_DRAIN_POLL_S = 0.01
"""How soon it is seen that the batcher is empty."""


class Runner:
    """Serves one version in this process. All methods belong to the event loop."""

    def __init__(
        self,
        version: str,
        card: Card,
        folder: Path,
        settings: VersionSettings,
        batching: BatchingSettings,
        watch: Watchdog | None = None,
        lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`watch` ends calls of the engine that take too long; `lost` is told when it does not come back."""
        self.version = version
        self.card = card
        self.row_format = card.row_format
        self.settings = settings
        self.state = VersionState.STARTING
        self.engine = settings.engine.value
        self.failure: str | None = None
        self.placement = Placement.EMBEDDED
        self.address: str | None = None
        """Where a version is that is in another server; None for others, whose address nobody needs to know."""
        self.jobs = 0
        """How many were handed in so far."""
        self._folder = folder
        self._batching = batching
        self._engine_watch = watch
        self._lost = lost
        self._overruns: Counter[str] = Counter()
        self._executor: Executor
        self._batcher: Batcher
        self._pace: Pace
        self._max_batch_rows = batching.max_batch_rows

    @property
    def ready(self) -> bool:
        return self.state is READY

    @property
    def full(self) -> bool:
        """Whether it would refuse a job that has no deadline, because too many wait already."""
        return self.ready and self._batcher.full

    @property
    def waiting_rows(self) -> int:
        return self._batcher.waiting_rows if self.ready else 0

    async def start(self, observer: BatchObserver) -> None:
        """Open the engine, warm it up and learn its pace. Raises what went wrong, after remembering it.

        The engine works in a thread until then: other runners of this process go on answering meanwhile.
        """
        try:
            async with contextlib.AsyncExitStack() as opened:
                self._executor = await self._open_executor()
                opened.push_async_callback(self._executor.close)
                score = partial(_run, self._executor)
                check_examples(await score(example_rows(self.card)), self.card, self._folder)
                pace, ceiling = await self._learn_pace(score, _WARM_UP_PATIENCE_S)
                opened.pop_all()
        except asyncio.CancelledError:
            self._become(VersionState.CLOSED)
            raise
        except Exception as error:
            self._become(VersionState.FAILED, f"{type(error).__name__}: {error}")
            raise
        self._open_batcher(pace, self._target_s, ceiling, observer)
        self._become(VersionState.READY)

    def submit(self, job: Job) -> None:
        """Hand in a job. Raises `NotReady` or `Overloaded`."""
        if self.state is not READY:
            raise NotReady(f"version {self.version} is {self.state}")
        self.jobs += 1
        self._batcher.submit(job)

    async def score_beside(self, rows: Rows) -> Scores:
        """Score rows that are nobody's request, as one batch beside those of the queue, never on the event loop.

        No observer hears of it, and it is not bounded: whoever asks sees to it that live batches have their time.
        Raises `NotReady`, `ModelFailure` for a row that has no score, and what the executor reports.
        """
        if self.state is not READY:
            raise NotReady(f"version {self.version} is {self.state}")
        is_here = self.placement is Placement.EMBEDDED
        return await _run(self._executor, rows, math.inf if is_here else self._pace.estimate(len(rows)))

    @property
    def max_batch_rows(self) -> int:
        """How many rows a batch may have, of a version that is ready."""
        return self._max_batch_rows

    async def drain(self) -> None:
        """Refuse new jobs, answer those that are here, and let go of the executor."""
        if self.state in (VersionState.READY, VersionState.AWAY):
            await self._let_go()

    def take_overruns(self) -> Counter[str]:
        """Calls of the engine that took too long, by what became of them, since this was last asked."""
        taken, self._overruns = self._overruns, Counter()
        return taken

    def engine_interrupted(self) -> None:
        self._overruns["moved"] += 1

    def engine_hangs(self, reason: str) -> None:
        self._overruns["failed"] += 1
        if self.state is VersionState.READY:
            self._become(VersionState.AWAY, reason)

    def engine_back(self) -> None:
        if self.state is VersionState.AWAY:
            self._become(VersionState.READY)

    def engine_lost(self) -> None:
        """A thread is in foreign code, and will not be had back."""
        self._overruns["lost"] += 1
        if self.failure is not None:
            self.failure = f"{self.failure}, and its engine does not come back"
        self._lost(f"a thread of this worker is lost: the engine of version {self.version} does not come back")

    def _become(self, state: VersionState, failure: str | None = None) -> None:
        """Go on to another state; `failure` is why it is that one."""
        assert self.state.may_become(state), f"{self.state} -> {state}"
        self.state, self.failure = state, failure

    async def _let_go(self) -> None:
        self._become(VersionState.DRAINING, self.failure)
        self._batcher.close()
        while self._batcher.busy:
            await asyncio.sleep(_DRAIN_POLL_S)
        await self._executor.close()
        self._become(VersionState.CLOSED, self.failure)

    async def _open_executor(self) -> Executor:
        engine = await in_own_thread(open_engine, self._folder, self.card, self.settings.engine)
        self.engine = engine.name
        return EmbeddedExecutor(
            engine,
            self.card.scores_per_row,
            self._batching.inline_ms / 1000,
            good_row=example_rows(self.card)[:1],
            version=self.version,
            max_run_s=self._batching.max_run_s,
            watch=self._engine_watch,
            holder=self,
        )

    @property
    def _target_s(self) -> float:
        return self._batching.latency_target_ms / 1000

    def _open_batcher(self, pace: Pace, target_s: float, ceiling: int, observer: BatchObserver) -> None:
        self._pace, self._max_batch_rows = pace, ceiling
        fitting = [rows for rows in _warm_up_sizes(ceiling) if pace.estimate(rows) <= target_s]
        self._batcher = Batcher(
            self.version,
            self._executor,
            self.row_format,
            BatchLimit(target_s, ceiling, start=max(fitting, default=1)),
            pace,
            observer,
            QueueBounds(
                self._batching.max_queue_ms / 1000,
                self._batching.standing_queue_ms / 1000,
                self._batching.max_queue_requests,
            ),
            clock=time.monotonic,
            call_soon=asyncio.get_running_loop().call_soon,
            call_later=asyncio.get_running_loop().call_later,
        )

    async def _learn_pace(
        self, score: Callable[[Rows], Awaitable[Scores]], patience_s: float, too_large: tuple[type[Exception], ...] = ()
    ) -> tuple[Pace, int]:
        """Score likely rows in growing batches, until one takes longer than `patience_s`.

        Returns how long batches take and how many rows they may have: half as many as one that raises `too_large`.
        Raises what another one raised.
        """
        pace, ceiling = Pace(), self._batching.max_batch_rows
        likely = likely_rows(self.card, ceiling)
        for rows in _warm_up_sizes(ceiling):
            batch = likely[:rows]
            fastest = float("inf")
            try:
                for _ in range(_WARM_UP_REPEATS):
                    started = time.monotonic()
                    await score(batch)
                    fastest = min(fastest, time.monotonic() - started)
            except too_large:
                if rows == 1:
                    raise
                return pace, rows // 2
            pace.observe(rows, fastest)
            if fastest > patience_s:
                break
        return pace, ceiling


def check_examples(scores: Scores, card: Card, folder: Path) -> None:
    """Raise `CardError` when scores of the card's examples are not the framework's."""
    expected = np.array(card.examples.scores, dtype=np.float32)
    # Without a receipt, the examples' scores are another version's.
    tolerance = tolerance_of(card, math.inf)
    if scores.shape != expected.shape or not (np.abs(scores - expected) <= tolerance).all():
        raise CardError(f"{folder}: the engine does not score the card's examples as the card says")


def _warm_up_sizes(ceiling: int) -> list[int]:
    """1, 2, 4, .. and the ceiling itself."""
    return [*(2**power for power in range(ceiling.bit_length()) if 2**power < ceiling), ceiling]


async def _run(executor: Executor, batch: Rows, expected_s: float = math.inf) -> Scores:
    """One batch through an executor, off the event loop where it is expected to take for ever.

    Raises what that reports, and `ModelFailure` for the first row that was not scored.
    """
    future: asyncio.Future[BatchScores] = asyncio.get_running_loop().create_future()

    def done(outcome: BatchScores | Exception) -> None:
        if future.cancelled():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    executor.run(batch, expected_s, done)
    outcome = await future
    if outcome.failures:
        row, reason = next(iter(outcome.failures.items()))
        raise ModelFailure(row, reason)
    return outcome.scores
