"""`grpc.health.v1`: whether this worker can answer, in the standard service's words. In: readiness. Out: statuses.

Who asks hears what readiness says now; who watches hears of a change within `WATCHED_EVERY_S`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

from grpc_health.v1 import health, health_pb2

WATCHED_EVERY_S = 0.1
"""How soon whoever watches hears of a change: quicker than a balancer would act on it."""

_STATUSES = health_pb2.HealthCheckResponse


class Health(health.aio.HealthServicer):  # type: ignore[misc]  # grpc has no types
    """Start and stop it on the server's event loop."""

    def __init__(self, services: Collection[str], ready: Callable[[], bool]) -> None:
        super().__init__()
        self._services = services
        self._ready = ready
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._tell()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """NOT_SERVING from now on, whatever readiness says."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self.enter_graceful_shutdown()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        await self._tell()
        return await super().Check(request, context)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCHED_EVERY_S)
            await self._tell()

    async def _tell(self) -> None:
        status = _STATUSES.SERVING if self._ready() else _STATUSES.NOT_SERVING
        for service in self._services:
            await self.set(service, status)
