"""Logged rows: the records of segments as a person or a table reads them, one for each row of a request."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.artefacts.scores import labels_of, score_names
from runners.inputs.rows import Rows
from shokado.request_log.records import LoggedCard, LoggedFeedback, LoggedRequest, LoggedRequests, Record
from shokado.request_log.segments import Folder, records_of, segments_at


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """One row that was answered."""

    at: float
    """When, in Unix seconds."""
    request_id: str
    prediction_id: str
    index: int
    """The row's position in its request."""
    unit: str
    version: str
    environment: str
    generation: int
    reason: str
    propensity: float | None
    """The chance with which the version was given the request; None where it was not dealt out, or nobody wrote it."""
    latency_ms: float
    features: dict[str, Any]
    """As JSON has them; None where a value is missing or was dropped, and the hash where it was hashed."""
    scores: dict[str, float]
    """By class or output; a single score is called `score`."""
    label: int | str | None
    """The class that was answered; None for values."""


class RecordReader:
    """Makes rows of the records of one segment, whose cards it keeps."""

    def __init__(self) -> None:
        self._logged: dict[int, LoggedCard] = {}
        self._cards: dict[int, tuple[Card, tuple[str, ...]]] = {}

    def learn(self, records: Iterable[Record]) -> None:
        """Keep the cards of these."""
        for record in records:
            if isinstance(record, LoggedCard):
                self._logged[record.number] = record

    def knows(self, number: int) -> bool:
        """Whether a card of this number was learned."""
        return number in self._logged

    def rows_of(self, records: Iterable[Record]) -> Iterator[LoggedRow]:
        """The rows of records that follow each other, feedback left out."""
        for record in records:
            if isinstance(record, LoggedCard):
                self.learn((record,))
            elif isinstance(record, LoggedRequests):
                for _, rows in self.requests_of(record):
                    yield from rows

    def requests_of(
        self, record: LoggedRequests, most: int | None = None, *, backwards: bool = False
    ) -> Iterator[tuple[LoggedRequest, list[LoggedRow]]]:
        """The requests of a record, the last one first if `backwards`, each with its first `most` rows; None: all."""
        card, masked = self._card(record.card)
        batch, scores = unpacked(card, record)
        names, row_format = score_names(card), card.row_format
        starts = accumulate((request.row_count for request in record.requests), initial=0)
        placed = list(zip(record.requests, starts, strict=False))
        for request, start in reversed(placed) if backwards else placed:
            chosen = slice(start, start + min(request.row_count, most if most is not None else request.row_count))
            labels = labels_of(card, scores[chosen].tolist()) or [None] * len(scores[chosen])
            rows = []
            for index, row in enumerate(row_format.unbatched(batch[chosen])):
                features = row_format.named(row)
                for name in masked:
                    features[name] = record.hashes[name][start + index] if name in record.hashes else None
                values = np.atleast_1d(scores[start + index]).tolist()
                rows.append(
                    LoggedRow(
                        record.at,
                        request.request_id,
                        request.prediction_id,
                        index,
                        request.unit,
                        card.version,
                        record.environment,
                        record.generation,
                        request.reason,
                        record.propensity(request, card.version),
                        request.latency_s * 1000,
                        features,
                        dict(zip(names, values, strict=True)),
                        labels[index],
                    )
                )
            yield request, rows

    def _card(self, number: int) -> tuple[Card, tuple[str, ...]]:
        if number not in self._cards:
            logged = self._logged[number]
            self._cards[number] = Card.model_validate_json(logged.card), logged.masked
        return self._cards[number]


def unpacked(card: Card, record: LoggedRequests) -> tuple[Rows, NDArray[np.float32]]:
    """The rows of a record and their scores, of shape (rows,) or (rows, scores of a row)."""
    batch = card.row_format.from_wire(record.rows)
    scores = np.frombuffer(record.scores, dtype="<f4")
    return batch, scores if len(scores) == len(batch) else scores.reshape(len(batch), -1)


class LogReader:
    """Reads a folder's segments, and then what was added to them."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._readers: dict[Path, RecordReader] = {}
        self._ends: dict[Path, int] = {}

    def rows(self) -> Iterator[LoggedRow]:
        """The rows that were not given yet, those of a segment together. Raises `SegmentDamaged`, and `OSError`."""
        for segment in segments_at(self._folder):
            path = segment.path
            if segment.size_bytes <= self._ends.get(path, 0):
                continue
            reader = self._readers.setdefault(path, RecordReader())
            for records, end in records_of(segment, self._ends.get(path, 0)):
                self._ends[path] = end
                yield from reader.rows_of(records)


def rows_in(folder: Folder) -> Iterator[LoggedRow]:
    """All rows of a folder's segments, those of a segment together. Raises `SegmentDamaged`, and `OSError`."""
    return LogReader(folder).rows()


def requests_in(folder: Folder, since: float, until: float) -> Iterator[tuple[LoggedCard, LoggedRequests]]:
    """The records of requests from `since` on and before `until`, in Unix seconds, each with what it is read by.

    Raises `SegmentDamaged`, and `OSError`.
    """
    for segment in segments_at(folder):
        if segment.written_at < since:
            continue
        cards: dict[int, LoggedCard] = {}
        for records, _ in records_of(segment):
            for record in records:
                if isinstance(record, LoggedCard):
                    cards[record.number] = record
                elif isinstance(record, LoggedRequests) and since <= record.at < until:
                    yield cards[record.card], record


def feedback_in(folder: Folder) -> Iterator[LoggedFeedback]:
    """All feedback of a folder's segments, in the order of their beginnings."""
    for segment in segments_at(folder):
        for records, _ in records_of(segment):
            yield from (record for record in records if isinstance(record, LoggedFeedback))
