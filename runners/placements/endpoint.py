"""An endpoint: one model of a server of the Open Inference Protocol, version 2, asked over HTTP.

    GET  {url}/v2/models/{model}[/versions/{version}]/ready    can it answer?
    GET  {url}/v2, .. and without /ready                       how to talk with it
    POST .. /infer                                             a batch --> its scores

Connections are kept and used again, but each only for a while, so that servers that join an address get their share.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from configuration.regular_file import read_regular_file
from configuration.settings import RemoteSettings
from runners.artefacts.card import Card
from runners.engines.thread import begin_in_own_thread
from runners.errors import DeadlineExceeded, Overloaded
from runners.inputs.rows import Rows
from runners.placements.executor import BatchScores, not_finite
from runners.placements.far_side import MAX_WORDS, CallRefused, Calls, Cut, EndpointError, Reply
from runners.placements.inference import (
    Form,
    Mismatch,
    RemoteModelMetadata,
    RemoteServerMetadata,
    agree,
    read_scores,
    write_columns,
    write_request,
)
from runners.trace import TracedCall

ROOT = Path(__file__).resolve().parents[2]
QUESTION_S = 2.0
"""How long an answer to a short question, such as whether the model is ready, may take."""
TRUST_S = 1.0
"""How long a server that has said to be ready is believed."""
RENEW_EVERY_S = 10.0
"""How often one connection is closed after its answer, so that the next one meets another of the server's pods."""
IDLE_S = 4.0
"""Less than after which servers close idle connections; uvicorn does after 5 s."""
MAX_DEADLINE_S = 3600.0
"""The longest deadline that is told to the other server; a batch without one has an hour."""
MAX_RETRY_AFTER_S = 60.0
"""Clients are told to stay away for no longer, whatever a server that is overloaded, or wrong, says."""
MAX_KEY_BYTES = 4096
"""More than any key has: a wrong file is not read whole."""
KEY_TIMEOUT_S = 2.0
"""How long reading the key's file may take: a file system may hang."""
_LENGTH = "Inference-Header-Content-Length"
_ABOUT_THE_ROWS = (400, 413, 422, 500)

Answered = TypeVar("Answered", bound=msgspec.Struct)

logger = logging.getLogger("bentoml.shokado")


class _Error(msgspec.Struct):
    error: str = ""
    message: str = ""
    """MLflow's word for it."""


class Endpoint:
    """A far side; see `far_side`."""

    def __init__(self, target: RemoteSettings, card: Card, clock: Callable[[], float] = time.monotonic) -> None:
        self.address = target.address
        self._ready_url, self._scores_url = f"{self.address}/ready", f"{self.address}/infer"
        self._target = target
        self._card = card
        self._clock = clock
        self._form = Form()
        self._key: dict[str, str] = {}
        self._reading: asyncio.Future[dict[str, str]] | None = None
        """The key's file being read."""
        self._ready_until = -inf
        self._renew_at = clock() + RENEW_EVERY_S
        self._calls = Calls(
            aiohttp.TCPConnector, target.connections, target.timeout_s, target.connect_ms, IDLE_S, clock
        )

    async def close(self) -> None:
        await self._calls.close()

    async def meet(self) -> None:
        await self._renew_key()
        ready = await self._get(self._ready_url)
        if ready.status != 200:
            raise EndpointError(f"not ready: it answered {ready.status}{_words(ready.body)}")
        self._ready_until = self._clock() + TRUST_S
        await self._agree()

    async def _agree(self) -> None:
        """Learn how to talk with it. Raises `EndpointError`."""
        server = await self._metadata(f"{self._target.url.rstrip('/')}/v2", RemoteServerMetadata)
        model = await self._metadata(self.address, RemoteModelMetadata)
        try:
            self._form = agree(self._card, server, model, self._target.output)
        except Mismatch as error:
            raise EndpointError(str(error)) from None

    async def probe(self, patience_s: float) -> bool:
        try:
            await self._renew_key()
            ready = (await self._get(self._ready_url, patience_s, anew=True)).status == 200
        except EndpointError:
            return False
        if ready:
            self._ready_until = self._clock() + TRUST_S
        return ready

    async def infer(
        self, rows: Rows, deadline: float = inf, *, anew: bool = False, call: TracedCall | None = None
    ) -> BatchScores:
        patience_s = self._calls.patience_s(deadline)
        body, json_bytes = self._write(rows)
        headers = self._headers(patience_s, json_bytes)
        if call is not None:
            headers |= call.context.headers
        reply = await self._calls.send(self._scores_url, body, patience_s, headers=headers, anew=anew)
        if reply.status != 200:
            await self._refuse(reply, late=patience_s < self._target.timeout_s)
        try:
            return self._read(reply, len(rows))
        except (Mismatch, ValueError) as error:
            raise EndpointError(str(error)) from None

    def _write(self, rows: Rows) -> tuple[bytes, int | None]:
        """The body for a batch, and how many bytes of it are JSON; None: all. Raises `CallRefused`."""
        if self._form.columns:
            return write_columns(self._form, self._card.row_format, rows), None
        return write_request(self._form, rows)

    def _read(self, reply: Reply, rows: int) -> BatchScores:
        """The scores in an answer. Raises `Mismatch` and `ValueError`."""
        length = reply.headers.get(_LENGTH)
        scores = read_scores(self._card, self._form, reply.body, None if length is None else int(length), rows)
        return BatchScores(scores, not_finite(scores))

    async def _refuse(self, reply: Reply, *, late: bool) -> None:
        """Raise what an answer without scores means."""
        status, words = reply.status, f"it answered {reply.status}{_words(reply.body)}"
        retry_after = reply.headers.get("Retry-After")
        if status == 429 or (status == 503 and retry_after is not None and await self._is_ready()):
            seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 1.0
            raise Overloaded(min(seconds, MAX_RETRY_AFTER_S))
        if status == 504 and late:
            raise DeadlineExceeded
        if status in (502, 503):
            raise Cut(words)
        raise (CallRefused if status in _ABOUT_THE_ROWS else EndpointError)(words)

    async def _is_ready(self) -> bool:
        """Whether it says so, now or a moment ago."""
        return self._clock() < self._ready_until or await self.probe(QUESTION_S)

    def _headers(self, patience_s: float, json_bytes: int | None) -> dict[str, str]:
        headers = {
            **self._key,
            "Content-Type": "application/json" if json_bytes is None else "application/octet-stream",
            "X-Request-Deadline-Ms": str(max(1, int(min(patience_s, MAX_DEADLINE_S) * 1000))),
        }
        if json_bytes is not None:
            headers[_LENGTH] = str(json_bytes)
        if self._clock() >= self._renew_at:
            self._renew_at = self._clock() + RENEW_EVERY_S
            headers["Connection"] = "close"
        return headers

    async def _metadata(self, url: str, of: type[Answered]) -> Answered:
        reply = await self._get(url)
        if reply.status != 200:
            raise EndpointError(f"{url} answered {reply.status}{_words(reply.body)}")
        try:
            return msgspec.json.decode(reply.body, type=of)
        except msgspec.DecodeError as error:
            raise EndpointError(f"{url} did not answer as the Open Inference Protocol says: {error}") from None

    async def _get(self, url: str, patience_s: float = QUESTION_S, *, anew: bool = False) -> Reply:
        try:
            return await self._calls.ask("GET", url, patience_s, headers=self._key, anew=anew)
        except TimeoutError:
            raise EndpointError(f"no answer within {patience_s:g} s") from None

    async def _renew_key(self) -> None:
        """Read the key again, in a thread that nobody need wait for. While it hangs, the key of before holds on.

        Raises `EndpointError`.
        """
        if self._target.key_file is None:
            return
        hung = self._reading is not None and not self._reading.done()
        if self._reading is None or not hung:
            self._reading = begin_in_own_thread(_read_key, ROOT / self._target.key_file)
        await asyncio.wait((self._reading,), timeout=0 if hung and self._key else KEY_TIMEOUT_S)
        if self._reading.done():
            self._key = self._reading.result()
            return
        failure = f"key_file: {ROOT / self._target.key_file}: was not read within {KEY_TIMEOUT_S:g} s"
        if not self._key:
            raise EndpointError(failure)
        if not hung:
            logger.error("%s; the key of before holds on", failure)


def _read_key(path: Path) -> dict[str, str]:
    try:
        key = read_regular_file(path, MAX_KEY_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointError(f"key_file: {path}: {getattr(error, 'strerror', None) or 'not ASCII'}") from None
    return {"X-API-Key": key}


def _words(body: bytes) -> str:
    """What an error says of itself, as the protocol has it, or as it is."""
    try:
        error = msgspec.json.decode(body, type=_Error)
        said = error.error or error.message
    except msgspec.DecodeError:
        said = ""
    said = said or body[:MAX_WORDS].decode(errors="replace")
    return f": {said[:MAX_WORDS]}" if said else ""
