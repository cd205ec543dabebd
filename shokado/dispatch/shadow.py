"""Shadow copies: a version that gets a copy of the traffic, and whose answers nobody sees.

    answered --(fits in the bound)--> waiting --(nothing else to do)--> shadow's runner --> compared
            `--(does not)--> dropped

Rows that were answered go in, with the scores that were given; counts of how far the shadow's scores lie from them come
out. A shadow never influences an answer: copies are taken afterwards, live rows go first, and whatever goes wrong is
only counted.

Whoever wants to know of single requests is a `ShadowSample`, which is told what became of those that it has taken.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from configuration.settings import ShadowSettings
from runners.artefacts.card import Card
from runners.artefacts.scores import Scores, disagreements
from runners.batching.job import Job
from runners.errors import ModelFailure, RunnerError
from runners.inputs.rows import RequestRows, RowFormat
from runners.runner import Runner
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.observers import PredictionObserver
from shokado.dispatch.request import Prediction

MAX_JOB_ROWS = 128
"""Enough to make good use of an engine, and few enough that a live request which comes meanwhile waits but a moment."""
_YIELD_S = 0.01
"""How soon to look again whether live rows wait, which go first."""


class Pair(NamedTuple):
    """Whose answers are compared with whose."""

    environment: str
    version: str
    """The one that answered."""
    shadow: str


@dataclass(slots=True)
class ShadowCounts:
    """What became of the copies of one pair since the last flush; all in rows, except the differences."""

    shadow_rows: int = 0
    """Rows that were compared."""
    shadow_disagreements: int = 0
    """Rows compared that got another class, or another value (see `runners.artefacts.scores.disagreements`)."""
    shadow_difference_sum: float = 0.0
    """Sum of the absolute differences of scores (see `runners.artefacts.scores.differences_of`)."""
    shadow_difference_max: float = 0.0
    shadow_dropped_rows: int = 0
    """Rows not scored: too many were waiting, or the shadow was not ready or overloaded."""
    shadow_failed_rows: int = 0
    """Rows of requests in which the shadow's model could not score some row."""
    shadow_skipped_rows: int = 0
    """Rows of requests that the shadow cannot take: it needs a feature that some row lacks."""


class ShadowSample(Protocol):
    """Takes some requests, and hears what the shadow made of them. All methods belong to the event loop.

    It hears nothing of those that were dropped, for a reason that their rows have no part in.
    """

    def take(self, prediction: Prediction, shadow: str) -> Any:
        """What stands for the request from now on, and does not know it; None where it is not wanted."""

    def failed(self, request: Any) -> None:
        """The shadow cannot score it: its model failed, or a feature is lacking."""

    def scored(self, request: Any, given: Scores, shadow: Card, scores: Scores) -> None:
        """Scores of its first `MAX_JOB_ROWS` rows that were given, and those of the shadow; both may be views."""


class _Copy(NamedTuple):
    """Some rows of a request and the scores that were given, packed float32; nothing else of it is kept."""

    rows: RequestRows
    """As the shadow takes them."""
    row_count: int
    scores: bytes
    row_format: RowFormat
    shadow: Card
    """The shadow's card when the copy was offered."""
    request: Any = None
    """What the sample has taken, with the first rows of it."""


class ShadowCopier(PredictionObserver):
    """Copies this worker's traffic to the shadows that the routing names. All methods belong to the event loop."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: ShadowSettings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        sample: ShadowSample | None = None,
    ) -> None:
        self._sample = sample
        self._dispatcher = dispatcher
        self._max_waiting_rows = settings.max_waiting_rows
        self._rest = 1 / settings.cpu_share - 1
        """Seconds of rest for each second of work."""
        self._clock = clock
        self._sleep = sleep
        self._waiting: dict[Pair, deque[_Copy]] = {}
        self._waiting_rows = 0
        self._counts: defaultdict[Pair, ShadowCounts] = defaultdict(ShadowCounts)
        self._task: asyncio.Task[None] | None = None

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:  # noqa: ARG002
        """Copy those whose environment has a shadow that did not answer itself."""
        if self._dispatcher.shadowed:
            for prediction in predictions:
                self._offer(prediction)

    def _offer(self, prediction: Prediction) -> None:
        environment = self._dispatcher.state.environments.get(prediction.origin.environment)
        if environment is None or environment.shadow is None or environment.shadow == prediction.version:
            return
        pair = Pair(environment.name, prediction.version, environment.shadow)
        row_count = prediction.row_count
        request = self._sample.take(prediction, environment.shadow) if self._sample is not None else None
        shadow = self._dispatcher.runners.get(environment.shadow)
        # Before it is known whether the shadow can take it: else those that it cannot would never be dropped, and what
        # is left would have more of them than the traffic has.
        if shadow is None or self._waiting_rows + row_count > self._max_waiting_rows:
            self._counts[pair].shadow_dropped_rows += row_count
            return
        rows = prediction.rows_as(shadow.row_format)
        if rows is None:
            self._counts[pair].shadow_skipped_rows += row_count
            self._fail(request)
            return
        queue = self._waiting.get(pair)
        if queue is None:
            queue = self._waiting[pair] = deque()
        queue.extend(_copies(prediction, rows, shadow, request))
        self._waiting_rows += row_count
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    def flush(self) -> dict[Pair, ShadowCounts]:
        """Hand over what was counted since the last time."""
        counts, self._counts = self._counts, defaultdict(ShadowCounts)
        return dict(counts)

    async def stop(self) -> None:
        """Forget the copies that wait. Call it when the runners have drained: an offer would start anew."""
        self._waiting.clear()
        self._waiting_rows = 0
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        """Score what waits, a job at a time, and rest after each one, so that the work has its share of the time."""
        while self._waiting:
            if any(runner.waiting_rows for runner in self._dispatcher.runners.values()):
                await self._sleep(_YIELD_S)
                continue
            started = self._clock()
            await self._compare_next()
            await self._sleep((self._clock() - started) * self._rest)

    async def _compare_next(self) -> None:
        pair, copies = self._take()
        runner, answered = (self._dispatcher.runners.get(version) for version in (pair.shadow, pair.version))
        # Another artefact may have taken the shadow's place, and take other features.
        if (
            runner is None
            or answered is None
            or not all(runner.row_format.packs_like(copy.row_format) for copy in copies)
        ):
            self._counts[pair].shadow_dropped_rows += sum(copy.row_count for copy in copies)
            return
        scored = [_join(copies, runner.row_format)]
        jobs = await _score(runner, scored)
        if isinstance(jobs[0].error, ModelFailure) and len(copies) > 1:
            # One bad row fails a job as a whole: as jobs of their own, the other requests can be compared.
            scored, jobs = copies, await _score(runner, copies)
        for copy, job in zip(scored, jobs, strict=True):
            self._count(self._counts[pair], answered.card, runner.card, copy, job)
        self._tell(runner.card, copies, jobs)

    def _take(self) -> tuple[Pair, list[_Copy]]:
        """The oldest copies of the pair whose turn it is, as many as make a job."""
        pair, queue = next(iter(self._waiting.items()))
        copies: list[_Copy] = []
        room = MAX_JOB_ROWS
        while queue and queue[0].row_count <= room:
            copies.append(queue.popleft())
            room -= copies[-1].row_count
        self._waiting_rows -= MAX_JOB_ROWS - room
        del self._waiting[pair]
        if queue:
            self._waiting[pair] = queue
        return pair, copies

    def _count(self, counts: ShadowCounts, answered: Card, shadow: Card, copy: _Copy, job: Job) -> None:
        if job.scores is None or job.error is not None:
            if isinstance(job.error, ModelFailure):
                counts.shadow_failed_rows += copy.row_count
            else:
                counts.shadow_dropped_rows += copy.row_count
            return
        given = np.frombuffer(copy.scores, dtype=np.float32).reshape(job.scores.shape)
        rows, differences = disagreements(answered, given, shadow, job.scores)
        counts.shadow_rows += copy.row_count
        counts.shadow_disagreements += rows
        counts.shadow_difference_sum += float(differences.sum())
        counts.shadow_difference_max = max(counts.shadow_difference_max, float(differences.max()))

    def _tell(self, shadow: Card, copies: Sequence[_Copy], jobs: Sequence[Job]) -> None:
        """Tell the sample what became of the copies: of one job together, or of each its own."""
        start = 0
        for index, copy in enumerate(copies):
            job, first = (jobs[index], 0) if len(jobs) == len(copies) else (jobs[0], start)
            start += copy.row_count
            if isinstance(job.error, ModelFailure):
                self._fail(copy.request)
            # What another artefact says, which has taken the place of the one that was asked, is not of that one.
            elif copy.request is not None and self._sample is not None and copy.shadow is shadow and job.error is None:
                assert job.scores is not None
                scores = job.scores[first : first + copy.row_count]
                given = np.frombuffer(copy.scores, dtype=np.float32).reshape(scores.shape)
                self._sample.scored(copy.request, given, shadow, scores)

    def _fail(self, request: Any) -> None:
        if self._sample is not None and request is not None:
            self._sample.failed(request)


def _copies(prediction: Prediction, given: RequestRows, shadow: Runner, request: Any) -> list[_Copy]:
    """The prediction's rows, as they are `given`, and scores, cut into pieces of at most `MAX_JOB_ROWS`."""
    scores, row_format = prediction.scores, shadow.row_format
    assert scores is not None
    copies = []
    for start in range(0, prediction.row_count, MAX_JOB_ROWS):
        count = min(MAX_JOB_ROWS, prediction.row_count - start)
        # Bytes of their own: views would keep the whole request and the whole batch of scores.
        rows = row_format.copy(row_format.part(given, start, count))
        packed = scores[start : start + count].tobytes()
        copies.append(_Copy(rows, count, packed, row_format, shadow.card, None if start else request))
    return copies


def _join(copies: Sequence[_Copy], row_format: RowFormat) -> _Copy:
    return _Copy(
        row_format.concat([copy.rows for copy in copies]),
        sum(copy.row_count for copy in copies),
        b"".join(copy.scores for copy in copies),
        row_format,
        copies[0].shadow,
    )


async def _score(runner: Runner, copies: Sequence[_Copy]) -> list[Job]:
    """A finished job for each copy; what the runner refuses is finished with its refusal."""
    answered = asyncio.get_running_loop().create_future()
    missing = len(copies)

    def done(_: Job) -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            answered.set_result(None)

    jobs = [Job(copy.rows, copy.row_count, done) for copy in copies]
    try:
        for job in jobs:
            try:
                runner.submit(job)
            except RunnerError as error:
                # Without its traceback, whose frames know the job: a cycle for the garbage collector.
                job.error = error.with_traceback(None)
                done(job)
        await answered
    except asyncio.CancelledError:
        for job in jobs:
            job.cancelled = True
        raise
    return jobs
