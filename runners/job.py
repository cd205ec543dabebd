"""A job: the rows of one request on their way through a batcher, and what comes back for them."""

from collections.abc import Callable
from math import inf

import numpy as np

from runners.engine import Scores
from runners.errors import RunnerError


class Job:
    """Rows as packed float32 bytes (little-endian, row after row), which join into a batch with one copy.

    `done` is called exactly once, on the event loop, unless the job was cancelled: then `scores` has shape
    (rows,) or (rows, classes), or `error` says why there are none. Times are seconds of the batcher's clock.
    """

    __slots__ = ("cancelled", "deadline", "done", "error", "filled", "row_count", "rows", "scores", "started_at",
                 "submitted_at", "taken")  # fmt: skip

    def __init__(
        self, rows: bytes | memoryview, row_count: int, done: "Callable[[Job], None]", deadline: float = inf
    ) -> None:
        self.rows = rows
        self.row_count = row_count
        self.done = done
        self.deadline = deadline
        self.scores: Scores | None = None
        self.error: RunnerError | None = None
        self.cancelled = False
        self.submitted_at = self.started_at = 0.0
        self.taken = self.filled = 0
        """How many rows were put into batches, and how many of those came back."""

    def part(self, start: int, count: int) -> bytes | memoryview:
        """`count` rows from `start` on, for a batch."""
        if count == self.row_count:
            return self.rows
        stride = len(self.rows) // self.row_count
        return memoryview(self.rows)[start * stride : (start + count) * stride]

    def fill(self, start: int, scores: Scores) -> bool:
        """Put back the scores of the rows from `start` on; true when these were the last."""
        if len(scores) == self.row_count:
            self.scores = scores
            self.filled = self.row_count
            return True
        if self.scores is None:
            self.scores = np.empty((self.row_count, *scores.shape[1:]), dtype=np.float32)
        self.scores[start : start + len(scores)] = scores
        self.filled += len(scores)
        return self.filled == self.row_count
