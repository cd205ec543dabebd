"""The adaptive batcher of one version: jobs in, batches to an executor, scores back to their jobs.

    submit --> queue --(the executor is free)--> batch --> executor --> scores --> jobs

It is work-conserving: a free executor starts at once with what is there, and what arrives meanwhile forms the next
batch. An executor beside the event loop gets the next batch ahead once that is full, as the loop may be busy just when
it could start. There is no timer and no waiting for company. The queue is bounded by the time it would take: generously
for a burst, tightly once it stands (see `QueueBounds`).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from runners.batching.job import Job
from runners.batching.observer import BatchObserver, Chunk, EndedBatch, ReleaseReason
from runners.batching.pace import BatchLimit, DrainRate, Pace
from runners.errors import DeadlineExceeded, ModelFailure, NoScore, NotReady, Overloaded, RunnerError, Unreachable
from runners.inputs.rows import RowFormat, Rows
from runners.placements.executor import BatchScores, Executor
from runners.trace import BatchTrace

STANDING_AFTER_S = 0.1
"""How long a queue may be too long without ever being empty before it counts as standing."""
CALM_S = 1.0
"""How long nobody may have been refused before a queue may be long for a while again."""
LATE_BY_S = 0.01
"""How late a job may be told that its deadline has passed: one look at the queue serves all deadlines within it."""
LARGE_SHARE = 4
"""One in so many rows of a batch is for jobs that are too large for an equal share."""


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """The expected waits beyond which a job is refused.

    A queue absorbs bursts; one that stands makes everybody late and nobody faster. So a long wait is accepted until the
    queue has not been empty for `STANDING_AFTER_S`. The idea is CoDel's: Nichols and Jacobson, Controlling Queue
    Delay, ACM Queue 10(5), 2012.
    """

    max_s: float = inf
    standing_s: float = inf
    """The longest wait while the queue stands, but at least two full batches: one computed and one that gathers."""
    max_jobs: int = 1_000_000


class Alarm(Protocol):
    """A call that was put off, and may still be called off."""

    def cancel(self) -> None: ...


class Batcher:
    """Single-threaded: everything happens on one event loop, whose clock and calls it is given."""

    def __init__(
        self,
        version: str,
        executor: Executor,
        row_format: RowFormat,
        limit: BatchLimit,
        pace: Pace,
        observer: BatchObserver,
        bounds: QueueBounds,
        clock: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], Alarm],
    ) -> None:
        self._version = version
        self._executor = executor
        self._elsewhere = executor.elsewhere
        self._join, self._part = row_format.join, row_format.part
        self._limit = limit
        self._pace = pace
        self._bounds = bounds
        self._clock = clock
        self._call_soon = call_soon
        self._call_later = call_later
        self._observer = observer
        self._queue: deque[Job] = deque()
        self._queued_rows = 0
        self._computing_rows = 0
        self._computing = 0
        self._under_way: dict[int, list[Chunk]] = {}
        """What the executor is computing."""
        self._alarm_at = inf
        """When somebody's deadline passes: then who still waits is told so."""
        self._alarm: Alarm | None = None
        self._freed_at = -inf
        """When a batch came back last."""
        self._scheduled = False
        self._was_idle = True
        self._closed = False
        self._drain_rate = DrainRate()
        self._drained_at: float | None = None
        """When rows came back last, if others waited then."""
        self._long_since: float | None = None
        """When a job first met a queue longer than may stand, if it has not been empty since."""
        self._standing_until = -inf
        """Until when the queue may be no longer than `standing_s`, even if refusing has emptied it in between."""

    @property
    def waiting_rows(self) -> int:
        return self._queued_rows

    @property
    def busy(self) -> bool:
        return bool(self._queue) or self._computing > 0

    def expected_wait(self) -> float:
        """Seconds until a job that came now would be started, if it had to wait for all that is here."""
        rows = self._queued_rows + self._computing_rows
        if not rows:
            return 0.0
        batches, rest = divmod(rows, self._limit.rows)
        seconds = batches * self._pace.estimate(self._limit.rows) + (self._pace.estimate(rest) if rest else 0.0)
        return seconds / self._executor.concurrency

    @property
    def full(self) -> bool:
        """Whether a job without a deadline would be refused now."""
        return self._is_too_long(self.expected_wait(), self._clock())

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises `Overloaded` when it would wait too long, `DeadlineExceeded` when it came too late, and `NotReady` after
        `close`.
        """
        if self._closed:
            raise NotReady("the version is closing")
        now = self._clock()
        if job.deadline <= now:
            raise DeadlineExceeded
        rows_ahead = self._queued_rows + self._computing_rows
        if rows_ahead >= self._limit.rows or (rows_ahead and job.deadline != inf):
            wait = self.expected_wait()
            if now + wait > job.deadline or self._is_too_long(wait, now):
                raise Overloaded(wait, self._drain_rate.seconds_for(rows_ahead))
        job.submitted_at = now
        self._queue.append(job)
        self._queued_rows += job.row_count
        if not self._scheduled and self._executor_takes_more:
            self._schedule(idle=not self._computing)
        if job.deadline < self._alarm_at:
            self._set_alarm(job.deadline, now)

    def close(self) -> None:
        """Refuse new jobs; those already here are still answered (see `busy`)."""
        self._closed = True

    def _is_too_long(self, wait: float, now: float) -> bool:
        """Whether the queue is longer than bursts may be, or stands and is longer than it may be then."""
        bounds = self._bounds
        if wait > bounds.max_s or len(self._queue) >= bounds.max_jobs:
            return True
        two_batches = 2 * self._pace.estimate(self._limit.rows) / self._executor.concurrency
        if wait <= max(bounds.standing_s, two_batches):
            return False
        if self._long_since is None:
            self._long_since = now
        if now >= self._standing_until and now - self._long_since <= STANDING_AFTER_S:
            return False
        self._standing_until = now + CALM_S
        return True

    def _schedule(self, *, idle: bool) -> None:
        # One turn of the loop later, so that all that arrived in this one travels together.
        self._scheduled = True
        self._was_idle = idle
        self._call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        now = self._clock()
        chunks, rows = self._gather(now)
        if not chunks:
            return
        release = ReleaseReason.FULL if self._queue else ReleaseReason.IDLE if self._was_idle else ReleaseReason.FREED
        part = self._part
        parts = [job.rows if count == job.row_count else part(job.rows, start, count) for job, start, count in chunks]
        batch = self._join(parts, rows)
        ahead = self._computing >= self._executor.concurrency
        self._computing += 1
        self._computing_rows += rows
        key = id(chunks)
        self._under_way[key] = chunks

        trace = _trace_of(chunks) if self._elsewhere else None

        def done(outcome: BatchScores | Exception) -> None:
            del self._under_way[key]
            self._receive(chunks, batch, release, now, max(now, self._freed_at) if ahead else now, trace, outcome)

        if self._elsewhere:
            deadline = max(job.deadline for job, _, _ in chunks)
            self._executor.run(batch, self._pace.estimate(rows), done, deadline, trace)
        else:
            self._executor.run(batch, self._pace.estimate(rows), done)
        self._go_on()

    @property
    def _executor_takes_more(self) -> bool:
        """Whether the executor is free, or takes what waits ahead, as it is a full batch."""
        executor = self._executor
        ahead = executor.ahead if self._queued_rows >= self._limit.rows else 0
        return self._computing < executor.concurrency + ahead

    def _go_on(self) -> None:
        if self._queue and not self._scheduled and self._executor_takes_more:
            self._schedule(idle=False)

    def _gather(self, now: float) -> tuple[list[Chunk], int]:
        """Take the next batch from the queue: all of it, if it fits.

        Else small jobs first, and then the others in the order they came. Who gets all that the small ones leave goes
        to the end of the queue, so that jobs larger than a batch take turns, and others end one after the other.
        """
        queue, limit = self._queue, self._limit.rows
        chunks: list[Chunk] = []
        room = limit
        if self._queued_rows > limit:
            room -= self._take_small(chunks, now)
        turn = room
        while queue and room:
            job = queue.popleft()
            rest = job.row_count - job.taken
            # Asked here first, as it is rarely so.
            if (job.deadline <= now or job.cancelled or job.error is not None) and self._is_dropped(job, now):
                self._queued_rows -= rest
                continue
            count = min(rest, room)
            _take(chunks, job, count, now)
            room -= count
            if count < rest:
                (queue.append if count == turn else queue.appendleft)(job)
        rows = limit - room
        self._queued_rows -= rows
        return chunks, rows

    def _take_small(self, chunks: list[Chunk], now: float) -> int:
        """Take jobs that need no more than an equal share, for at most three quarters of the batch; returns their rows.

        The rest of the batch is for whoever has waited longest, so that nobody waits for ever.
        """
        queue, limit = self._queue, self._limit.rows
        share = limit // len(queue)
        room = limit - limit // LARGE_SHARE
        larger: list[Job] = []
        for _ in range(min(len(queue), limit)):
            job = queue.popleft()
            rest = job.row_count - job.taken
            if rest > share:
                larger.append(job)
            elif self._is_dropped(job, now):
                self._queued_rows -= rest
            elif rest > room:
                larger.append(job)
                break
            else:
                _take(chunks, job, rest, now)
                room -= rest
        queue.extendleft(reversed(larger))
        return limit - limit // LARGE_SHARE - room

    def _set_alarm(self, at: float, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._call_later(at - now, self._answer_late)

    def _answer_late(self) -> None:
        """Tell those whose deadlines have passed, wherever their rows are: an executor may take long, or for ever."""
        now = self._clock()
        self._alarm, self._alarm_at = None, inf
        computing = (job for chunks in self._under_way.values() for job, _, _ in chunks)
        late, next_deadline = [], inf
        for job in (*computing, *self._queue):
            if job.error is not None or job.cancelled:
                continue
            if job.deadline <= now:
                job.error = DeadlineExceeded()
                late.append(job)
            elif job.deadline < next_deadline:
                next_deadline = job.deadline
        if next_deadline < inf:
            self._set_alarm(max(next_deadline, now + LATE_BY_S), now)
        for job in late:
            job.done(job)

    def _is_dropped(self, job: Job, now: float) -> bool:
        """Whether nothing must be computed for the job any more; says so to its owner if somebody still waits."""
        if job.cancelled or job.error is not None:
            return True
        if job.deadline <= now and not job.taken:
            job.error = DeadlineExceeded()
            job.done(job)
            return True
        return False

    def _receive(
        self,
        chunks: list[Chunk],
        batch: Rows,
        release: ReleaseReason,
        sent_at: float,
        started_at: float,
        trace: BatchTrace | None,
        outcome: BatchScores | Exception,
    ) -> None:
        now = self._freed_at = self._clock()
        seconds = now - started_at
        rows = len(batch)
        if self._drained_at is not None:
            self._drain_rate.observe(rows, now - self._drained_at)
        if self._queue:
            self._drained_at = now
        else:
            self._drained_at = self._long_since = None
        self._computing -= 1
        self._computing_rows -= rows
        if isinstance(outcome, Exception):
            finished, scores, failures = self._fail(chunks, outcome), None, {}
        else:
            self._pace.observe(rows, seconds)
            self._limit.observe(rows, seconds)
            scores, failures = outcome.scores, outcome.failures
            finished = self._distribute(chunks, outcome)
        waits_s = [job.started_at - job.submitted_at for job in finished]
        self._observer.batch(
            EndedBatch(self._version, batch, scores, failures, waits_s, release, seconds, sent_at, now, chunks, trace)
        )
        self._go_on()  # before anybody is told, whose error must not stop the queue
        for job in finished:
            if not job.cancelled:
                job.done(job)

    def _distribute(self, chunks: list[Chunk], outcome: BatchScores) -> list[Job]:
        """Give each job its rows' scores or failure; returns the jobs that are finished by it."""
        scores, failures = outcome.scores, outcome.failures
        finished: list[Job] = []
        position = 0
        for job, start, count in chunks:
            stop = position + count
            if failures and job.error is None:
                bad = next((row for row in range(position, stop) if row in failures), None)
                if bad is not None:
                    row, reason = start + bad - position, failures[bad]
                    job.error = ModelFailure(row, reason) if outcome.broken else NoScore(self._version, row, reason)
                    finished.append(job)
            if job.error is None and job.fill(start, scores[position:stop]):
                finished.append(job)
            position = stop
        return finished

    def _fail(self, chunks: list[Chunk], cause: Exception) -> list[Job]:
        """Fail all jobs of the batch: the executor itself failed, and nothing is known about single rows."""
        jobs = [job for job in dict.fromkeys(job for job, _, _ in chunks) if job.error is None]
        for job in jobs:
            job.error = cause if isinstance(cause, RunnerError) else Unreachable(cause)
        return jobs


def _trace_of(chunks: list[Chunk]) -> BatchTrace | None:
    """The trace that a batch's calls are part of: of the first job that is recorded, else of the first that has one."""
    traces = [job.trace for job, _, _ in chunks if job.trace is not None]
    lead = next((trace for trace in traces if trace.recorded), traces[0] if traces else None)
    return BatchTrace(lead.child()) if lead is not None else None


def _take(chunks: list[Chunk], job: Job, count: int, now: float) -> None:
    """Put the next `count` rows of a job into the batch."""
    if not job.taken:
        job.started_at = now
    chunks.append((job, job.taken, count))
    job.taken += count
