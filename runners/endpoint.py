"""An endpoint: one model of a server of the Open Inference Protocol, version 2, asked over HTTP.

    GET  {url}/v2/models/{model}[/versions/{version}]/ready    can it answer?
    GET  {url}/v2, .. and without /ready                       how to talk with it
    POST .. /infer                                             a batch --> its scores

What went wrong is told in the terms of who asks: whether to ask again, and whether the rows or the server is at fault.
Connections are kept and used again, but each only for a while, so that servers that join an address get their share.
"""

import errno
import os
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from configuration.regular_file import read_regular_file
from configuration.settings import RemoteSettings
from runners.card import Card
from runners.engine import Rows, Scores
from runners.errors import DeadlineExceeded, Overloaded
from runners.inference import Form, Mismatch, ModelMetadata, ServerMetadata, agree, read_scores, write_request

ROOT = Path(__file__).resolve().parents[1]
CONNECT_S = 1.0
PROBE_S = 2.0
"""For each of the short questions: ready? what is it?"""
TRUST_S = 1.0
"""How long a server that has said to be ready is believed."""
RENEW_EVERY_S = 10.0
"""One connection is closed after its answer this often, and another opened when it is needed."""
IDLE_S = 4.0
"""Less than after which servers close idle connections; uvicorn does after 5 s."""
MAX_DEADLINE_S = 3600.0
MAX_KEY_BYTES = 4096
_LENGTH = "Inference-Header-Content-Length"
_ABOUT_THE_ROWS = (400, 413, 422, 500)
_MAX_WORDS = 200

Answered = TypeVar("Answered", bound=msgspec.Struct)


class EndpointError(Exception):
    """The server failed, or is another one than it should be; nothing is known about single rows."""


class Cut(EndpointError):
    """The same, in a way that another try may mend: scoring changes nothing, so a batch may be sent twice."""


class Refused(Exception):
    """The server did not score this batch, which may be the fault of some of its rows."""


class _Error(msgspec.Struct):
    error: str = ""


class Endpoint:
    """Methods belong to the event loop."""

    def __init__(self, target: RemoteSettings, card: Card, clock: Callable[[], float] = time.monotonic) -> None:
        self._target = target
        self._card = card
        self._clock = clock
        self._form = Form()
        self._key: dict[str, str] = {}
        self._ready_until = -inf
        self._renew_at = clock() + RENEW_EVERY_S
        self._session = aiohttp.ClientSession(
            # One more than for batches: a probe must not wait for them.
            connector=aiohttp.TCPConnector(limit=target.connections + 1, keepalive_timeout=IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def meet(self) -> None:
        """See that it is ready, and how to talk with it. Raises `EndpointError` with what is wrong."""
        self._key = self._read_key()
        status, said = await self._get(f"{self._target.address}/ready")
        if status != 200:
            raise EndpointError(f"not ready: it answered {status}{_words(said)}")
        self._ready_until = self._clock() + TRUST_S
        server = await self._metadata(f"{self._target.url.rstrip('/')}/v2", ServerMetadata)
        model = await self._metadata(self._target.address, ModelMetadata)
        try:
            self._form = agree(self._card, server, model, self._target.output)
        except Mismatch as error:
            raise EndpointError(str(error)) from None

    async def is_ready(self) -> bool:
        """Whether it says so, now or a moment ago."""
        if self._clock() < self._ready_until:
            return True
        try:
            self._key = self._read_key()
            status, _ = await self._get(f"{self._target.address}/ready")
        except EndpointError:
            return False
        if status == 200:
            self._ready_until = self._clock() + TRUST_S
        return status == 200

    async def infer(self, rows: Rows, deadline: float = inf) -> Scores:
        """The scores of a batch, of shape (rows,) or (rows, classes).

        `deadline`, in seconds of the clock, is passed on. Raises `Refused`, `EndpointError`, `Cut`,
        `DeadlineExceeded`, and `Overloaded` when a server that is ready has too much to do.
        """
        patience_s = min(self._target.timeout_s, deadline - self._clock())
        if patience_s <= 0:
            raise DeadlineExceeded
        body, json_bytes = write_request(self._form, rows)
        headers = self._headers(patience_s, json_bytes)
        try:
            status, said, answered = await self._ask("POST", f"{self._target.address}/infer", patience_s, headers, body)
        except TimeoutError:
            if patience_s < self._target.timeout_s:
                raise DeadlineExceeded from None
            raise EndpointError(f"no answer within {self._target.timeout_s:g} s") from None
        if status != 200:
            await self._refuse(status, said, answered, late=patience_s < self._target.timeout_s)
        try:
            length = answered.get(_LENGTH)
            return read_scores(self._card, self._form, said, None if length is None else int(length), len(rows))
        except (Mismatch, ValueError) as error:
            raise EndpointError(str(error)) from None

    async def _refuse(self, status: int, said: bytes, headers: Any, *, late: bool) -> None:
        """Raise what an answer without scores means."""
        words = f"it answered {status}{_words(said)}"
        retry_after = headers.get("Retry-After")
        if status == 429 or (status == 503 and retry_after is not None and await self.is_ready()):
            seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 1.0
            raise Overloaded(seconds)
        if status == 504 and late:
            raise DeadlineExceeded
        if status in (502, 503):
            raise Cut(words)
        raise (Refused if status in _ABOUT_THE_ROWS else EndpointError)(words)

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
        status, said = await self._get(url)
        if status != 200:
            raise EndpointError(f"{url} answered {status}{_words(said)}")
        try:
            return msgspec.json.decode(said, type=of)
        except msgspec.DecodeError as error:
            raise EndpointError(f"{url} did not answer as the Open Inference Protocol says: {error}") from None

    async def _get(self, url: str) -> tuple[int, bytes]:
        try:
            status, said, _ = await self._ask("GET", url, PROBE_S, self._key)
        except TimeoutError:
            raise EndpointError(f"no answer within {PROBE_S:g} s") from None
        return status, said

    async def _ask(
        self, method: str, url: str, total_s: float, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, bytes, Any]:
        """Status, body and headers of the answer. Raises `TimeoutError`, `Cut` and `EndpointError`."""
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S)
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status, await response.read(), response.headers
        except aiohttp.ConnectionTimeoutError:
            raise Cut("cannot connect: no answer") from None
        except aiohttp.ClientConnectorError as error:
            raise Cut(f"cannot connect: {_reason(error)}") from None
        except aiohttp.ServerTimeoutError:
            raise TimeoutError from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            raise Cut("the connection was cut") from None
        except aiohttp.ClientError as error:
            raise EndpointError(f"it does not speak HTTP: {type(error).__name__}") from None

    def _read_key(self) -> dict[str, str]:
        if self._target.key_file is None:
            return {}
        path = ROOT / self._target.key_file
        try:
            key = read_regular_file(path, MAX_KEY_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise EndpointError(f"key_file: {path}: {getattr(error, 'strerror', None) or 'not ASCII'}") from None
        return {"X-API-Key": key}


def _reason(error: aiohttp.ClientConnectorError) -> str:
    number = error.errno or 0
    return os.strerror(number) if number in errno.errorcode else str(error.os_error)[:_MAX_WORDS]


def _words(body: bytes) -> str:
    """What an error says of itself, as the protocol has it, or as it is."""
    try:
        said = msgspec.json.decode(body, type=_Error).error
    except msgspec.DecodeError:
        said = ""
    said = said or body[:_MAX_WORDS].decode(errors="replace")
    return f": {said[:_MAX_WORDS]}" if said else ""
