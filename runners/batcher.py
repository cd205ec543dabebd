"""The adaptive batcher of one version: jobs in, batches to a place, scores back to their jobs.

    submit --> queue --(a place is free)--> batch --> place --> scores --> jobs

It is work-conserving: a free place starts at once with what is there, and what arrives meanwhile forms the next
batch. There is no timer and no waiting for company. The queue is bounded by the time it would take.
"""

from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from math import inf
from typing import Protocol

from runners.engine import Scores
from runners.errors import DeadlineExceeded, ModelFailure, NotReady, Overloaded
from runners.job import Job
from runners.pace import BatchLimit, Pace
from runners.place import BatchScores, Place
from runners.rows import Join


class Release(StrEnum):
    """Why a batch was sent off when it was."""

    IDLE = "idle"
    """The place was free when the first job came."""
    FREED = "freed"
    """The place became free and took all that had gathered."""
    FULL = "full"
    """The batch reached the row limit; more was waiting."""


class BatchObserver(Protocol):
    """Hears of every batch that came back."""

    def batch(
        self,
        version: str,
        waits_s: Iterable[float],
        rows: int,
        release: str,
        seconds: float,
        scores: Scores | None,
    ) -> None:
        """`waits_s` are the queue waits of the jobs that the batch finished; `seconds` is what the place took.

        `scores` are those of the whole batch, rows that failed included; none when the place itself failed.
        """
        ...


Chunk = tuple[Job, int, int]
"""A job and how many of its rows, counted from where, are part of a batch: (job, start, rows)."""


class Batcher:
    """Single-threaded: everything happens on one event loop, whose clock and `call_soon` it is given."""

    def __init__(
        self,
        version: str,
        place: Place,
        join: Join,
        limit: BatchLimit,
        pace: Pace,
        observer: BatchObserver,
        max_queue_s: float,
        clock: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._version = version
        self._place = place
        self._join = join
        self._limit = limit
        self._pace = pace
        self._max_queue_s = max_queue_s
        self._clock = clock
        self._call_soon = call_soon
        self._observer = observer
        self._queue: deque[Job] = deque()
        self._queued_rows = 0
        self._computing_rows = 0
        self._computing = 0
        self._scheduled = False
        self._was_idle = True
        self._closed = False

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
        return seconds / self._place.concurrency

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
            if wait > self._max_queue_s or now + wait > job.deadline:
                raise Overloaded(wait)
        job.submitted_at = now
        self._queue.append(job)
        self._queued_rows += job.row_count
        if not self._scheduled and self._computing < self._place.concurrency:
            self._schedule(idle=True)

    def close(self) -> None:
        """Refuse new jobs; those already here are still answered (see `busy`)."""
        self._closed = True

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
        release = Release.FULL if self._queue else Release.IDLE if self._was_idle else Release.FREED
        batch = self._join([job.part(start, count) for job, start, count in chunks], rows)
        self._computing += 1
        self._computing_rows += rows

        def done(outcome: BatchScores | Exception) -> None:
            self._receive(chunks, rows, release, now, outcome)

        self._place.run(batch, self._pace.estimate(rows), done)
        if self._queue and self._computing < self._place.concurrency and not self._scheduled:
            self._schedule(idle=False)

    def _gather(self, now: float) -> tuple[list[Chunk], int]:
        """Take the next batch from the queue: all rows, else as many of each job, in turns, until the batch is full."""
        queue = self._queue
        room = self._limit.rows
        share = room if self._queued_rows <= room else max(1, room // len(queue))
        chunks: list[Chunk] = []
        while queue and room:
            job = queue.popleft()
            rest = job.row_count - job.taken
            if self._is_dropped(job, now):
                self._queued_rows -= rest
                continue
            if not job.taken:
                job.started_at = now
            count = min(rest, room, share if queue else room)
            chunks.append((job, job.taken, count))
            job.taken += count
            room -= count
            if count < rest:
                queue.append(job)
        rows = self._limit.rows - room
        self._queued_rows -= rows
        return chunks, rows

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
        self, chunks: list[Chunk], rows: int, release: Release, started_at: float, outcome: BatchScores | Exception
    ) -> None:
        seconds = self._clock() - started_at
        self._computing -= 1
        self._computing_rows -= rows
        if isinstance(outcome, Exception):
            finished, scores = self._fail(chunks, outcome), None
        else:
            self._pace.observe(rows, seconds)
            self._limit.observe(rows, seconds)
            scores = outcome.scores
            finished = self._distribute(chunks, scores, outcome.failures)
        waits_s = [job.started_at - job.submitted_at for job in finished]
        self._observer.batch(self._version, waits_s, rows, release, seconds, scores)
        for job in finished:
            if not job.cancelled:
                job.done(job)
        if self._queue and not self._scheduled:
            self._schedule(idle=False)

    def _distribute(self, chunks: list[Chunk], scores: Scores, failures: dict[int, str]) -> list[Job]:
        """Give each job its rows' scores or failure; returns the jobs that are finished by it."""
        finished: list[Job] = []
        position = 0
        for job, start, count in chunks:
            stop = position + count
            if failures and job.error is None:
                bad = next((row for row in range(position, stop) if row in failures), None)
                if bad is not None:
                    job.error = ModelFailure(start + bad - position, failures[bad])
                    finished.append(job)
            if job.error is None and job.fill(start, scores[position:stop]):
                finished.append(job)
            position = stop
        return finished

    def _fail(self, chunks: list[Chunk], cause: Exception) -> list[Job]:
        """The place itself failed: nothing is known about single rows."""
        jobs = [job for job in dict.fromkeys(job for job, _, _ in chunks) if job.error is None]
        for job in jobs:
            job.error = NotReady(f"the engine cannot be reached: {cause}")
        return jobs
