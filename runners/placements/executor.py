"""Executors: where a runner's batches are computed. Here: in this process.

`hop` has the one in another process of this server, `remote` the one in another server.
"""

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from queue import SimpleQueue
from typing import Protocol

import numpy as np

from runners.artefacts.scores import Scores
from runners.engines.engine import Engine, Interrupted
from runners.engines.watchdog import Watchdog, Watched
from runners.errors import Overran
from runners.inputs.rows import Rows
from runners.trace import BatchTrace

logger = logging.getLogger("bentoml.shokado")

WARY_BATCHES = 1000
"""How many batches go to the thread after a call on the event loop was interrupted; twice as many each further time."""
MAX_FAILING_CALLS = 64
"""How often a failing batch is cut in half before the rest of it fails as it is: a broken model must not cost much."""


@dataclass(frozen=True, slots=True)
class BatchScores:
    """What came back for a batch: scores of every row, and why the rows in `failures` have none worth reading."""

    scores: Scores
    failures: dict[int, str] = field(default_factory=dict)
    broken: bool = False
    """Whether it may be the model that fails, and not these rows alone."""


class Executor(Protocol):
    """Computes batches, up to `concurrency` at once, and calls `done` on the event loop with what came back.

    Of `ahead` more it takes care itself: they start when earlier ones end. `done` may be called before `run` returns.
    An exception is handed to it, never raised.
    """

    concurrency: int
    ahead: int
    elsewhere: bool
    """Whether they are computed outside of this process: then `run` is to be told until when anybody waits for the
    scores, in seconds of `time.monotonic`, and what trace they are part of."""

    def run(
        self,
        rows: Rows,
        expected_s: float,
        done: Callable[[BatchScores | Exception], None],
        deadline: float = inf,
        trace: BatchTrace | None = None,
        /,
    ) -> None: ...

    async def close(self) -> None: ...


class EngineHolder(Protocol):
    """What holds an engine, and hears on the event loop when a call of it takes too long."""

    def engine_interrupted(self) -> None:
        """A batch took too long on the event loop, and goes on in the thread."""
        ...

    def engine_hangs(self, reason: str) -> None:
        """A batch took too long in the thread: it has failed, and so do all until `engine_back`."""
        ...

    def engine_back(self) -> None: ...

    def engine_lost(self) -> None:
        """The engine heeds no interruption, and its thread is lost unless it comes back by itself."""
        ...


@dataclass(slots=True, eq=False)
class _Call:
    """A batch in the thread; `given_up` when nobody waits for it any more."""

    rows: Rows
    done: Callable[[BatchScores | Exception], None]
    given_up: bool = False


class EmbeddedExecutor(Watched):
    """The engine in this process: short batches on the event loop, long ones in one thread beside it."""

    concurrency = 1
    ahead = 1
    elsewhere = False

    def __init__(
        self,
        engine: Engine,
        scores_per_row: int,
        inline_s: float,
        *,
        good_row: Rows | None = None,
        version: str = "",
        max_run_s: float = inf,
        watch: Watchdog | None = None,
        holder: EngineHolder | None = None,
    ) -> None:
        """Batches that are expected to take no longer than `inline_s` run on the event loop, if they may at all.

        `good_row` is a batch of one row that the model scores, by which it is told whether it works.
        A batch may take `max_run_s`; `watch` sees to it. Without one, nobody does.
        """
        super().__init__(version, engine, max_run_s)
        self._scores_per_row = scores_per_row
        self._good_row = good_row
        self._may_take_s = inline_s
        self._holder = holder
        self._wary = 0
        """How many batches go to the thread, however short they should be."""
        self._wary_next = WARY_BATCHES
        self._hangs: Overran | None = None
        self._in_thread: list[_Call] = []
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left = asyncio.Event()
        """Set when nobody need wait for the thread: it has ended, or will not be had back."""
        if watch is not None:
            watch.add(self)
            if watch.has_held_up(version):
                logger.warning("version %s has held up an event loop: all its batches go to a thread", version)
                self._may_take_s = -1.0

    def run(
        self,
        rows: Rows,
        expected_s: float,
        done: Callable[[BatchScores | Exception], None],
        _deadline: float = inf,
        _trace: BatchTrace | None = None,
    ) -> None:
        if expected_s <= self._may_take_s and not self._in_thread and not self._wary:
            outcome = self._score_here(rows)
            if outcome is not None:
                done(outcome)
                return
        if self._hangs is not None:
            done(self._hangs)
            return
        if self._wary:
            self._wary -= 1
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            # A daemon: a call that never ends must not keep the process.
            threading.Thread(target=self._work, name="shokado-engine", daemon=True).start()
        call = _Call(rows, done)
        self._in_thread.append(call)
        self._calls.put(call)

    async def close(self) -> None:
        """Let go of the engine; waits for the thread, unless that hangs."""
        self._holder = None
        if self._loop is not None:
            self._calls.put(None)
            await self._left.wait()

    def on_overrun(self, turn: int) -> None:
        self._tell(self._give_up, turn)

    def on_loss(self, turn: int) -> None:
        self._tell(self._miss, turn)

    def _score_here(self, rows: Rows) -> BatchScores | None:
        """None when it took so long that the event loop must not wait for it."""
        self.inline = True
        self.turn += 1
        try:
            return score(self._engine, rows, self._scores_per_row, self._good_row)
        except Interrupted:
            self._wary, self._wary_next = self._wary_next, 2 * self._wary_next
            if self._holder is not None:
                self._holder.engine_interrupted()
            return None
        finally:
            self.turn += 1

    def _work(self) -> None:
        """The thread."""
        while (call := self._calls.get()) is not None:
            if call.given_up:
                continue
            self.inline = False
            self.turn += 1
            outcome: BatchScores | Exception
            try:
                outcome = score(self._engine, call.rows, self._scores_per_row, self._good_row)
            except Interrupted:
                outcome = Overran(self.max_run_s)
            finally:
                self.turn += 1
            self._tell(self._come_back, call, outcome)
            del call, outcome
        self._tell(self._left.set)

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        """Call `what` on the event loop, if that is still there."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)

    def _come_back(self, call: _Call, outcome: BatchScores | Exception) -> None:
        self._in_thread.remove(call)
        if isinstance(outcome, Overran) and not call.given_up:
            self._tell_holder_that_it_hangs(outcome)
        if call.given_up or isinstance(outcome, Overran):
            self._hangs = None
            self._left.clear()
            if self._holder is not None:
                self._holder.engine_back()
        if not call.given_up:
            call.done(outcome)

    def _give_up(self, turn: int) -> None:
        """Nobody is to wait any more for the batch that takes too long, nor for the one behind it."""
        if self.turn != turn:
            return
        self._hangs = Overran(self.max_run_s)
        self._left.set()
        calls, self._in_thread = self._in_thread, self._in_thread[:1]
        for call in calls:
            call.given_up = True
        self._tell_holder_that_it_hangs(self._hangs)
        for call in calls:
            call.done(self._hangs)

    def _miss(self, turn: int) -> None:
        if self.turn == turn and self._holder is not None:
            self._holder.engine_lost()

    def _tell_holder_that_it_hangs(self, why: Overran) -> None:
        if self._holder is not None:
            self._holder.engine_hangs(str(why))


def score(engine: Engine, rows: Rows, scores_per_row: int, good_row: Rows | None = None) -> BatchScores:
    """Predict, and when the batch fails cut it in halves, so that only the rows that cause it fail.

    Where all of them do, `good_row` tells whether they are at fault. Raises `Interrupted`, and nothing else.
    """
    outcome = _score_apart(engine, rows, scores_per_row)
    if good_row is None or len(outcome.failures) < len(rows):
        return outcome
    return replace(outcome, broken=outcome.broken or bool(_score_apart(engine, good_row, scores_per_row).failures))


def _score_apart(engine: Engine, rows: Rows, scores_per_row: int) -> BatchScores:
    """Predict, in halves where the batch fails."""
    shape = shape_of(rows, scores_per_row)
    try:
        scores = _predict(engine, rows, shape)
    except Exception as error:
        reason = _reason(error)
    else:
        return BatchScores(scores, not_finite(scores))
    halves = Halves(shape, reason)
    for start, stop in halves:
        # Of errors only texts are kept: tracebacks know this frame, a cycle.
        try:
            part = _predict(engine, rows[start:stop], (stop - start, *shape[1:]))
        except Exception as cause:
            halves.failed(start, stop, _reason(cause))
        else:
            halves.scored(start, stop, part)
    return halves.outcome()


def shape_of(rows: Rows, scores_per_row: int) -> tuple[int, ...]:
    """The shape of a batch's scores: (rows,), or (rows, classes)."""
    return (len(rows),) if scores_per_row == 1 else (len(rows), scores_per_row)


class Halves:
    """Which parts (start, stop) of a batch to score, after it failed as a whole: halves, until rows at fault are alone.

    Of each part it is to be told, before the next, that it was `scored` or that it `failed`.
    """

    def __init__(self, shape: tuple[int, ...], reason: str) -> None:
        """`shape` is that of the batch's scores: (rows,) or (rows, classes). `reason` is why it failed."""
        self._scores = np.zeros(shape, dtype=np.float32)
        self._failures: dict[int, str] = {}
        self._failing = [(0, shape[0], reason)]
        self._calls = 0
        self._is_cut_short = False

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while self._failing:
            start, stop, reason = self._failing.pop()
            if stop - start == 1 or self._calls > MAX_FAILING_CALLS:
                self._failures.update(dict.fromkeys(range(start, stop), reason))
                self._is_cut_short |= stop - start > 1
                continue
            middle = (start + stop) // 2
            yield start, middle
            yield middle, stop

    def scored(self, start: int, stop: int, scores: Scores) -> None:
        self._scores[start:stop] = scores

    def failed(self, start: int, stop: int, reason: str) -> None:
        self._calls += 1
        self._failing.append((start, stop, reason))

    def outcome(self) -> BatchScores:
        """What is known of the batch, after all parts."""
        return BatchScores(self._scores, self._failures | not_finite(self._scores), self._is_cut_short)


def _predict(engine: Engine, rows: Rows, shape: tuple[int, ...]) -> Scores:
    """Predict, and refuse what is not scores of `shape`."""
    scores = engine.predict(rows)
    if scores.shape != shape:
        raise ValueError(f"the model returned scores of shape {scores.shape} where {shape} belong")
    return scores


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def not_finite(scores: Scores) -> dict[int, str]:
    """Why each row failed whose score is no number."""
    # Finite if all scores are and none is huge: a quarter of the time that looking at each takes.
    if math.isfinite(np.vdot(scores, scores)):
        return {}
    finite = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
    bad_rows = np.flatnonzero(~finite)
    return dict.fromkeys(bad_rows.tolist(), "the model returned a score that is not a finite number")
