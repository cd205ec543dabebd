"""What the dialects and the dispatcher say to each other, free of any wire format."""

from collections.abc import Mapping
from math import inf
from typing import Any

import msgspec

from runners.artefacts.card import Card
from runners.batching.job import Job
from runners.inputs.rows import RequestRows, RowFormat
from runners.trace import TraceContext
from shokado.dispatch.experiment import CountedStage
from shokado.dispatch.reason import Reason


class PredictionRequest(msgspec.Struct, eq=False, gc=False):
    """A decoded request: `row_count` rows as the model takes them, their numbers finite, their texts Unicode.

    Where versions differ, they are `OpenRows`, and which they are is only known with the version.
    """

    rows: RequestRows
    row_count: int
    version: str | None = None
    """A version or alias that the client asks for."""
    environment: str | None = None
    split: bool = True
    """False where the route or the client wants the active version."""
    unit: str = ""
    """What sticky assignment sticks to."""
    deadline: float = inf
    """When the answer is of no more use, in seconds of `time.monotonic`."""
    answer_options: Any = None
    """What the client wants of the answer, for the encoder of the same dialect; nobody else looks at it."""
    trace: TraceContext | None = None


class Origin(msgspec.Struct, eq=False, frozen=True):
    """Where predictions come from: one version in one environment, under one generation; new with each routing.

    It does not know its runner: whatever remembers origins would keep engines in memory that were unloaded.
    """

    version: str
    environment: str
    generation: int
    card: Card
    stage: CountedStage | None = None
    """What an experiment of the environment counts; None where none is under way."""
    shares: Mapping[str, float] = {}
    """The chance with which each version of the environment is given a request that it deals out."""
    row_format: RowFormat = msgspec.UNSET  # type: ignore[assignment]  # the card's, which takes a while to find

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "row_format", self.card.row_format)


class Prediction(Job, eq=False, kw_only=True):
    """A job with its assignment: which version scores it, where and under which generation, and why."""

    origin: Origin
    reason: Reason
    latency_s: float = 0.0
    """How long it took from the request's arrival to its answer, once there is one."""
    unit: str = ""
    """What sticky assignment stuck to."""
    passed_over: str = ""
    """The version that it was assigned to, where that was passed over or failed."""
    request_id: str = ""
    prediction_id: str = ""
    """As the answer says them, once there is one."""
    cached: bool = False
    """Whether its scores are those of an earlier one, so that no batch has its rows."""
    otherwise: Mapping[RowFormat, RequestRows] | None = None
    """Where versions differ: the rows as other ones take them that may be asked as well, if they can take them."""

    @property
    def version(self) -> str:
        return self.origin.version

    @property
    def card(self) -> Card:
        return self.origin.card

    def rows_as(self, row_format: RowFormat) -> RequestRows | None:
        """The rows as a version of this format takes them, if it can."""
        if row_format.packs_like(self.origin.row_format):
            return self.rows
        others = self.otherwise.items() if self.otherwise is not None else ()
        return next((rows for other, rows in others if row_format.packs_like(other)), None)


class UnknownVersion(Exception):
    """The request names a version or environment that is not served here."""

    def __init__(self, what: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {what} {name[:100]!r}; served are {', '.join(sorted(known))}")
        self.what = what
