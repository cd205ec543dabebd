"""Rate limits: how many requests a key or an address may make, counted with the `limits` library.

Windows are fixed: one begins with the first request, and everything in it counts. Counts are kept in this process, or
in a Redis that all workers of all machines share. While that is away, each process counts for itself. Windows are
measured, never read off the time of day: a clock that is set back must not lock anybody out.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from limits import RateLimitItem, parse_many
from limits.aio.storage import RedisStorage
from limits.storage import Storage
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from configuration.settings import RateSettings
from shokado.access.decision import Refused

MAX_COUNTED = 100_000
"""Windows in the memory of one process; beyond them, the oldest are forgotten."""
TIMEOUT_S = 0.25
"""How long a request waits for the shared count; after it, this process counts by itself."""
TRY_AGAIN_AFTER_S = 1.0
"""How long nobody asks a Redis that was away, so that not every request waits for it."""
MAX_CONNECTIONS = 32
"""Connections of one process to the shared counts: at 1 ms a round trip, 32,000 counts a second. Beyond them, a request
waits for one, up to `TIMEOUT_S`.
"""

logger = logging.getLogger("bentoml.shokado")


class BoundedMemory(Storage):
    """Counts in this process.

    The library's own storage in memory looks through all its counts again and again, in a thread or on the event loop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = MAX_COUNTED) -> None:
        super().__init__()
        self._clock = clock
        self._capacity = capacity
        self._windows: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = self._clock()
        count, ends = self._windows.get(key, (0, 0.0))
        if ends <= now:
            # A new window goes to the end of the dictionary, which is therefore in the order of their beginnings.
            self._windows.pop(key, None)
            if len(self._windows) >= self._capacity:
                del self._windows[next(iter(self._windows))]
            count, ends = 0, now + expiry
        self._windows[key] = count + amount, ends
        return count + amount

    def get(self, key: str) -> int:
        count, ends = self._windows.get(key, (0, 0.0))
        return count if ends > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        return self._windows.get(key, (0, self._clock()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)


class Rates:
    """The limits of one process."""

    def __init__(
        self,
        settings: RateSettings,
        model: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` gives the time of day, in which clients are told when to come back; nothing is measured by it."""
        self._per_key = parse_many(settings.per_key) if settings.per_key else []
        self._per_address = parse_many(settings.per_address) if settings.per_address else []
        self._prefix = f"shokado:{model}"
        self._clock = clock
        self._now = now
        self._memory = BoundedMemory(clock)
        self._redis: Any = _redis(settings.url) if settings.url else None
        self._away_until = 0.0
        self.away = False
        """Whether the Redis could not be used when it was last tried."""

    @property
    def shared(self) -> bool:
        """Whether counting waits for a Redis: then `take_shared` is to be asked instead of `take`."""
        return self._redis is not None

    @property
    def by_address(self) -> bool:
        """Whether the address is looked at."""
        return bool(self._per_address)

    def take(self, key: str, address: str) -> Refused | None:
        """Count a request of the key of that name and of the address, either of which may be empty."""
        for limit, name in self._named(key, address):
            count = self._memory.incr(name, limit.get_expiry())
            if count > limit.amount:
                return self._refusal(limit, self._memory.get_expiry(name) - self._clock())
        return None

    def full(self, key: str, address: str) -> Refused | None:
        """What `take` would say, without counting; None where that is for a Redis to say."""
        if self.shared:
            return None
        for limit, name in self._named(key, address):
            if self._memory.get(name) >= limit.amount:
                return self._refusal(limit, self._memory.get_expiry(name))
        return None

    async def take_shared(self, key: str, address: str) -> Refused | None:
        """Take from the rates of all workers and machines; while the Redis is away, from this process's."""
        if self._clock() >= self._away_until:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    refusal = await self._take_from_redis(key, address)
            except (RedisError, OSError, TimeoutError) as error:
                self._tell_away(error)
            else:
                self._tell_back()
                return refusal
        return self.take(key, address)

    async def _take_from_redis(self, key: str, address: str) -> Refused | None:
        for limit, name in self._named(key, address):
            if await self._redis.incr(name, limit.get_expiry()) > limit.amount:
                # The library asks for the seconds that are left, and adds the time of day to them.
                left_s = await self._redis.get_expiry(name) - time.time()
                if left_s <= limit.get_expiry() + 1:
                    return self._refusal(limit, left_s)
                # A window that is longer than it can be: the clock of the Redis was set back meanwhile.
                await self._redis.clear(name)
                await self._redis.incr(name, limit.get_expiry())
        return None

    def _named(self, key: str, address: str) -> list[tuple[RateLimitItem, str]]:
        named = [(limit, limit.key_for(self._prefix, "key", key)) for limit in self._per_key if key]
        return named + [
            (limit, limit.key_for(self._prefix, "address", address)) for limit in self._per_address if address
        ]

    def _refusal(self, limit: RateLimitItem, left_s: float) -> Refused:
        refused = Refused("rate_limited", f"more than {limit} were asked for")
        refused.retry_after_s = max(0.0, left_s)
        refused.headers |= {
            "x-ratelimit-limit": str(limit.amount),
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(math.ceil(self._now() + refused.retry_after_s)),
        }
        return refused

    def _tell_away(self, error: BaseException) -> None:
        self._away_until = self._clock() + TRY_AGAIN_AFTER_S
        if not self.away:
            logger.error("the Redis of access.rates is away (%s); each worker counts for itself", type(error).__name__)
        self.away = True

    def _tell_back(self) -> None:
        if self.away:
            logger.info("the Redis of access.rates is back")
        self.away = False

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.bridge.get_connection().aclose()


def _redis(url: str) -> RedisStorage:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
    )
    # The library hands its options on to the client.
    return RedisStorage(f"async+{url}", implementation="redispy", connection_pool=pool)  # type: ignore[arg-type]
