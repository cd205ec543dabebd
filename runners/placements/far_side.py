"""Far sides: whoever computes a version's batches outside of this process, and HTTP calls to them.

`hop` has a service of this server, `endpoint` another server. `remote` asks them, and knows what to do when they fail.
What goes wrong is told in the terms of who asks: whether to ask again, and whether the rows are at fault.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp

from runners.errors import DeadlineExceeded
from runners.inputs.rows import Rows
from runners.placements.executor import BatchScores
from runners.trace import TracedCall

MAX_WORDS = 200
"""Characters of another server's words that messages repeat."""
_MAX_HEADER_BYTES = 2**30
"""Every row of a batch may fail, each with a reason of its own."""


class EndpointError(Exception):
    """The far side failed, or is another one than it should be; nothing is known about single rows."""


class Unservable(EndpointError):
    """The far side cannot serve the version, and says why: asking again would not mend it."""


class Cut(EndpointError):
    """The far side failed so that another try may mend it: scoring changes nothing, so a batch may be sent twice."""

    def __init__(self, words: str, *, stale: bool = False) -> None:
        """`stale`: it was a connection of before, which the other end may have closed just then, and rightly."""
        super().__init__(words)
        self.stale = stale


class CallRefused(Exception):
    """The far side did not score this batch, which may be the fault of some of its rows."""


class FarSide(Protocol):
    """Another process or server that scores a version's batches. Methods belong to the event loop."""

    address: str
    """The far side's name in the log."""

    async def meet(self) -> None:
        """See that it is there and ready, and learn how to talk with it. Raises `EndpointError` with what is wrong."""
        ...

    async def probe(self, patience_s: float) -> bool:
        """Whether it says, over a new connection, that it is ready."""
        ...

    async def infer(
        self, rows: Rows, deadline: float = inf, *, anew: bool = False, call: TracedCall | None = None
    ) -> BatchScores:
        """Score a batch, on a new connection if it is sent `anew`, and tell the far side what trace `call` is part of.

        `deadline` is in seconds of the clock. Raises `CallRefused`, `EndpointError`, `Cut`, `DeadlineExceeded`, and
        `Overloaded` when a far side that is ready has too much to do.
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Calls:
    """HTTP calls to one far side. Connections are kept for the next call, but for those that are wanted new."""

    def __init__(
        self,
        connector: Callable[..., aiohttp.BaseConnector],
        connections: int,
        timeout_s: float,
        connect_ms: float,
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connector` makes aiohttp's. `timeout_s` is for a batch, `connect_ms` for a connection to be made.

        `keep_s` is how long idle connections are kept.
        """
        self.timeout_s = timeout_s
        self._connect_s = connect_ms / 1000
        self._clock = clock
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        options: dict[str, Any] = {
            "cookie_jar": aiohttp.DummyCookieJar(),
            "auto_decompress": False,
            "headers": {"Accept-Encoding": "identity"},
            "max_field_size": _MAX_HEADER_BYTES,
        }
        kept = connector(limit=connections, keepalive_timeout=keep_s)
        self._kept = aiohttp.ClientSession(connector=kept, trace_configs=[tracing], **options)
        # As many once more, and one: a probe must not wait for batches.
        self._new = aiohttp.ClientSession(connector=connector(limit=connections + 1, force_close=True), **options)

    async def close(self) -> None:
        await self._kept.close()
        await self._new.close()

    def patience_s(self, deadline: float) -> float:
        """How long a batch may take. Raises `DeadlineExceeded` when that is over."""
        patience_s = min(self.timeout_s, deadline - self._clock())
        if patience_s <= 0:
            raise DeadlineExceeded
        return patience_s

    async def send(
        self, url: str, body: bytes, patience_s: float, *, headers: Mapping[str, str] | None = None, anew: bool = False
    ) -> Reply:
        """The answer to a batch. Raises `Cut`, `EndpointError`, and `DeadlineExceeded` if the deadline was shorter."""
        try:
            return await self.ask("POST", url, patience_s, headers=headers, body=body, anew=anew)
        except TimeoutError:
            if patience_s < self.timeout_s:
                raise DeadlineExceeded from None
            raise EndpointError(f"no answer within {self.timeout_s:g} s") from None

    async def ask(
        self,
        method: str,
        url: str,
        total_s: float,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        anew: bool = False,
    ) -> Reply:
        """Raises `TimeoutError`, `Cut` and `EndpointError`."""
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=self._connect_s)
        connection = SimpleNamespace(used_before=False)
        try:
            async with (self._new if anew else self._kept).request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=connection,
            ) as response:
                return Reply(response.status, await response.read(), response.headers)
        except aiohttp.ConnectionTimeoutError:
            raise Cut("cannot connect: no answer") from None
        except aiohttp.ClientConnectorError as error:
            raise Cut(f"cannot connect: {_reason(error)}") from None
        except aiohttp.ServerTimeoutError:
            raise TimeoutError from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            raise Cut("the connection was cut", stale=connection.used_before) from None
        except aiohttp.ClientError as error:
            raise EndpointError(f"it does not speak HTTP: {type(error).__name__}") from None


async def _note_reuse(_session: aiohttp.ClientSession, context: Any, _parameters: Any) -> None:
    context.trace_request_ctx.used_before = True


def _reason(error: aiohttp.ClientConnectorError) -> str:
    number = error.errno or 0
    return os.strerror(number) if number in errno.errorcode else str(error.os_error)[:MAX_WORDS]
