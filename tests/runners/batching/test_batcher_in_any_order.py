"""The batcher under any order of calls: whoever did not leave is answered once, with the scores of its own rows."""

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runners.batching.batcher import LATE_BY_S
from runners.batching.pace import BatchLimit
from runners.errors import DeadlineExceeded, ModelFailure, NotReady, Overloaded
from runners.placements.executor import BatchScores
from tests.runners.scripted_executor import Batch, Bench, RowsOf

SECONDS = st.sampled_from([0.0, 0.01, 0.1, 0.5])
OUTCOMES = st.sampled_from([*["good"] * 6, "bad rows", "lost"])
DEADLINES = st.sampled_from([-0.1, 0.0, 0.05, 0.2, 1.0, inf, inf])


class BatcherInAnyOrder(RuleBasedStateMachine):
    """Clients come and leave, the executor answers or fails, time passes; what each row went through is kept."""

    @initialize(
        ceiling=st.integers(1, 40),
        concurrency=st.integers(1, 3),
        max_queue_s=st.sampled_from([0.2, 1.0, inf]),
        standing_s=st.sampled_from([0.05, inf]),
    )
    def open(self, ceiling: int, concurrency: int, max_queue_s: float, standing_s: float) -> None:
        limit = BatchLimit(latency_target_s=0.05, ceiling=ceiling)
        self.bench = Bench(limit, concurrency=concurrency, max_queue_s=max_queue_s, standing_s=standing_s)
        self.bench.executor.on_run = self.check_batch
        self.jobs: list[RowsOf] = []
        self.owner: dict[int, RowsOf] = {}
        self.computed: set[int] = set()
        self.bad_numbers: set[int] = set()
        self.lost_numbers: set[int] = set()
        self.closed = False

    def check_batch(self, batch: Batch) -> None:
        """No batch is too large, and none has a row that was computed before or that nobody waits for."""
        assert 0 < len(batch.rows) <= self.bench.limit.rows
        assert len(self.bench.executor.running) < self.bench.executor.concurrency
        owners = dict.fromkeys(self.owner[number] for number in batch.numbers)
        for job in owners:
            assert not job.cancelled
            assert not job.answers
            assert job.deadline > self.bench.clock.now or not self.computed.isdisjoint(job.numbers)
        assert self.computed.isdisjoint(batch.numbers)
        assert len(set(batch.numbers)) == len(batch.numbers)
        self.computed.update(batch.numbers)

    @rule(rows=st.one_of(st.integers(1, 5), st.integers(1, 150)), deadline_s=DEADLINES)
    def submit(self, rows: int, deadline_s: float) -> None:
        waiting, expected_s = self.bench.batcher.waiting_rows, self.bench.batcher.expected_wait()
        outcome = self.submitted(rows, deadline_s)
        assert isinstance(outcome, NotReady) == self.closed
        assert isinstance(outcome, DeadlineExceeded) == (not self.closed and deadline_s <= 0)
        if isinstance(outcome, RowsOf):
            self.jobs.append(outcome)
            self.owner.update(dict.fromkeys(outcome.numbers, outcome))
            return
        assert self.bench.batcher.waiting_rows == waiting
        if isinstance(outcome, Overloaded):
            assert outcome.expected_wait_s == expected_s
            assert expected_s > min(self.bench.max_queue_s, self.bench.standing_s, deadline_s - 1e-9)
            assert self.bench.batcher.busy

    def submitted(self, rows: int, deadline_s: float) -> RowsOf | NotReady | Overloaded | DeadlineExceeded:
        try:
            return self.bench.submit(rows, deadline_s=deadline_s)
        except (NotReady, Overloaded, DeadlineExceeded) as refused:
            return refused

    @precondition(lambda self: any(not job.answers and not job.cancelled for job in self.jobs))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        here = [index for index, job in enumerate(self.jobs) if not job.answers and not job.cancelled]
        self.jobs[data.draw(st.sampled_from(here))].cancelled = True

    @rule(times=st.integers(1, 4))
    def turn(self, times: int) -> None:
        for _ in range(times):
            self.bench.loop.turn()

    @rule(seconds=SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)
        self.bench.loop.ring()

    @precondition(lambda self: self.bench.executor.running)
    @rule(data=st.data(), seconds=SECONDS, outcome=OUTCOMES)
    def answer(self, data: st.DataObject, seconds: float, outcome: str) -> None:
        running = self.bench.executor.running
        batch = running.pop(data.draw(st.integers(0, len(running) - 1)))
        self.bench.clock.advance(seconds)
        if outcome == "lost":
            self.lost_numbers.update(batch.numbers)
            batch.done(ConnectionResetError("gone"))
            return
        positions = st.integers(0, len(batch.rows) - 1)
        bad = data.draw(st.sets(positions, min_size=1, max_size=3)) if outcome == "bad rows" else set()
        self.bad_numbers.update(batch.numbers[position] for position in bad)
        batch.done(BatchScores(batch.scores(), dict.fromkeys(bad, "bad")))

    @precondition(lambda self: not self.closed)
    @rule(often=st.integers(0, 9))
    def close(self, often: int) -> None:
        if often == 0:
            self.bench.batcher.close()
            self.closed = True

    @invariant()
    def the_queue_counts_the_rows_that_wait(self) -> None:
        not_sent = [(job, len(set(job.numbers) - self.computed)) for job in self.jobs]
        wanted = sum(rows for job, rows in not_sent if not job.answers and not job.cancelled)
        assert wanted <= self.bench.batcher.waiting_rows <= sum(rows for _, rows in not_sent)

    @invariant()
    def nobody_is_answered_twice_or_after_leaving(self) -> None:
        assert all(job.answers <= (not job.cancelled) for job in self.jobs)

    @invariant()
    def nobody_waits_beyond_a_deadline_while_an_alarm_is_due(self) -> None:
        first = min((alarm.at for alarm in self.bench.loop.alarms), default=inf)
        waiting = [job.deadline for job in self.jobs if not job.answers and not job.cancelled]
        assert first <= max(min(waiting, default=inf), self.bench.clock.now + LATE_BY_S)

    @invariant()
    def a_free_place_never_leaves_rows_waiting(self) -> None:
        free = len(self.bench.executor.running) < self.bench.executor.concurrency
        assert not free or not self.bench.batcher.waiting_rows or self.bench.loop.scheduled

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        while self.bench.loop.scheduled or self.bench.executor.running:
            self.bench.loop.turn()
            if self.bench.executor.running:
                self.bench.answer()
        assert self.bench.batcher.waiting_rows == 0
        assert not self.bench.batcher.busy
        for job in self.jobs:
            assert job.answers == (not job.cancelled)
            if not job.cancelled:
                self.check_answer(job)

    def check_answer(self, job: RowsOf) -> None:
        """A job has its scores, or the one error that what happened to its rows explains."""
        numbers = set(job.numbers)
        if isinstance(job.error, DeadlineExceeded):
            assert job.deadline <= self.bench.clock.now
        elif isinstance(job.error, ModelFailure):
            assert job.numbers[job.error.row] in self.bad_numbers
        elif isinstance(job.error, NotReady):
            assert not numbers.isdisjoint(self.lost_numbers)
        else:
            assert job.has_its_scores
            assert numbers.isdisjoint(self.bad_numbers | self.lost_numbers)
            assert numbers <= self.computed


TestBatcherInAnyOrder = BatcherInAnyOrder.TestCase
TestBatcherInAnyOrder.settings = settings(max_examples=150, stateful_step_count=60)
