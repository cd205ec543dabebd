"""The runner of a version that is not in this process: ready while its far side is, else away until that is back.

STARTING --> READY --(ejected, or not ready when asked)--> AWAY --(it answers, and rightly)--> READY
     |-----(cannot be reached, or is not what it should be)--^
     `-----(says that it cannot serve the version)--> FAILED

Neither lasts for good: the far side may be started, mended or replaced while this one runs.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

from configuration.settings import (
    BatchingSettings,
    FarSideSettings,
    Placement,
    RemoteSettings,
    ServiceSettings,
    VersionSettings,
)
from runners.artefacts.card import Card, CardError
from runners.artefacts.scores import Scores
from runners.batching.observer import BatchObserver
from runners.engines.engine import example_rows
from runners.inputs.rows import Rows
from runners.placements.endpoint import Endpoint
from runners.placements.far_side import CallRefused, EndpointError, FarSide, Unservable
from runners.placements.hop import Hop
from runners.placements.remote import SLOWER, RemoteCounts, RemoteExecutor
from runners.placements.scoring_server import ScoringServer
from runners.runner import Runner, check_examples
from runners.version_state import VersionState

PROBE_EVERY_S = 5.0
"""How often a far side is asked whether it is ready, give or take a quarter, as many gateways ask."""
PROBE_S = 1.0
"""How long a probe waits, beside `SLOWER` times what a batch usually takes."""
SECOND_PROBE_S = 0.25
"""How soon another probe follows one that failed: two in a row count."""
FIRST_PAUSE_S = 0.5
"""The pause after the first attempt that failed: a far side that is being started is soon there."""
MAX_PAUSE_S = 8.0
"""Longest pause between two attempts to reach the far side; each is twice as long as the last."""

LOST = "it does not say that it is ready"

logger = logging.getLogger("bentoml.shokado")


class RemoteRunner(Runner):
    """Serves one version from a service of this server, or from another server."""

    def __init__(
        self,
        version: str,
        card: Card,
        settings: VersionSettings,
        batching: BatchingSettings,
        far: RemoteSettings | str,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`far` is the other server, its names filled in, or the address of the service.

        `draw` spreads what many gateways would do at the same moment.
        """
        super().__init__(version, card, Path(), settings, batching)
        self._far = far
        if isinstance(far, RemoteSettings):
            self.placement, self.engine = Placement.REMOTE, "remote"
            self.address = far.url if card.needs_python and card.asked_by == "invocations" else far.address
        else:
            self.placement = Placement.SERVICE
        self._clock = clock
        self._draw = draw
        self._met = False
        self._look = asyncio.Event()
        """Something happened that cannot wait for the next probe."""
        self._ejected = False
        self._watching: asyncio.Task[None] | None = None
        self._far_side: FarSide
        self._remote_executor: RemoteExecutor

    async def start(self, observer: BatchObserver) -> None:
        """Try to reach the far side; ready or away when this returns. Goes on trying by itself."""
        self._far_side, concurrency, asked = self._open_far_side()
        self._executor = self._remote_executor = RemoteExecutor(
            self._far_side, self.card, concurrency, asked, self._eject, self._look.set, self._clock
        )
        self._observer = observer
        try:
            await self._try()
        except asyncio.CancelledError:
            self._become(VersionState.CLOSED, self.failure)
            await self._executor.close()
            raise
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def drain(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._met and self.state in (VersionState.READY, VersionState.AWAY, VersionState.FAILED):
            # What nobody will answer any more must not hold up the stop.
            giving_up = asyncio.get_running_loop().create_task(self._give_up_if_lost())
            await self._let_go()
            giving_up.cancel()
            await asyncio.gather(giving_up, return_exceptions=True)
        elif self.state in (VersionState.AWAY, VersionState.FAILED):
            await self._executor.close()
            self._become(VersionState.CLOSED, self.failure)

    def flush(self) -> RemoteCounts:
        """What became of batches since the last time."""
        return self._remote_executor.flush() if self._watching is not None else RemoteCounts()

    def _open_far_side(self) -> tuple[FarSide, int, FarSideSettings]:
        """The far side, how many batches it may have at once, and how it is asked."""
        far = self._far
        if isinstance(far, RemoteSettings):
            kind = ScoringServer if self.card.needs_python else Endpoint
            return kind(far, self.card, self._clock), far.connections, far
        asked, workers = self.settings.service or ServiceSettings(), self.settings.workers
        return Hop(far, self.card, workers, asked, self._clock), workers, asked

    async def _watch(self) -> None:
        while True:
            try:
                await (self._guard() if self.ready else self._recover())
            except Exception:
                logger.exception("version %s cannot be watched", self.version)
                await asyncio.sleep(MAX_PAUSE_S)

    async def _guard(self) -> None:
        """Returns when it was asked whether it is ready, or was ejected."""
        if not await self._is_there() and self.ready:
            self._remote_executor.shut_out(LOST)
            self._leave(LOST)

    async def _give_up_if_lost(self) -> None:
        while await self._is_there():
            pass
        self._remote_executor.shut_out(LOST)

    async def _is_there(self) -> bool:
        """Ask now and then whether it is ready, and soon when there is reason to; false when it does not say so twice.

        An answer to a batch says as much: while it computes, a service has no other.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_EVERY_S * (0.75 + self._draw() / 2)):
                await self._look.wait()
        self._look.clear()
        if self.state is VersionState.AWAY or await self._probe():
            return True
        await asyncio.sleep(SECOND_PROBE_S)
        return await self._probe()

    async def _probe(self) -> bool:
        executor, asked_at = self._remote_executor, self._clock()
        ready = await self._far_side.probe(PROBE_S + SLOWER * executor.usual_s)
        return ready or executor.answered_at >= asked_at

    async def _recover(self) -> None:
        """Leave it alone for as long as it was ejected, and try until it is back."""
        pause_s = self._remote_executor.ejection.pause_s() if self._ejected else FIRST_PAUSE_S
        self._ejected = False
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
            await self._far_side.meet()
            await self._meet()
        except Unservable as error:
            self._leave(str(error), VersionState.FAILED)
            return False
        except CardError:
            self._leave("it does not score the examples as the version's card says")
            return False
        except Exception as error:
            self._leave(str(error) or type(error).__name__)
            return False
        if self.failure is not None:
            logger.info("version %s is back: %s", self.version, self._far_side.address)
        self._look.clear()
        self._remote_executor.admit()
        self._become(VersionState.READY)
        return True

    async def _meet(self) -> None:
        """Check the examples, and the first time learn how long batches take. Raises what went wrong."""
        examples = await self._far_side.infer(example_rows(self.card))
        if examples.failures:
            raise EndpointError(f"it does not score the examples: {next(iter(examples.failures.values()))}")
        check_examples(examples.scores, self.card, self._folder)
        if not self._met:
            pace, ceiling = await self._learn_pace(self._score, self._target_s, (CallRefused,))
            # The way there and back is none of the model's time, and the batch size shall not shrink for it.
            self._open_batcher(pace, self._target_s + pace.estimate(1), ceiling, self._observer)
            self._met = True

    async def _score(self, rows: Rows) -> Scores:
        return (await self._far_side.infer(rows)).scores

    def _eject(self, reason: str) -> None:
        self._ejected = True
        self._look.set()
        self._leave(f"ejected: {reason}")

    def _leave(self, reason: str, state: VersionState = VersionState.AWAY) -> None:
        if self.failure != reason:
            words = "cannot be served" if state is VersionState.FAILED else f"is away: {self._far_side.address}"
            logger.warning("version %s %s: %s", self.version, words, reason)
        self._become(self.state if self.state is VersionState.DRAINING else state, reason)
