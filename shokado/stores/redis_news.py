"""News from Redis: a message for each entry that is appended, on a connection that does nothing but wait for it.

    append --(published by its script)--> channel --> RedisNews of every worker --> `heard`

A message says that there is something newer, and not what: who hears it reads the store. So it does not matter who
sends one, which of two comes first, or whether one is lost. Channels know no databases: who hears the news of another
one looks in vain.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError

from shokado.stores.redis_clients import TIMEOUT_S, RedisClients

QUIET_S = 5.0
"""How long nothing is heard until Redis is asked whether the connection still lives, of which nobody may have told."""
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0
"""The longest pause between two tries to listen. Each is up to twice the last, so that workers come one by one."""

logger = logging.getLogger("bentoml.shokado")


class RedisNews:
    """See `shokado.stores.store.News`. Belongs to one event loop."""

    def __init__(self, clients: RedisClients, channel: str) -> None:
        self.listening = False
        self._clients = clients
        self._channel = channel
        self._refused = False
        """Whether the last try failed, of which the log knows."""
        self._tries = 0

    async def listen(self, heard: Callable[[], object]) -> None:
        """See `shokado.stores.store.News`."""
        client, sentinel = self._clients.open_on_loop()
        try:
            while True:
                try:
                    async with client.pubsub() as subscription:
                        await self._subscribe(subscription)
                        if sentinel is not None:
                            # Its connections are not kept for the next time, which may never come.
                            await sentinel.aclose()
                        await self._listen(subscription, heard)
                except Exception as error:
                    self._note_failure(error)
                finally:
                    self.listening = False
                _stay_cancelled()
                await asyncio.sleep(self._pause_s())
        finally:
            await client.aclose()
            if sentinel is not None:
                await sentinel.aclose()

    async def _subscribe(self, subscription: PubSub) -> None:
        """Raises when Redis is away, or refuses."""
        await subscription.subscribe(self._channel)
        if await _next_message(subscription, TIMEOUT_S) is None:
            raise LostConnection("no answer to SUBSCRIBE")
        self._note_success()

    async def _listen(self, subscription: PubSub, heard: Callable[[], object]) -> None:
        """Raises when the connection is lost."""
        # Whatever came before nobody has told.
        heard()
        while True:
            message = await _next_message(subscription, QUIET_S)
            if message is None:
                await subscription.ping()
                message = await _next_message(subscription, TIMEOUT_S)
            if message is None:
                raise LostConnection("no answer to PING")
            if message["type"] == "message":
                heard()

    def _pause_s(self) -> float:
        pause_s: float = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._tries)
        self._tries = min(self._tries + 1, 10)
        return pause_s * random.uniform(0.5, 1)  # noqa: S311  # spreads the next tries

    def _note_failure(self, error: Exception) -> None:
        if not self.listening and not self._refused:
            self._refused = True
            words = "the store %s does not tell of changes (%s): it is asked for them more often instead"
            foreseen = isinstance(error, (RedisError, OSError, ValueError))
            logger.warning(words, self._clients.name, error, exc_info=None if foreseen else error)

    def _note_success(self) -> None:
        if self._refused:
            logger.warning("the store %s tells of changes", self._clients.name)
        self.listening, self._refused, self._tries = True, False, 0


async def _next_message(subscription: PubSub, within_s: float) -> Any:
    """What comes next, of any type; None when nothing does."""
    _stay_cancelled()
    return await subscription.get_message(timeout=within_s)


def _stay_cancelled() -> None:
    """Before Python 3.12, `asyncio.wait_for`, by which redis-py sends, may lose the cancellation of who calls it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
