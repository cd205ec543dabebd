"""A candidate: the version that logged requests are put to, stored or served, and what it makes of each.

In: logged calls. Out: for each of them the scores of its rows, or why there are none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from numpy.typing import NDArray

from configuration.settings import LimitSettings
from runners.artefacts.card import Card, Task
from runners.inputs.columns import Category
from runners.inputs.formats import row_format_of
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature
from shokado.lifecycle.replaying.logged_calls import LoggedCall

_LIMITS = LimitSettings(max_rows=1_000_000, max_text_characters=10_000_000)
"""As wide as a server can have them: what was answered was within its own."""


@dataclass(frozen=True)
class CandidateSignature:
    """What the candidate takes and gives.

    Attributes:
        model: the name of the model; None where its server does not say.
    """

    version: str
    model: str | None
    task: Task
    features: tuple[Feature, ...]
    classes: tuple[int | str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of_card(cls, card: Card) -> "CandidateSignature":
        return cls(card.version, card.model, card.task, card.features, card.classes, card.outputs)

    @cached_property
    def row_format(self) -> RowFormat:
        """The format of its rows."""
        return row_format_of(self.features, _LIMITS)

    @cached_property
    def categories(self) -> dict[str, Category]:
        """Its columns of levels, by name."""
        return {column.name: column for column in self.row_format.schema.columns if isinstance(column, Category)}

    def rows_of(self, call: LoggedCall) -> list[dict[str, Any]]:
        """The rows of a call as the candidate takes them: its own features, by name, truths as the numbers 1 and 0."""
        logged, names = call.origin.card.row_format, self.row_format.feature_names
        rows = map(logged.named, logged.unbatched(call.batch))
        return [{name: row[name] for name in names} for row in rows]


@dataclass(frozen=True, eq=False, slots=True)
class ReplayedCall:
    """What the candidate made of a call.

    Attributes:
        scores: float32, (rows,) or (rows, scores of a row); None where there are none.
        positions: of classifiers the position of each row's class, (rows,), or of each of its labels', (rows, outputs).
        latency_ms: as its server says; None where there is no server.
        fault: the code of the error; empty where there are scores.
        message: the same for people.
    """

    scores: NDArray[Any] | None = None
    positions: NDArray[Any] | None = None
    latency_ms: float | None = None
    fault: str = ""
    message: str = ""


Progress = Callable[[Sequence[ReplayedCall]], None]
"""Is told of calls as they are replayed."""


class Candidate(Protocol):
    """Takes logged calls."""

    @property
    def signature(self) -> CandidateSignature: ...

    @property
    def address(self) -> str:
        """Where it is, for people."""
        ...

    @property
    def has_latency(self) -> bool:
        """Whether its latencies can be compared with those of the log."""
        ...

    def replay(self, calls: Sequence[LoggedCall], progress: Progress) -> list[ReplayedCall]:
        """What it makes of each call, in their order. Raises `LifecycleError` where nothing more can be asked."""
        ...
