"""Clients of the Redis at an address, or of the one that Sentinels name, which is asked for at each new connection."""

from dataclasses import dataclass
from typing import Any

import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from configuration.sentinel_address import SentinelAddress

TIMEOUT_S = 2.0
"""How long Redis may take before the store counts as away."""


@dataclass(frozen=True, slots=True)
class RedisClients:
    """Makes clients of one address, which connect when they are first used, and again after each failure.

    What failed is not tried again: a command that was sent may have been carried out, and sending it again is for the
    caller to decide.
    """

    name: str
    """The address without user and password."""
    _url: str
    _watched: SentinelAddress | None

    @classmethod
    def of(cls, url: str) -> "RedisClients":
        """`url` is `redis://[user:password@]host:port/db`, `rediss://..`, or one of a Redis with Sentinels (see
        `configuration.sentinel_address`). Raises `ValueError` for what is not, without repeating a password.
        """
        watched = SentinelAddress.read(url)
        return cls(watched.name if watched is not None else _name(url), url, watched)

    def open(self) -> tuple[Redis, Sentinel | None]:
        """A client for a thread, and the Sentinels that it asks. Both are to be closed."""
        retry = Retry(NoBackoff(), 0)
        if self._watched is None:
            return Redis.from_url(self._url, **_timeouts(), retry=retry), None
        sentinel = Sentinel(**_sentinel_options(self._watched, retry))  # type: ignore[no-untyped-call]
        return sentinel.master_for(self._watched.service), sentinel  # type: ignore[no-untyped-call]

    def open_on_loop(self) -> tuple[redis.asyncio.Redis, redis.asyncio.sentinel.Sentinel | None]:
        """The same for the event loop."""
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        if self._watched is None:
            return redis.asyncio.Redis.from_url(self._url, **_timeouts(), retry=retry), None
        options = _sentinel_options(self._watched, retry)
        sentinel = redis.asyncio.sentinel.Sentinel(**options)  # type: ignore[no-untyped-call]
        return sentinel.master_for(self._watched.service), sentinel


def _timeouts() -> dict[str, Any]:
    return {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}


def _name(url: str) -> str:
    try:
        found = Redis.from_url(url).get_connection_kwargs()
    except ValueError:
        # What was found wrong may be a part of the password.
        hint = "special characters of a password in it are written as %40, %23, .."
        raise ValueError(f"the address of the Redis cannot be read; {hint}") from None
    scheme = url.partition(":")[0]
    return f"{scheme}://{found.get('host') or 'localhost'}:{found.get('port') or 6379}/{found.get('db') or 0}"


def _sentinel_options(address: SentinelAddress, retry: object) -> dict[str, Any]:
    """What a `Sentinel` is made of."""
    credentials = {"username": address.username, "password": address.password}
    both = {**_timeouts(), "retry": retry, **({"ssl": True} if address.tls else {})}
    own = credentials if address.sentinel_auth else {}
    return {
        "sentinels": address.sentinels,
        "sentinel_kwargs": {**both, **own},
        **both,
        **credentials,
        "db": address.database,
    }
