"""The last rows of the log, found from the ends of its segments: a few blocks of each are read, however long it is."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shokado.request_log.logged_rows import LoggedRow, RecordReader
from shokado.request_log.records import LoggedRequests
from shokado.request_log.segments import Block, Folder, Segment, SegmentDamaged, blocks_of, read_block, segments_at

MAX_SEGMENTS = 64
"""Segments that are looked into, those that were written last: more than the workers of most machines."""
_CLOCKS_DIFFER_S = 1.0
"""How much later a row may say that it was answered than its file that it was written."""


@dataclass(frozen=True, slots=True)
class FoundRows:
    """What was found of the last rows."""

    rows: list[LoggedRow]
    """Newest first; of a request with more rows than were asked for, the first ones."""
    damaged: list[str]
    """Why segments could not be read, each with its file."""


class LastRows:
    """Reads a folder's segments for who asks on the event loop: in a thread, and for one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = asyncio.Lock()

    async def find(self, number: int) -> FoundRows:
        """The last `number` rows of all processes of this machine. Raises `OSError`."""
        async with self._turn:
            return await asyncio.to_thread(last_rows, self._folder, number)


def last_rows(folder: Folder, number: int, most_segments: int | None = MAX_SEGMENTS) -> FoundRows:
    """The last `number` rows of a folder, of at most so many segments; None: of all. Raises `OSError`."""
    rows: list[LoggedRow] = []
    damaged: list[str] = []
    newest_first = sorted(segments_at(folder), key=lambda segment: segment.written_at, reverse=True)
    for segment in newest_first[:most_segments]:
        if rows and len(rows) == number and segment.written_at + _CLOCKS_DIFFER_S < rows[-1].at:
            break
        try:
            rows += _last_of(segment, number)
        except FileNotFoundError:
            # Too old, and removed meanwhile.
            continue
        except SegmentDamaged as error:
            damaged.append(str(error))
        rows = sorted(rows, key=lambda row: row.at, reverse=True)[:number]
    return FoundRows(rows, damaged)


def _last_of(segment: Segment, number: int) -> list[LoggedRow]:
    """The last rows of a segment, in any order. Raises `SegmentDamaged`, and `OSError`."""
    rows: list[LoggedRow] = []
    reader = RecordReader()
    with segment.open() as file:
        blocks = list(blocks_of(segment, file))
        with_cards = [block for block in blocks if block.has_cards]
        for record in _records_backwards(segment, file, blocks):
            while not reader.knows(record.card) and with_cards:
                reader.learn(read_block(segment, file, with_cards.pop()) or ())
            if not reader.knows(record.card):
                raise SegmentDamaged(f"{segment.path}: a request's card is not in it")
            for _, found in reader.requests_of(record, number, backwards=True):
                rows += found
                if len(rows) >= number:
                    return rows
    return rows


def _records_backwards(segment: Segment, file: IO[bytes], blocks: list[Block]) -> Iterator[LoggedRequests]:
    for block in reversed(blocks):
        for record in reversed(read_block(segment, file, block) or []):
            if isinstance(record, LoggedRequests):
                yield record
