"""A batcher's surroundings, all driven by hand: its clock, its event loop and its executor, on one bench.

Rows carry a number of their own as their first value, and the score of a row is that number plus a half; so a score
says which row it belongs to.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import numpy as np

from runners.artefacts.scores import Scores
from runners.batching.batcher import Batcher, QueueBounds
from runners.batching.job import Job
from runners.batching.observer import EndedBatch
from runners.batching.pace import BatchLimit, Pace
from runners.inputs.dense import DenseRows
from runners.inputs.rows import Rows
from runners.placements.executor import BatchScores
from runners.trace import BatchTrace
from tests.support.clock import HandClock
from tests.support.rows import dense_format

FEATURES = 2


class HandLoop:
    """An event loop whose turns are run by hand, and which rings what is due by its clock when it is told to."""

    def __init__(self, clock: HandClock) -> None:
        self.scheduled: list[Callable[[], None]] = []
        self.alarms: list[HandAlarm] = []
        self._clock = clock

    def call_later(self, seconds: float, callback: Callable[[], None]) -> "HandAlarm":
        alarm = HandAlarm(self._clock() + seconds, callback, self)
        self.alarms.append(alarm)
        return alarm

    def ring(self) -> None:
        due = [alarm for alarm in self.alarms if alarm.at <= self._clock()]
        for alarm in due:
            self.alarms.remove(alarm)
            alarm.callback()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.scheduled.append(callback)

    def turn(self) -> None:
        callbacks, self.scheduled = self.scheduled, []
        for callback in callbacks:
            callback()


@dataclass(eq=False)
class HandAlarm:
    at: float
    callback: Callable[[], None]
    loop: HandLoop

    def cancel(self) -> None:
        self.loop.alarms.remove(self)


@dataclass(eq=False)
class Batch:
    """What an executor was asked to compute."""

    rows: Rows
    expected_s: float
    done: Callable[[BatchScores | Exception], None]
    deadline: float = inf
    trace: BatchTrace | None = None

    @property
    def numbers(self) -> list[int]:
        return [int(number) for number in self.rows[:, 0]]

    def scores(self, per_row: int = 1) -> Scores:
        scores = self.rows[:, 0] + np.float32(0.5)
        return scores if per_row == 1 else np.repeat(scores[:, None], per_row, axis=1)


@dataclass
class ScriptedExecutor:
    """Computes nothing until it is told to: `sent` has all batches, `running` those not answered yet."""

    concurrency: int = 1
    ahead: int = 0
    elsewhere: bool = False
    sent: list[Batch] = field(default_factory=list)
    running: list[Batch] = field(default_factory=list)
    on_run: Callable[[Batch], None] = lambda batch: None

    def run(
        self,
        rows: Rows,
        expected_s: float,
        done: Callable[[BatchScores | Exception], None],
        deadline: float = inf,
        trace: BatchTrace | None = None,
    ) -> None:
        batch = Batch(rows, expected_s, done, deadline, trace)
        self.on_run(batch)
        self.sent.append(batch)
        self.running.append(batch)

    async def close(self) -> None:
        pass


class CountedParts(DenseRows):
    """Counts how often rows were cut."""

    cuts = 0

    def part(self, rows: bytes | memoryview, start: int, count: int) -> memoryview:
        self.cuts += 1
        return super().part(rows, start, count)


class RowsOf(Job, eq=False, kw_only=True):
    """A job of numbered rows that counts how often it is answered; see `rows_of`."""

    numbers: list[int]
    answered: Callable[[], None]
    answers: int = 0

    def __post_init__(self) -> None:
        self.done = self._count

    def _count(self, job: Job) -> None:
        assert job is self
        self.answers += 1
        self.answered()

    @property
    def has_its_scores(self) -> bool:
        """Answered once, without an error, with the scores of its own rows in their order."""
        if self.answers != 1 or self.error is not None or self.scores is None:
            return False
        return bool(self.scores.tolist() == [number + 0.5 for number in self.numbers])


def rows_of(first: int, rows: int, deadline: float, answered: Callable[[], None]) -> RowsOf:
    """A job of rows numbered from `first` on."""
    numbers = list(range(first, first + rows))
    values = np.zeros((rows, FEATURES), dtype=np.float32)
    values[:, 0] = numbers
    return RowsOf(values.tobytes(), rows, lambda _: None, deadline, numbers=numbers, answered=answered)


class Bench:
    """A batcher between hand-driven parts. `limit` rows make a full batch, which takes `full_batch_s`."""

    def __init__(
        self,
        limit: int | BatchLimit = 8,
        *,
        full_batch_s: float = 0.0,
        max_queue_s: float = inf,
        standing_s: float = inf,
        max_jobs: int = 1_000_000,
        concurrency: int = 1,
        ahead: int = 0,
    ) -> None:
        self.limit = limit if isinstance(limit, BatchLimit) else BatchLimit(inf, limit, start=limit)
        self.max_queue_s, self.standing_s = max_queue_s, standing_s
        self.clock, self.executor = HandClock(), ScriptedExecutor(concurrency, ahead)
        self.loop = HandLoop(self.clock)
        self.pace = Pace()
        self.row_format = CountedParts(dense_format(map(str, range(FEATURES))).schema, max_rows=1)
        if full_batch_s:
            self.pace.observe(self.limit.rows, full_batch_s)
        self._bounds = QueueBounds(max_queue_s, standing_s, max_jobs)
        self.heard: list[EndedBatch] = []
        self.batcher = self.new_batcher()
        self._next_number = 1

    def new_batcher(self) -> Batcher:
        """One over the executor as it is now."""
        return Batcher(
            "v1",
            self.executor,
            self.row_format,
            self.limit,
            self.pace,
            self,
            self._bounds,
            self.clock,
            self.loop.call_soon,
            self.loop.call_later,
        )

    def batch(self, batch: EndedBatch) -> None:
        assert batch.version == "v1"
        self.heard.append(batch)

    def submit(self, rows: int = 1, *, deadline_s: float = inf, answered: Callable[[], None] = lambda: None) -> RowsOf:
        """Hand in a job of `rows` fresh rows that must be answered within `deadline_s`."""
        job = rows_of(self._next_number, rows, self.clock.now + deadline_s, answered)
        self._next_number += rows
        self.batcher.submit(job)
        return job

    def send(self, rows: int = 1, *, deadline_s: float = inf) -> RowsOf:
        """Hand in a job and give the loop its turn."""
        job = self.submit(rows, deadline_s=deadline_s)
        self.loop.turn()
        return job

    def answer(
        self, *, seconds: float = 0.0, bad_rows: dict[int, str] | None = None, per_row: int = 1, broken: bool = False
    ) -> None:
        """Let the executor finish its oldest batch after `seconds`, and give the loop its turn."""
        batch = self.executor.running.pop(0)
        self.clock.advance(seconds)
        batch.done(BatchScores(batch.scores(per_row), bad_rows or {}, broken))
        self.loop.turn()

    def fail(self, error: Exception, *, seconds: float = 0.0) -> None:
        """Let the executor fail outright at its oldest batch, and give the loop its turn."""
        batch = self.executor.running.pop(0)
        self.clock.advance(seconds)
        batch.done(error)
        self.loop.turn()

    def answer_all(self) -> None:
        """Let everything that is here come to its end."""
        self.loop.turn()
        while self.executor.running:
            self.answer()
        assert not self.loop.scheduled
