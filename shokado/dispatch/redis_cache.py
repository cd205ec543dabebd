"""The answer cache in Redis, which all workers of all machines share.

All that is to be looked up or kept by the end of a round trip travels in the next one. Requests wait for Redis only
while it answers: once it fails them, everything is a miss until it answers again, which is tried beside the requests.
What comes back is not trusted: a value must be exactly what was written under its key, or it is a miss.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from configuration.settings import CacheSettings
from runners.errors import RunnerError
from runners.runner import Runner
from shokado.dispatch.cache import Cache
from shokado.dispatch.request import Prediction

logger = logging.getLogger("bentoml.shokado")

TIMEOUT_S = 0.05
"""The longest that a request waits for a round trip."""
CONNECT_TIMEOUT_S = 1.0
"""How long making a connection to Redis may take; requests do not wait for that."""
RETRY_S = 1.0
"""How long nothing is asked of a Redis that failed, beside the requests."""
_SEAL_BYTES = 16
"""Length of the seal: 128 bits, which no damage and nobody's guess comes by."""
_SETTLE_POLL_S = 0.005
"""How soon it is seen that no lookup is under way any more."""


class _Lookup(NamedTuple):
    key: bytes
    prediction: Prediction
    runner: Runner


class _Write(NamedTuple):
    key: bytes
    version: str
    packed: bytes


class RedisCache(Cache):
    """Keeps answers under `shokado:<model>:cache:<hash of version, artefact and rows>`, for a time."""

    def __init__(
        self,
        settings: CacheSettings,
        url: str,
        model: str,
        call_soon: Callable[..., object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `ValueError` when `url` is not one of a Redis. It is connected to with the first request."""
        super().__init__(settings.max_rows, call_soon, clock)
        self._redis = Redis.from_url(
            url,
            socket_timeout=CONNECT_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._prefix = f"shokado:{model}:cache:"
        self._ttl_ms = max(1, round(settings.ttl_s * 1000))
        self._reachable = False
        self._lookups: list[_Lookup] = []
        self._writes: list[_Write] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        end = self._clock() + 2 * TIMEOUT_S
        while self._lookups and self._clock() < end:
            await asyncio.sleep(_SETTLE_POLL_S)
        await asyncio.sleep(0)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    def _look_up(self, key: bytes, prediction: Prediction, runner: Runner) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        if self._reachable:
            self._lookups.append(_Lookup(key, prediction, runner))
            self._wake.set()
        else:
            self._compute(key, prediction, runner)

    def _keep(self, key: bytes, version: str, packed: bytes) -> None:
        if self._reachable:
            self._writes.append(_Write(key, version, packed))
            self._wake.set()

    async def _run(self) -> None:
        failing = False
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._redis.ping()
                if failing:
                    logger.info("the answer cache can be reached again")
                failing, self._reachable = False, True
                while True:
                    await self._wake.wait()
                    await self._travel()
            except Exception as error:  # whatever it is, no request may be left without an answer
                if not failing:
                    logger.warning("the answer cache cannot be used: %s: %s", type(error).__name__, error)
                failing = True
            finally:
                self._give_up()
            await asyncio.sleep(RETRY_S)

    async def _travel(self) -> None:
        """One round trip. Raises what Redis or the way there raises, and leaves the lookups where they are."""
        self._wake.clear()
        lookups = list(self._lookups)
        writes, self._writes = self._writes, []
        pipeline = self._redis.pipeline(transaction=False)
        if lookups:
            pipeline.mget([self._name(lookup.key) for lookup in lookups])
        for write in writes:
            pipeline.set(self._name(write.key), seal(write.key, write.packed), px=self._ttl_ms)
        async with asyncio.timeout(TIMEOUT_S):
            replies = await pipeline.execute(raise_on_error=False)
        found: Any = replies.pop(0) if lookups else []
        if isinstance(found, Exception):
            raise found
        del self._lookups[: len(lookups)]
        for lookup, value in zip(lookups, found, strict=True):
            self._call_soon(self._pass_on, lookup, value)
        for write, reply in zip(writes, replies, strict=True):
            self._counts[write.version].errors += isinstance(reply, Exception)

    def _give_up(self) -> None:
        self._reachable = False
        self._writes.clear()
        lookups, self._lookups = self._lookups, []
        for lookup in lookups:
            self._counts[lookup.prediction.version].errors += 1
            self._call_soon(self._pass_on, lookup, None)

    def _pass_on(self, lookup: _Lookup, value: Any) -> None:
        """Answer with what was found, if it is good; else compute."""
        key, prediction, runner = lookup
        if prediction.cancelled:
            return
        packed = None
        if value is not None:
            packed = unseal(key, value, prediction.row_count * prediction.card.scores_per_row)
            self._counts[prediction.version].errors += packed is None
        if packed is not None and prediction.deadline > self._clock():
            self._answer(prediction, packed)
            return
        try:
            self._compute(key, prediction, runner)
        except RunnerError as error:
            # Without its traceback, whose frames know the prediction: a cycle for the garbage collector.
            prediction.error = error.with_traceback(None)
            prediction.done(prediction)

    def _name(self, key: bytes) -> str:
        return self._prefix + key.hex()


def seal(key: bytes, packed: bytes) -> bytes:
    """A checksum over key and scores, and the scores."""
    return blake2b(packed, key=key, digest_size=_SEAL_BYTES).digest() + packed


def unseal(key: bytes, value: Any, count: int) -> bytes | None:
    """The packed scores of a sealed value; None unless they are `count` finite numbers sealed under that key."""
    if not isinstance(value, bytes) or len(value) != _SEAL_BYTES + 4 * count:
        return None
    packed = value[_SEAL_BYTES:]
    if value != seal(key, packed) or not np.isfinite(np.frombuffer(packed, dtype=np.float32)).all():
        return None
    return packed
