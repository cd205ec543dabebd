"""The writer of a process's records: cards before the requests that name them, no value that must not be there.

Everything here takes place in a thread of its own, beside the event loop.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path

from configuration.log_settings import LogSettings
from runners.artefacts.card import Card
from shokado.request_log.masking import Masking
from shokado.request_log.records import LoggedCard, LoggedRequests, decode, encode
from shokado.request_log.segments import SegmentWriter, drop_old
from shokado.request_log.sent import forget

LOOK_EVERY_S = 60.0
"""How often segments are looked for that are too old or too many."""
_NAMED = 3
"""Files that the log names of those that were lost."""

logger = logging.getLogger("bentoml.shokado")


class LogWriter:
    """Writes to the segments of one folder. For one thread at a time."""

    def __init__(
        self,
        settings: LogSettings,
        folder: Path,
        worker: str,
        key: bytes,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`worker` is the process's name, which no other one has, and `key` what values are hashed with."""
        self._settings = settings
        self._folder = folder
        self._elapsed = elapsed
        self._segment = SegmentWriter(folder, worker, elapsed=elapsed)
        self._masking = Masking(settings, key)
        self._written: set[int] = set()
        """The cards that are in the open segment."""
        self._looked_at = -inf
        self.lost_segments = 0
        """How many the limits of size and age have removed before they were sent, where there is a sink."""

    def write(self, records: Sequence[bytes], cards: Mapping[int, Card]) -> None:
        """Write records that are encoded, requests masked; `cards` are those that they name.

        Raises `OSError`: none was written.
        """
        if self._is_full():
            self.end_segment()
        fresh = [number for number in cards if number not in self._written]
        kept = [self._masked(record, cards) for record in records] if self._masking.masks_any else records
        self._segment.write([*(self._card(number, cards[number]) for number in fresh), *kept])
        self._written.update(fresh)
        self._drop_in_time()

    def tend(self) -> None:
        """Do what is to be done in time, also where nobody asks: end a segment, remove old ones. Raises `OSError`."""
        if self._is_full():
            self.end_segment()
        self._drop_in_time()

    def end_segment(self) -> None:
        """Let the next records begin a segment."""
        self._segment.close()
        self._written.clear()

    def drop_old(self) -> None:
        """Remove what the limits of size and age leave no room for."""
        settings = self._settings
        dropped = drop_old(self._folder, settings.max_bytes, time.time() - settings.max_age_hours * 3600)
        if settings.sink.url is None:
            return
        lost = [segment for segment in forget(self._folder, dropped) if segment.is_ended]
        if lost:
            self.lost_segments += len(lost)
            names = ", ".join(segment.path.name for segment in lost[:_NAMED])
            logger.error("%d files of the request log were removed before they were sent: %s", len(lost), names)

    def _drop_in_time(self) -> None:
        if self._elapsed() >= self._looked_at + LOOK_EVERY_S:
            self._looked_at = self._elapsed()
            self.drop_old()

    def _is_full(self) -> bool:
        segment, settings = self._segment, self._settings
        return segment.size > 0 and (segment.size >= settings.segment_bytes or segment.age_s >= settings.segment_s)

    def _card(self, number: int, card: Card) -> bytes:
        return encode(LoggedCard(number, card.model_dump_json().encode(), self._masking.of(card.row_format)))

    def _masked(self, record: bytes, cards: Mapping[int, Card]) -> bytes:
        decoded = decode(record)
        if not isinstance(decoded, LoggedRequests):
            return record
        return encode(self._masking.masked(decoded, cards[decoded.card].row_format))
