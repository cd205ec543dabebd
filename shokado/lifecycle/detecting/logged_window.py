"""Logged rows of versions within a window, as arrays: what a job compares with other rows.

However many versions there are, the log is read once for all of them, and what is kept of it shares the memory of one.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.inputs.rows import Rows
from shokado.lifecycle.importing.reference_rows import RowSampler, most_rows
from shokado.request_log.logged_rows import requests_in, unpacked
from shokado.request_log.records import LoggedCard, LoggedRequests
from shokado.request_log.segments import Folder


@dataclass(frozen=True, eq=False)
class LoggedWindow:
    """Rows that a version answered, as one import.

    Attributes:
        logged: what they are read by.
        masked: features whose values were taken out of any of them.
        rows: (rows, features), or texts, dtype object (rows, 1); a sample where there were many.
        scores: float32 (rows, scores of a row), of the same rows.
        of: how many rows there were.
        others: rows in the window of the same label, and of another import.
    """

    logged: LoggedCard
    masked: frozenset[str]
    rows: Rows
    scores: NDArray[Any]
    of: int
    others: int = 0

    @property
    def card(self) -> Card:
        return Card.model_validate_json(self.logged.card)


def windows_between(
    folder: Folder, start: float, end: float, versions: Collection[str] | None = None
) -> dict[str, LoggedWindow]:
    """Rows of these versions (None: of all) from `start` on and before `end`, in Unix seconds, by version.

    They are those of the import that answered last. Versions without rows are missing. Raises `SegmentDamaged`, and
    `OSError`.
    """
    found = _gathered(folder, start, end, lambda _, card: versions is None or card.version in versions)
    latest: dict[str, _Gathered] = {}
    for one in sorted(found.values(), key=lambda one: one.last_at):
        latest[one.card.version] = one
    return {
        version: one.window(sum(other.rows.seen for other in found.values() if other.card.version == version))
        for version, one in sorted(latest.items())
    }


def rows_of_imports(folder: Folder, start: float, end: float, cards: Collection[bytes]) -> dict[bytes, LoggedWindow]:
    """Rows of the imports with these cards in the same way, by card; those without rows are missing."""
    found = _gathered(folder, start, end, lambda logged, _: logged.card in cards)
    return {card: one.window(one.rows.seen) for card, one in found.items()}


@dataclass
class _Gathered:
    logged: LoggedCard
    card: Card
    rows: RowSampler
    scores: RowSampler
    masked: set[str] = field(default_factory=set)
    last_at: float = 0.0

    def add(self, logged: LoggedCard, record: LoggedRequests) -> None:
        rows, scores = unpacked(self.card, record)
        # Both draw with one seed, and so the same rows.
        self.rows.add(rows)
        self.scores.add(scores.reshape(len(rows), -1))
        self.masked.update(logged.masked)
        self.last_at = max(self.last_at, record.at)

    def keep_at_most(self, rows: int) -> None:
        self.rows.keep_at_most(rows)
        self.scores.keep_at_most(rows)

    def window(self, of_all_imports: int) -> LoggedWindow:
        seen = self.rows.seen
        masked = frozenset(self.masked)
        return LoggedWindow(self.logged, masked, self.rows.drawn(), self.scores.drawn(), seen, of_all_imports - seen)


def _gathered(
    folder: Folder, start: float, end: float, is_wanted: Callable[[LoggedCard, Card], bool]
) -> dict[bytes, _Gathered]:
    """What the log has of each import that is wanted, by its card."""
    found: dict[bytes, _Gathered | None] = {}
    for logged, record in requests_in(folder, start, end):
        if logged.card not in found:
            _begin(found, logged, is_wanted)
        if (gathered := found[logged.card]) is not None:
            gathered.add(logged, record)
    return {card: one for card, one in found.items() if one is not None}


def _begin(
    found: dict[bytes, _Gathered | None], logged: LoggedCard, is_wanted: Callable[[LoggedCard, Card], bool]
) -> None:
    """Make room for rows of a card that was not met before; all that are wanted share the memory of one."""
    card = Card.model_validate_json(logged.card)
    if not is_wanted(logged, card):
        found[logged.card] = None
        return
    most = most_rows(card)
    found[logged.card] = _Gathered(logged, card, RowSampler(most), RowSampler(most))
    begun = [one for one in found.values() if one is not None]
    for one in begun:
        one.keep_at_most(most_rows(one.card, len(begun)))
