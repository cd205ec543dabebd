"""Work that a worker does again and again, beside what it serves."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from shokado.stores.store import StoreUnavailable

logger = logging.getLogger("bentoml.shokado")


async def repeat(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work again and again, until cancelled. A store that is away is no news here: `Follower` says so."""
    while True:
        await asyncio.sleep(every_s)
        try:
            with contextlib.suppress(StoreUnavailable):
                await work()
        except Exception:
            logger.exception("a task of this worker failed")
