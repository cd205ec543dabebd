"""Logged rows of a version within a window, as arrays: what a job compares with other rows."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.inputs.rows import Rows
from shokado.lifecycle.importing.reference_rows import RowSampler, most_rows
from shokado.request_log.logged_rows import unpacked
from shokado.request_log.records import LoggedCard, LoggedRequests
from shokado.request_log.segments import Folder, records_of, segments_at


@dataclass(frozen=True, eq=False)
class LoggedWindow:
    """Rows that a version answered.

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


@dataclass
class _Gathered:
    logged: LoggedCard
    card: Card
    rows: RowSampler
    scores: RowSampler
    masked: set[str] = field(default_factory=set)
    last_at: float = 0.0

    def add(self, record: LoggedRequests) -> None:
        rows, scores = unpacked(self.card, record)
        # Both draw with one seed, and so the same rows.
        self.rows.add(rows)
        self.scores.add(scores.reshape(len(rows), -1))
        self.last_at = max(self.last_at, record.at)


def rows_between(
    folder: Folder, version: str, start: float, end: float, card: bytes | None = None
) -> LoggedWindow | None:
    """The version's rows from `start` on and before `end`, in Unix seconds; None where there are none.

    They are those of one import, `card`, or of the one that answered last. Raises `SegmentDamaged`, and `OSError`.
    """
    found: dict[bytes, _Gathered] = {}
    for segment in segments_at(folder):
        if segment.written_at < start:
            continue
        cards: dict[int, LoggedCard] = {}
        for records, _ in records_of(segment):
            for record in records:
                if isinstance(record, LoggedCard):
                    cards[record.number] = record
                elif isinstance(record, LoggedRequests) and start <= record.at < end:
                    _gather(found, cards[record.card], record, version)
    if card is not None:
        chosen = found.get(card)
    else:
        chosen = max((one for one in found.values() if one.rows.seen), key=lambda one: one.last_at, default=None)
    if chosen is None or not chosen.rows.seen:
        return None
    others = sum(one.rows.seen for one in found.values()) - chosen.rows.seen
    masked = frozenset(chosen.masked)
    return LoggedWindow(chosen.logged, masked, chosen.rows.drawn(), chosen.scores.drawn(), chosen.rows.seen, others)


def _gather(found: dict[bytes, _Gathered], logged: LoggedCard, record: LoggedRequests, version: str) -> None:
    gathered = found.get(logged.card)
    if gathered is None:
        card = Card.model_validate_json(logged.card)
        most = most_rows(card)
        gathered = found[logged.card] = _Gathered(logged, card, RowSampler(most), RowSampler(most))
    if gathered.card.version == version:
        gathered.masked.update(logged.masked)
        gathered.add(record)
