"""The remote executor: batches are computed by a far side, which may be slow, broken, overloaded or away.

    batch --> far side --> scores
                 |--(cut)----------------> once more, on a new connection, while the retry budget lasts
                 |--(refused, or none has a finite score)
                 |                       -> a row known to be good is asked
                 |                            |--(scored)--> the rows are at fault: cut in halves until they are alone
                 |                            `--(not)-----> the far side failed
                 |--(too busy)-----------> `Overloaded`
                 `--(no answer for long)-> `overdue` is called, so that somebody looks whether it is still there
    far side failed --(once too often)--> ejected: every batch, sent already or not, fails at once, until `admit`

A batch that it failed to score fails as a whole, so that its requests can be answered by another version.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf

from configuration.settings import FarSideSettings
from runners.artefacts.card import Card
from runners.engines.engine import example_rows
from runners.errors import DeadlineExceeded, Overloaded
from runners.inputs.rows import Rows
from runners.placements.ejection import Ejection
from runners.placements.executor import BatchScores, Halves, shape_of
from runners.placements.far_side import CallRefused, Cut, EndpointError, FarSide
from runners.placements.retry_budget import RetryBudget
from runners.trace import BatchTrace

TELL_EVERY_S = 1.0
"""How often failures are logged: many batches may fail for one reason."""
OVERDUE_S = 0.25
"""How much longer than `SLOWER` times the usual a batch may take before somebody looks after the far side."""
SLOWER = 4
"""How many times the usual a batch may take: less happens beside other load."""

logger = logging.getLogger("bentoml.shokado")


@dataclass(slots=True)
class RemoteCounts:
    """What became of batches, and of the version, since the last flush."""

    scored: int = 0
    refused: int = 0
    """Batches scored but for some rows that the server would not score."""
    failed: int = 0
    overloaded: int = 0
    late: int = 0
    """Batches given up at their deadline."""
    retries: int = 0
    ejections: int = 0


class RemoteExecutor:
    """A far side as an executor."""

    ahead = 0
    elsewhere = True

    def __init__(
        self,
        far_side: FarSide,
        card: Card,
        concurrency: int,
        settings: FarSideSettings,
        ejected: Callable[[str], None],
        overdue: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ejected` is called with the reason when it has failed once too often, `overdue` when a batch takes long."""
        self.concurrency = concurrency
        self.ejection = Ejection(
            settings.eject_after_failures, settings.eject_at_failure_share, settings.eject_for_s, clock
        )
        self.answered_at = -inf
        """When a batch was scored last."""
        self.usual_s = 0.0
        """How long batches usually take, those of the largest sizes that were sent lately."""
        self._far_side = far_side
        self._scores_per_row = card.scores_per_row
        self._good_row = example_rows(card)[:1]
        self._ejected = ejected
        self._overdue = overdue
        self._away: str | None = None
        """Why it gets no batches."""
        self._clock = clock
        self._told_at = -inf
        self._retries = RetryBudget()
        self._counts = RemoteCounts()
        self._tasks: set[asyncio.Task[BatchScores | Exception]] = set()

    def run(
        self,
        rows: Rows,
        expected_s: float,
        done: Callable[[BatchScores | Exception], None],
        deadline: float = inf,
        trace: BatchTrace | None = None,
    ) -> None:
        if self._away is not None:
            done(EndpointError(self._away))
            return
        self.usual_s = max(expected_s, 0.9 * self.usual_s)
        loop = asyncio.get_running_loop()
        watch = loop.call_later(OVERDUE_S + SLOWER * self.usual_s, self._overdue)
        if trace is not None:
            trace.address = self._far_side.address
        task = loop.create_task(self._outcome(rows, deadline, trace))
        self._tasks.add(task)
        # Not at the end of the coroutine: one that is cancelled before its first step never comes to it.
        task.add_done_callback(partial(self._ended, watch, done))

    def shut_out(self, reason: str) -> None:
        """Let every batch fail at once from now on, those under way as well."""
        self._away = f"it is away: {reason}"
        for task in tuple(self._tasks):
            task.cancel()

    def admit(self) -> None:
        """Send batches again."""
        self._away = None
        self.ejection.returned()

    def flush(self) -> RemoteCounts:
        """Hand over what was counted since the last time."""
        counts, self._counts = self._counts, RemoteCounts()
        return counts

    async def close(self) -> None:
        await self._far_side.close()

    async def _outcome(self, rows: Rows, deadline: float, trace: BatchTrace | None) -> BatchScores | Exception:
        try:
            return await self._score(rows, deadline, trace)
        except Exception as error:  # whatever it is, a batcher that never heard of it would wait for ever
            # Its traceback knows this frame, and so itself: a cycle.
            return error.with_traceback(None)

    def _ended(
        self,
        watch: asyncio.TimerHandle,
        done: Callable[[BatchScores | Exception], None],
        task: asyncio.Task[BatchScores | Exception],
    ) -> None:
        self._tasks.discard(task)
        watch.cancel()
        if not task.cancelled():
            outcome = task.result()
        elif self._away is not None:
            outcome = EndpointError(self._away)
        else:
            return
        self._note(outcome)
        done(outcome)

    async def _score(self, rows: Rows, deadline: float, trace: BatchTrace | None) -> BatchScores:
        try:
            outcome = await self._infer(rows, deadline, trace)
        except CallRefused as refused:
            reason = str(refused)
        else:
            if len(outcome.failures) == len(rows):
                await self._ask_good_row(outcome.failures[0], deadline, trace)
            return outcome
        await self._ask_good_row(reason, deadline, trace)
        halves = Halves(shape_of(rows, self._scores_per_row), reason)
        for start, stop in halves:
            try:
                part = await self._infer(rows[start:stop], deadline, trace)
            except CallRefused as refused:
                halves.failed(start, stop, str(refused))
            else:
                halves.scored(start, stop, part.scores)
        return halves.outcome()

    async def _ask_good_row(self, reason: str, deadline: float, trace: BatchTrace | None) -> None:
        """Raise `EndpointError` for `reason` where not even the good row is scored."""
        try:
            good = await self._infer(self._good_row, deadline, trace)
        except CallRefused:
            raise EndpointError(reason) from None
        if good.failures:
            raise EndpointError(reason)

    async def _infer(self, rows: Rows, deadline: float, trace: BatchTrace | None) -> BatchScores:
        self._retries.pay_in()
        try:
            return await self._call(rows, deadline, trace)
        except Cut as cut:
            # A server closes connections whenever it likes, many at once when it has trouble: of those that are kept,
            # one after another may be cut, which says nothing against it and costs no retry. Hence the new one.
            if self._away is not None or not (cut.stale or self._retries.take()):
                raise
        self._counts.retries += 1
        return await self._call(rows, deadline, trace, anew=True)

    async def _call(self, rows: Rows, deadline: float, trace: BatchTrace | None, *, anew: bool = False) -> BatchScores:
        if trace is None:
            return await self._far_side.infer(rows, deadline, anew=anew)
        call = trace.call(again=anew)
        try:
            return await self._far_side.infer(rows, deadline, anew=anew, call=call)
        except BaseException as error:
            call.error = type(error).__name__
            raise
        finally:
            call.ended_at = time.monotonic()

    def _note(self, outcome: BatchScores | Exception) -> None:
        """Count it, and eject the version if this was one failure too many."""
        match outcome:
            case BatchScores():
                if outcome.failures:
                    self._counts.refused += 1
                else:
                    self._counts.scored += 1
                self.answered_at = self._clock()
                self.ejection.succeeded()
            case Overloaded():
                self._counts.overloaded += 1
            case DeadlineExceeded():
                self._counts.late += 1
            case _:
                self._counts.failed += 1
                self._tell(outcome)
                if self.ejection.failed() and self._away is None:
                    self._counts.ejections += 1
                    self.shut_out(str(outcome))
                    self._ejected(str(outcome))

    def _tell(self, failure: Exception) -> None:
        """Log the failure, now and then and not for each batch."""
        now = self._clock()
        if now >= self._told_at + TELL_EVERY_S:
            self._told_at = now
            logger.warning("a batch failed at %s: %s", self._far_side.address, failure)
