"""The hop to a version that runs in a service of its own: one HTTP call carries a whole batch, as packed floats.

    POST /rows   body: float32 rows, little-endian, row after row; of a text model: MessagePack of a list of strings
    200          body: float32 scores; header `x-failures`: JSON {row: reason} for rows that could not be scored

Used by `HopPlace` on the gateway's side and `answer_rows` on the service's.
"""

import asyncio
from collections.abc import Callable
from math import inf
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np

from runners.card import Card
from runners.engine import Engine, Rows
from runners.place import BatchScores, score
from runners.rows import decode_batch, encode_batch

ROUTE = "/rows"
FAILURES_HEADER = "x-failures"
MAX_FAILURE_LETTERS = 200
_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=5)
_MAX_HEADER_BYTES = 2**30
"""Every row of a batch may fail, each with a reason of its own."""

_encode = msgspec.json.Encoder().encode
_decode_failures = msgspec.json.Decoder(dict[int, str]).decode


class HopError(Exception):
    """The service answered, but not with scores."""


class HopPlace:
    """A version's service as a place. One call for each of its workers may be under way from each gateway worker."""

    ahead = 0
    heeds_deadlines = False

    def __init__(self, url: str, scores_per_row: int, workers: int) -> None:
        """`url` is `file:///path/to.sock` or `http://host:port`, as BentoML's runner map has it."""
        self.concurrency = workers
        self._scores_per_row = scores_per_row
        parts = urlsplit(url)
        connector: aiohttp.BaseConnector
        if parts.scheme == "file":
            connector = aiohttp.UnixConnector(parts.path, limit=workers, keepalive_timeout=3600)
            self._target = "http://runner" + ROUTE
        else:
            connector = aiohttp.TCPConnector(limit=workers, keepalive_timeout=3600)
            self._target = f"http://{parts.netloc}{ROUTE}"
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=_TIMEOUT, auto_decompress=False, max_field_size=_MAX_HEADER_BYTES
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def run(
        self, rows: Rows, _expected_s: float, done: Callable[[BatchScores | Exception], None], _deadline: float = inf
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._run(rows, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await self._session.close()

    async def _run(self, rows: Rows, done: Callable[[BatchScores | Exception], None]) -> None:
        outcome: BatchScores | Exception
        try:
            outcome = await self._post_twice_if_cut(rows)
        except Exception as error:  # whatever it is, a batcher that never heard of it would wait for ever
            outcome = error
        done(outcome)

    async def _post_twice_if_cut(self, rows: Rows) -> BatchScores:
        try:
            return await self._post(rows)
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            # The worker at the other end died or was replaced. Scoring changes nothing, so once more is safe.
            return await self._post(rows)

    async def _post(self, rows: Rows) -> BatchScores:
        async with self._session.post(self._target, data=encode_batch(rows)) as response:
            body = await response.read()
            if response.status != 200:
                said = body[:200].decode(errors="replace")
                raise HopError(f"the version's service answered {response.status}: {said}")
            failures = response.headers.get(FAILURES_HEADER)
        scores = np.frombuffer(body, dtype=np.float32)
        if len(scores) != len(rows) * self._scores_per_row:
            raise HopError(f"the version's service sent {len(scores)} scores for {len(rows)} rows")
        if self._scores_per_row > 1:
            scores = scores.reshape(len(rows), self._scores_per_row)
        return BatchScores(scores, _decode_failures(failures) if failures else {})


def answer_rows(engine: Engine, card: Card, body: bytes) -> tuple[bytes, bytes | None]:
    """Score the body of a `POST /rows`: packed scores, and the value of `x-failures` when there are any.

    Raises `ValueError` when the body is not a whole number of rows.
    """
    outcome = score(engine, decode_batch(card, body), card.scores_per_row)
    failures = {row: reason[:MAX_FAILURE_LETTERS] for row, reason in outcome.failures.items()}
    return np.ascontiguousarray(outcome.scores).tobytes(), _encode(failures) if failures else None
