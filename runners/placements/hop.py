"""The hop to a version that runs in a service of its own: one HTTP call carries a whole batch, as packed floats.

    POST /rows   body: rows as they are packed, row after row; of a text model: MessagePack of a list of strings
    200          body: float32 scores; header `x-failures`: JSON {row: reason} for rows that could not be scored,
                 `x-broken` where it may be the model that fails, and not these rows alone;
                 of a batch that is part of a trace that is recorded, header `x-engine-times`: start,end in seconds of
                 `time.monotonic`, which all processes of a machine have in common
    501          the version cannot be served there; body: the reason, UTF-8

Used by `Hop` on the gateway's side and `answer_rows` on the service's.
"""

import time
from collections.abc import Callable
from functools import partial
from math import inf
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np

from configuration.settings import FarSideSettings
from runners.artefacts.card import Card
from runners.engines.engine import Engine, example_rows
from runners.errors import DeadlineExceeded
from runners.inputs.rows import Rows
from runners.placements.executor import BatchScores, score, shape_of
from runners.placements.far_side import MAX_WORDS, Calls, EndpointError, Unservable
from runners.trace import TracedCall

ROUTE = "/rows"
FAILURES_HEADER = "x-failures"
BROKEN_HEADER = "x-broken"
ENGINE_HEADER = "x-engine-times"
UNSERVABLE = 501
"""The status by which a service says that it cannot serve its version, which another try does not mend."""
MAX_FAILURE_CHARACTERS = 200
"""Length of a row's reason: all of them travel in one header."""
START_S = 20.0
"""How long to wait for a process that has died, or was started just now, until it listens again."""
KEEP_S = 3600.0
"""How long an idle connection is kept: both ends are of one server, and nothing between them closes it."""

_encode = msgspec.json.Encoder().encode
_decode_failures = msgspec.json.Decoder(dict[int, str]).decode


class Hop:
    """A version's own service as a far side; see `far_side`. A batch that it scores is all there is to say of it."""

    def __init__(
        self,
        url: str,
        card: Card,
        workers: int,
        settings: FarSideSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url` is `file:///path/to.sock` or `http://host:port`, as BentoML's runner map has it.

        One call for each of its `workers` may be under way from each gateway worker.
        """
        self.address = url
        self._scores_per_row = card.scores_per_row
        self._to_wire = card.row_format.to_wire
        self._good_row = example_rows(card)[:1]
        self._clock = clock
        parts = urlsplit(url)
        connector: Callable[..., aiohttp.BaseConnector] = aiohttp.TCPConnector
        self._target = f"http://{parts.netloc}{ROUTE}"
        if parts.scheme == "file":
            connector = partial(aiohttp.UnixConnector, parts.path)
            self._target = "http://runner" + ROUTE
        self._calls = Calls(connector, workers, settings.timeout_s, settings.connect_ms, KEEP_S, clock)

    async def close(self) -> None:
        await self._calls.close()

    async def meet(self) -> None:
        # The supervisor keeps its socket: what is sent before it listens waits there until it does.
        try:
            await self.infer(self._good_row, self._clock() + START_S, anew=True)
        except DeadlineExceeded:
            raise EndpointError(f"its process does not answer within {START_S:g} s") from None

    async def probe(self, patience_s: float) -> bool:
        try:
            await self.infer(self._good_row, self._clock() + patience_s, anew=True)
        except (EndpointError, DeadlineExceeded):
            return False
        return True

    async def infer(
        self, rows: Rows, deadline: float = inf, *, anew: bool = False, call: TracedCall | None = None
    ) -> BatchScores:
        patience_s = self._calls.patience_s(deadline)
        headers = call.context.headers if call is not None else None
        reply = await self._calls.send(self._target, self._to_wire(rows), patience_s, headers=headers, anew=anew)
        if call is not None and (times := reply.headers.get(ENGINE_HEADER)) is not None:
            call.engine = read_times(times)
        if reply.status == UNSERVABLE:
            raise Unservable(reply.body.decode(errors="replace"))
        if reply.status != 200:
            raise EndpointError(f"it answered {reply.status}: {reply.body[:MAX_WORDS].decode(errors='replace')}")
        shape = shape_of(rows, self._scores_per_row)
        try:
            scores = np.frombuffer(reply.body, dtype=np.float32).reshape(shape)
            failures = reply.headers.get(FAILURES_HEADER)
            broken = BROKEN_HEADER in reply.headers
            return BatchScores(scores, _decode_failures(failures) if failures else {}, broken)
        except ValueError as error:
            raise EndpointError(f"it sent no scores of shape {shape}: {error}") from None


def times_line(started_at: float, ended_at: float) -> bytes:
    """The header line that says when the engine began and ended."""
    return b"%b: %.7f,%.7f\r\n" % (ENGINE_HEADER.encode(), started_at, ended_at)


def read_times(value: str) -> tuple[float, float] | None:
    """When the engine began and ended; None where that is not said."""
    started_at, _, ended_at = value.partition(",")
    try:
        return float(started_at), float(ended_at)
    except ValueError:
        return None


def answer_rows(engine: Engine, card: Card, body: bytes) -> tuple[bytes, bytes]:
    """Score the body of a `POST /rows`: packed scores, and header lines that say what failed.

    Raises `ValueError` when the body is not a whole number of rows.
    """
    outcome = score(engine, card.row_format.from_wire(body), card.scores_per_row)
    failures = {row: reason[:MAX_FAILURE_CHARACTERS] for row, reason in outcome.failures.items()}
    lines = b"%b: %b\r\n" % (FAILURES_HEADER.encode(), _encode(failures)) if failures else b""
    lines += b"%b: 1\r\n" % BROKEN_HEADER.encode() if outcome.broken else b""
    return np.ascontiguousarray(outcome.scores).tobytes(), lines
