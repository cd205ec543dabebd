"""What the protocols and the dispatcher say to each other, free of any wire format."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from dispatch.assignment import Assignment
from runners.card import Card
from runners.job import Job


@dataclass(slots=True)
class PredictionRequest:
    """A decoded request. `rows` are packed float32 values, `row_count` rows of the model's features, all finite."""

    rows: bytes | memoryview
    row_count: int
    version: str | None = None
    """A version or alias that the client asks for."""
    environment: str | None = None
    split: bool = True
    """False where the route or the client wants the active version."""
    unit: str = ""
    """What sticky assignment sticks to."""
    deadline: float = inf
    """In seconds of `time.monotonic`."""


class Prediction(Job):
    """A job with its assignment: which version scores it, why, in which environment, and under which generation."""

    __slots__ = ("card", "environment", "generation", "reason", "version")

    def __init__(
        self,
        request: PredictionRequest,
        done: Callable[[Job], None],
        card: Card,
        assignment: Assignment,
        environment: str,
        generation: int,
    ) -> None:
        super().__init__(request.rows, request.row_count, done, request.deadline)
        self.card = card
        self.version, self.reason = assignment
        self.environment = environment
        self.generation = generation


class UnknownVersion(Exception):
    """The request names a version or environment that is not served here."""

    def __init__(self, what: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {what} {name[:100]!r}; served are {', '.join(sorted(known))}")
        self.what = what
