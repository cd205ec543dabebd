"""What is told of a batch that came back, and to whom."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from runners.artefacts.scores import Scores
from runners.batching.job import Job
from runners.inputs.rows import Rows
from runners.trace import BatchTrace

Chunk = tuple[Job, int, int]
"""A job and how many of its rows, counted from where, are part of a batch: (job, start, rows)."""


class ReleaseReason(StrEnum):
    """Why a batch was sent off when it was."""

    IDLE = "idle"
    """The executor was free when the first job came."""
    FREED = "freed"
    """The executor became free and took all that had gathered."""
    FULL = "full"
    """The batch reached the row limit; more was waiting."""


class EndedBatch(msgspec.Struct, frozen=True, eq=False):
    """A batch of a version that came back. Its arrays are the engine's and must not be written to."""

    version: str
    rows: Rows
    scores: Scores | None
    """The scores of all rows, those that failed included; None when the executor itself failed."""
    failures: Mapping[int, str]
    """Why single rows have no score worth reading, by their index in the batch."""
    waits_s: Sequence[float]
    """Seconds in the queue, of each job that the batch finished."""
    release: ReleaseReason
    seconds: float
    """What the executor took."""
    sent_at: float = 0.0
    ended_at: float = 0.0
    """When it left the queue, and when it came back, in seconds of the batcher's clock."""
    chunks: Sequence[Chunk] = ()
    """What it was made of."""
    trace: BatchTrace | None = None
    """The calls to a far side that computed it, if one of its jobs is part of a trace."""


class BatchObserver(Protocol):
    """Hears of every batch that came back, on the event loop."""

    def batch(self, batch: EndedBatch, /) -> None: ...
