"""The remote place: batches are computed by another server, which may be slow, broken, overloaded or away.

    batch --> endpoint --> scores
                 |--(cut)----------------> once more, while the retry budget lasts
                 |--(refused)------------> a row known to be good is asked
                 |                            |--(scored)--> the rows are at fault: cut in halves until they are alone
                 |                            `--(not)-----> the server failed
                 `--(too busy)-----------> `Overloaded`
    server failed --(one time too many)--> ejected: every batch fails at once, until `admit`

A batch that the server failed to score fails as a whole, so that its requests can be answered by another version.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from configuration.settings import RemoteSettings
from runners.card import Card
from runners.ejection import Ejection
from runners.endpoint import Cut, Endpoint, EndpointError, Refused
from runners.engine import Rows, Scores, example_rows
from runners.errors import DeadlineExceeded, Overloaded
from runners.place import BatchScores, halves, not_finite, shape_of
from runners.retries import RetryBudget

TELL_EVERY_S = 1.0

logger = logging.getLogger("bentoml.shokado")


@dataclass(slots=True)
class RemoteCounts:
    """What became of batches, and of the version, since the last flush."""

    scored: int = 0
    refused: int = 0
    """Scored but for some rows that the server would not score."""
    failed: int = 0
    overloaded: int = 0
    late: int = 0
    """Given up at their deadline."""
    retries: int = 0
    ejections: int = 0


class RemotePlace:
    """An endpoint as a place; `ejected` is called with the reason when it has failed once too often."""

    ahead = 0
    heeds_deadlines = True

    def __init__(
        self,
        endpoint: Endpoint,
        card: Card,
        settings: RemoteSettings,
        ejected: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.concurrency = settings.connections
        self.ejection = Ejection(
            settings.eject_after_failures, settings.eject_at_failure_share, settings.eject_for_s, clock
        )
        self._endpoint = endpoint
        self._scores_per_row = card.scores_per_row
        self._good_row = example_rows(card)[:1]
        self._ejected = ejected
        self._admitted = True
        self._address = settings.address
        self._clock = clock
        self._told_at = -inf
        self._retries = RetryBudget()
        self._counts = RemoteCounts()
        self._tasks: set[asyncio.Task[None]] = set()

    def run(
        self, rows: Rows, _expected_s: float, done: Callable[[BatchScores | Exception], None], deadline: float = inf
    ) -> None:
        if not self._admitted:
            done(EndpointError("it is away"))
            return
        task = asyncio.get_running_loop().create_task(self._run(rows, done, deadline))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def shut_out(self) -> None:
        """Let every batch fail at once from now on."""
        self._admitted = False

    def admit(self) -> None:
        """Send batches again."""
        self._admitted = True
        self.ejection.returned()

    def flush(self) -> RemoteCounts:
        """Hand over what was counted since the last time."""
        counts, self._counts = self._counts, RemoteCounts()
        return counts

    async def close(self) -> None:
        await self._endpoint.close()

    async def _run(self, rows: Rows, done: Callable[[BatchScores | Exception], None], deadline: float) -> None:
        outcome: BatchScores | Exception
        try:
            outcome = await self._score(rows, deadline)
        except Exception as error:  # whatever it is, a batcher that never heard of it would wait for ever
            # Its traceback knows this frame, and so itself: a cycle.
            outcome = error.with_traceback(None)
        self._note(outcome)
        done(outcome)

    async def _score(self, rows: Rows, deadline: float) -> BatchScores:
        try:
            scores = await self._infer(rows, deadline)
        except Refused as refused:
            reason = str(refused)
        else:
            return BatchScores(scores, not_finite(scores))
        try:
            await self._infer(self._good_row, deadline)
        except Refused:
            raise EndpointError(reason) from None
        return await self._score_in_halves(rows, deadline, reason)

    async def _score_in_halves(self, rows: Rows, deadline: float, reason: str) -> BatchScores:
        parts = halves(shape_of(rows, self._scores_per_row), reason)
        outcome: Scores | str | None = None
        while True:
            try:
                low, high = parts.send(outcome)  # type: ignore[arg-type]  # none starts it
            except StopIteration as end:
                result: BatchScores = end.value
                return result
            try:
                outcome = await self._infer(rows[low:high], deadline)
            except Refused as refused:
                outcome = str(refused)

    async def _infer(self, rows: Rows, deadline: float) -> Scores:
        self._retries.pay_in()
        try:
            return await self._endpoint.infer(rows, deadline)
        except Cut:
            if not self._admitted or not self._retries.take():
                raise
        self._counts.retries += 1
        return await self._endpoint.infer(rows, deadline)

    def _note(self, outcome: BatchScores | Exception) -> None:
        """Count it, and eject the version if this was one failure too many."""
        match outcome:
            case BatchScores():
                if outcome.failures:
                    self._counts.refused += 1
                else:
                    self._counts.scored += 1
                self.ejection.succeeded()
            case Overloaded():
                self._counts.overloaded += 1
            case DeadlineExceeded():
                self._counts.late += 1
            case _:
                self._counts.failed += 1
                self._tell(outcome)
                if self.ejection.failed() and self._admitted:
                    self._counts.ejections += 1
                    self.shut_out()
                    self._ejected(str(outcome))

    def _tell(self, failure: Exception) -> None:
        """For the log, which is told now and then, not of each batch."""
        now = self._clock()
        if now >= self._told_at + TELL_EVERY_S:
            self._told_at = now
            logger.warning("a batch failed at %s: %s", self._address, failure)
