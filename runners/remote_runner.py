"""The runner of a remote version: ready while the other server is, and otherwise away until it is back.

STARTING --> READY --(ejected, or not ready when asked)--> AWAY --(it answers, and rightly)--> READY
     `-----(cannot be reached, or is not what it should be)--^

It never fails for good: the other server may be started, mended or replaced while this one runs.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

from configuration.settings import BatchingSettings, Placement, RemoteSettings, VersionSettings
from runners.batcher import BatchObserver
from runners.card import Card, CardError
from runners.endpoint import Endpoint
from runners.engine import example_rows
from runners.remote import RemoteCounts, RemotePlace
from runners.runner import Runner, RunnerState

PROBE_EVERY_S = 5.0
SECOND_PROBE_S = 1.0
"""After one that failed: two in a row count."""
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 8.0
"""Between two attempts to reach it; each pause is twice as long as the last."""

logger = logging.getLogger("bentoml.shokado")


class RemoteRunner(Runner):
    """Serves one version from another server."""

    def __init__(
        self,
        version: str,
        card: Card,
        settings: VersionSettings,
        batching: BatchingSettings,
        remote: RemoteSettings,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`remote` has its names filled in; `draw` spreads what many gateways would do at the same moment."""
        super().__init__(version, card, Path(), settings, batching)
        self.placement = Placement.REMOTE
        self.engine = "remote"
        self.address = remote.address
        self._remote = remote
        self._clock = clock
        self._draw = draw
        self._met = False
        self._gone = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._endpoint: Endpoint
        self._remote_place: RemotePlace

    async def start(self, observer: BatchObserver) -> None:
        """Try to reach the other server; ready or away when this returns. Goes on trying by itself."""
        self.state = RunnerState.STARTING
        self._endpoint = Endpoint(self._remote, self.card, self._clock)
        self._place = self._remote_place = RemotePlace(
            self._endpoint, self.card, self._remote, self._eject, self._clock
        )
        self._observer = observer
        try:
            await self._try()
        except asyncio.CancelledError:
            self.state = RunnerState.CLOSED
            await self._place.close()
            raise
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def drain(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._met and self.state in (RunnerState.READY, RunnerState.AWAY):
            await self._let_go()
        elif self.state is RunnerState.AWAY:
            await self._place.close()
            self.state = RunnerState.CLOSED

    def flush(self) -> RemoteCounts:
        """What became of batches since the last time."""
        return self._remote_place.flush() if self._watching is not None else RemoteCounts()

    async def _watch(self) -> None:
        while True:
            try:
                await (self._guard() if self.ready else self._recover())
            except Exception:
                logger.exception("version %s cannot be watched", self.version)
                await asyncio.sleep(MAX_PAUSE_S)

    async def _guard(self) -> None:
        """Ask now and then whether it is ready; returns when it was asked, or was ejected."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_EVERY_S * (0.75 + self._draw() / 2)):
                await self._gone.wait()
            return
        if not await self._endpoint.is_ready():
            await asyncio.sleep(SECOND_PROBE_S)
            if self.ready and not await self._endpoint.is_ready():
                self._remote_place.shut_out()
                self._leave("it does not say that it is ready")

    async def _recover(self) -> None:
        """Leave it alone for as long as it was ejected, and try until it is back."""
        pause_s = self._remote_place.ejection.pause_s() if self._gone.is_set() else FIRST_PAUSE_S
        self._gone.clear()
        await self._rest(pause_s)
        pause_s = FIRST_PAUSE_S
        while not await self._try():
            await self._rest(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds * (1 + self._draw() / 4))

    async def _try(self) -> bool:
        """Whether it can be reached and answers rightly; then it is ready."""
        try:
            await self._endpoint.meet()
            await self._meet()
        except CardError:
            self._leave("it does not score the examples as the version's card says")
            return False
        except Exception as error:
            self._leave(str(error) or type(error).__name__)
            return False
        if self.failure is not None:
            logger.info("version %s is back: %s", self.version, self.address)
        self._remote_place.admit()
        self.state, self.failure = RunnerState.READY, None
        return True

    async def _meet(self) -> None:
        """Check the examples, and the first time learn how long batches take. Raises what went wrong."""
        infer = self._endpoint.infer
        self._check(await infer(example_rows(self.card)))
        if not self._met:
            pace = await self._learn_pace(infer, self._target_s)
            # The way there and back is none of the model's time, and the batch size shall not shrink for it.
            self._open_batcher(pace, self._target_s + pace.estimate(1), self._observer)
            self._met = True

    def _eject(self, reason: str) -> None:
        self._gone.set()
        self._leave(f"ejected: {reason}")

    def _leave(self, reason: str) -> None:
        if self.failure != reason:
            logger.warning("version %s is away: %s: %s", self.version, self.address, reason)
        self.state, self.failure = RunnerState.AWAY, reason
