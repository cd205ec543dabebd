"""The observer that records requests: what is answered is noted on the event loop, and written in a thread.

    answered --(drawn, encoded, and there is room)--> waiting --(every `flush_s`)--> `LogWriter`
                           `--(no room)--> dropped, and counted

A request is never held up. All that were answered in the same milliseconds are encoded at once, while they are in the
processor's caches, so that nothing is left for the thread that needs the interpreter, unless values are masked. What
waits is bounded in bytes; beyond it, and where the disk refuses, records are lost, which the metrics tell.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf

import msgspec

from configuration.log_settings import LogSettings
from runners.artefacts.card import Card
from runners.log_throttle import LogThrottle
from shokado.dispatch.observers import PredictionObserver
from shokado.dispatch.request import Origin, Prediction
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.records import LoggedFeedback, LoggedRequests, encode

MAX_REMEMBERED_CARDS = 256
"""Few are in use at a time."""
TEND_EVERY_S = 1.0
"""How often segments are ended and removed by their age, where nothing is written."""
_OVERHEAD_BYTES = 64
"""What a record takes in memory beside its bytes."""
_MOST_OF_THE_ROOM = 8
"""Requests that take a larger part of the room together are noted one by one, so that those are that fit."""

logger = logging.getLogger("bentoml.shokado")


class RequestLogger(PredictionObserver):
    """Records part of this worker's requests. Methods belong to the event loop."""

    def __init__(
        self,
        settings: LogSettings,
        writer: LogWriter,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._clock = clock
        self._draw = draw
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        """Size of what waits, and of what is being written."""
        self._waiting_cards: dict[int, Card] = {}
        """Those that what waits names, by their numbers."""
        self._numbered: dict[tuple[int, str], tuple[int, Card, Card]] = {}
        """The number of each card as it is served, by its `id` and the version's name; with both of them."""
        self._next_number = 0
        self._much_waits = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "request-log")
        self._waiting_rows: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._lost_segments = 0
        self._writing: asyncio.Future[None] | None = None
        self._tended_at = -inf
        self._throttle = LogThrottle()

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:
        """Note those that are drawn, as far as there is room."""
        share = self._settings.share
        if share < 1:
            predictions = [prediction for prediction in predictions if self._draw() < share]
        at = self._clock()
        origins = {prediction.origin for prediction in predictions}
        if len(origins) == 1:
            self._record(version, origins.pop(), at, predictions)
            return
        by_origin: defaultdict[Origin, list[Prediction]] = defaultdict(list)
        for prediction in predictions:
            by_origin[prediction.origin].append(prediction)
        for origin, theirs in by_origin.items():
            self._record(version, origin, at, theirs)

    def feedback(self, prediction_id: str, index: int, label: object, reward: float | None) -> None:
        """Note what was said of a row and counted; `label` is a value of JSON, None where there is none."""
        text = msgspec.json.encode(label).decode() if label is not None else None
        self._note(encode(LoggedFeedback(self._clock(), prediction_id, index, text, reward)))

    def flush_counts(self) -> tuple[Counter[str], Counter[str]]:
        """Rows by version that were written, and that were dropped, since the last time."""
        counts = self._written, self._dropped
        self._written, self._dropped = Counter(), Counter()
        return counts

    def take_lost_segments(self) -> int:
        """How many segments were removed before they were sent, since the last time."""
        lost = self._writer.lost_segments - self._lost_segments
        self._lost_segments += lost
        return lost

    async def run(self) -> None:
        """Write what waits, every `flush_s` or when much does, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.flush_s):
                    await self._much_waits.wait()
            await self.flush()
            if time.monotonic() >= self._tended_at + TEND_EVERY_S:
                self._tended_at = time.monotonic()
                await self._tend()

    async def flush(self) -> None:
        """Write what waits now."""
        self._much_waits.clear()
        records, self._waiting = self._waiting, []
        cards, self._waiting_cards = self._waiting_cards, {}
        rows, self._waiting_rows = self._waiting_rows, Counter()
        if not records:
            return
        # Not to be cancelled: what is written is counted, whoever waits for it.
        self._writing = asyncio.ensure_future(self._write(records, cards, rows, self._waiting_bytes))
        await asyncio.shield(self._writing)

    async def stop(self) -> None:
        """Write what waits, and end the segment."""
        await self.flush()
        # In the same thread, and so after all writes.
        with contextlib.suppress(OSError):
            await self._in_thread(self._writer.end_segment)
        self._thread.shutdown(wait=False)

    async def _tend(self) -> None:
        try:
            await self._in_thread(self._writer.tend)
        except OSError as error:
            self._report(error)

    async def _write(self, records: Sequence[bytes], cards: Mapping[int, Card], rows: Counter[str], size: int) -> None:
        try:
            await self._in_thread(partial(self._writer.write, records, cards))
        except OSError as error:
            self._dropped += rows
            self._report(error)
        else:
            self._written += rows
        finally:
            self._waiting_bytes -= size

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _record(self, version: str, origin: Origin, at: float, predictions: Sequence[Prediction]) -> None:
        """Note predictions of one origin as one record; those of many rows as one each."""
        row_format = origin.row_format
        number, card = self._numbered_card(origin)
        record = encode(
            LoggedRequests(
                number,
                at,
                origin.environment,
                origin.generation,
                # Encoded, a tuple is what a `LoggedRequest` is, and takes half as long to make.
                [
                    (one.request_id, one.prediction_id, one.unit, one.reason, one.latency_s, one.row_count)  # type: ignore[misc]
                    for one in predictions
                ],
                bytes(row_format.key(row_format.concat([one.rows for one in predictions]))),
                # An answered one has its scores.
                b"".join([one.scores.tobytes() for one in predictions]),  # type: ignore[union-attr]
                shares=origin.shares,
            )
        )
        if len(predictions) > 1 and len(record) > self._settings.max_waiting_bytes // _MOST_OF_THE_ROOM:
            for one in predictions:
                self._record(version, origin, at, [one])
            return
        rows = sum([one.row_count for one in predictions])
        if self._note(record):
            self._waiting_cards[number] = card
            self._waiting_rows[version] += rows
        else:
            self._dropped[version] += rows

    def _note(self, record: bytes) -> bool:
        size = len(record) + _OVERHEAD_BYTES
        if self._waiting_bytes + size > self._settings.max_waiting_bytes:
            return False
        self._waiting.append(record)
        self._waiting_bytes += size
        if self._waiting_bytes > self._settings.max_waiting_bytes // 2:
            self._much_waits.set()
        return True

    def _numbered_card(self, origin: Origin) -> tuple[int, Card]:
        """The card of a version under the name that it is served by, which may be another than it was made for.

        It has a number of its own, and is the same object under all routings.
        """
        key = id(origin.card), origin.version
        known = self._numbered.get(key)
        if known is None:
            if len(self._numbered) >= MAX_REMEMBERED_CARDS:
                self._numbered.clear()
            self._next_number += 1
            card = origin.card
            if card.version != origin.version:
                card = card.model_copy(update={"version": origin.version})
            # With the version's own, so that no other one is given its `id`.
            known = self._numbered[key] = self._next_number, card, origin.card
        return known[0], known[1]

    def _report(self, error: OSError) -> None:
        if self._throttle.left_out() is not None:
            logger.error("the request log cannot be written (%s); records are lost until it can", error)
