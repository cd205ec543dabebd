"""Places: where a runner's batches are computed. Here: in this process.

`hop` has the one in another process of this server, `remote` the one in another server.
"""

import asyncio
import math
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

import numpy as np

from runners.engine import Engine, Rows, Scores

MAX_FAILING_CALLS = 64
"""How often a failing batch is cut in half before the rest of it fails as it is: a broken model must not cost much."""


@dataclass(frozen=True, slots=True)
class BatchScores:
    """What came back for a batch: scores of every row, and why the rows in `failures` have none worth reading."""

    scores: Scores
    failures: dict[int, str] = field(default_factory=dict)


class Place(Protocol):
    """Computes batches, up to `concurrency` at once, and calls `done` on the event loop with what came back.

    Of `ahead` more it takes care itself: they start when earlier ones end. `done` may be called before `run` returns.
    An exception is handed to it, never raised.
    """

    concurrency: int
    ahead: int
    heeds_deadlines: bool
    """Whether `run` is to be told until when anybody waits for the scores, in seconds of `time.monotonic`."""

    def run(
        self, rows: Rows, expected_s: float, done: Callable[[BatchScores | Exception], None], deadline: float = inf, /
    ) -> None: ...

    async def close(self) -> None: ...


class EmbeddedPlace:
    """The engine in this process: short batches on the event loop, long ones in one thread beside it."""

    concurrency = 1
    ahead = 1
    heeds_deadlines = False

    def __init__(self, engine: Engine, scores_per_row: int, inline_s: float) -> None:
        self._engine = engine
        self._scores_per_row = scores_per_row
        self._inline_s = inline_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shokado-engine")
        self._in_thread = 0

    def run(
        self, rows: Rows, expected_s: float, done: Callable[[BatchScores | Exception], None], _deadline: float = inf
    ) -> None:
        if expected_s <= self._inline_s and not self._in_thread:
            done(score(self._engine, rows, self._scores_per_row))
            return

        def come_back(scores: BatchScores) -> None:
            self._in_thread -= 1
            done(scores)

        self._in_thread += 1
        loop = asyncio.get_running_loop()
        future = self._thread.submit(score, self._engine, rows, self._scores_per_row)
        future.add_done_callback(lambda future: loop.call_soon_threadsafe(come_back, future.result()))

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)


def score(engine: Engine, rows: Rows, scores_per_row: int) -> BatchScores:
    """Predict, and when the batch fails cut it in halves, so that only the rows that cause it fail. Never raises."""
    shape = shape_of(rows, scores_per_row)
    try:
        scores = _predict(engine, rows, shape)
    except Exception as error:
        reason = _reason(error)
    else:
        return BatchScores(scores, not_finite(scores))
    return _score_in_halves(engine, rows, shape, reason)


def shape_of(rows: Rows, scores_per_row: int) -> tuple[int, ...]:
    """Of the scores of a batch."""
    return (len(rows),) if scores_per_row == 1 else (len(rows), scores_per_row)


def halves(shape: tuple[int, ...], reason: str) -> Generator[tuple[int, int], Scores | str, BatchScores]:
    """Which parts (start, stop) of a batch to score, after it failed as a whole with this reason.

    It is sent the scores of each part, or why there are none, and returns what is known of the batch in the end.
    `shape` is that of the batch's scores.
    """
    scores = np.zeros(shape, dtype=np.float32)
    failures: dict[int, str] = {}
    failing = [(0, len(scores), reason)]
    calls = 0
    while failing:
        start, stop, reason = failing.pop()
        if stop - start == 1 or calls > MAX_FAILING_CALLS:
            failures.update(dict.fromkeys(range(start, stop), reason))
            continue
        middle = (start + stop) // 2
        for low, high in ((start, middle), (middle, stop)):
            outcome = yield low, high
            if isinstance(outcome, str):
                calls += 1
                failing.append((low, high, outcome))
            else:
                scores[low:high] = outcome
    return BatchScores(scores, failures | not_finite(scores))


def _score_in_halves(engine: Engine, rows: Rows, shape: tuple[int, ...], reason: str) -> BatchScores:
    """Score a batch that failed as a whole. Of errors only texts are kept: tracebacks know this frame, a cycle."""
    parts = halves(shape, reason)
    outcome: Scores | str | None = None
    while True:
        try:
            low, high = parts.send(outcome)  # type: ignore[arg-type]  # none starts it
        except StopIteration as end:
            result: BatchScores = end.value
            return result
        try:
            outcome = _predict(engine, rows[low:high], (high - low, *shape[1:]))
        except Exception as cause:
            outcome = _reason(cause)


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
