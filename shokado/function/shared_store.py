"""A store that a function shares with servers: the split and the seals come from it, and counts go to it.

before an answer: what others changed, unless that was looked at lately    behind it: what was counted, at once
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NoReturn

from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.observers import PredictionObserver
from shokado.experiments.evidence_counter import EvidenceCounter
from shokado.experiments.prediction_id import PredictionIds
from shokado.experiments.seals import Seals
from shokado.experiments.tallying import Tallying
from shokado.function.bounded_look import PATIENCE_S, BoundedLook
from shokado.function.bundle import Bundle
from shokado.stores.follower import Follower
from shokado.stores.machine import Machine
from shokado.stores.store import Entry, Store, StoreUnavailable

logger = logging.getLogger("bentoml.shokado")


def follower_of(store: Store, bundle: Bundle, adopt: Callable[[Entry], None]) -> Follower:
    """A follower that looks when it is told to. It reports nothing: who stands still must not be waited for."""

    def report() -> NoReturn:
        raise AssertionError("an instance of a function has nothing to report")

    return Follower(store, bundle.settings, adopt, report)


class SharedStore:
    """Make one per process; methods belong to its event loop."""

    def __init__(
        self,
        store: Store,
        bundle: Bundle,
        dispatcher: Dispatcher,
        ids: PredictionIds,
        name: str,
        adopt: Callable[[Entry], None],
    ) -> None:
        """`name` is that of this process alone. `adopt` is given each newer entry."""
        settings = bundle.settings
        target_ms = settings.weighted.latency_target_ms
        max_age_s = settings.feedback.max_age_hours * 3600
        self.follower = follower_of(store, bundle, adopt)
        self.seals = Seals(self.follower, ids, Machine.of(settings.store, settings.model), bundle.secret, max_age_s)
        self.evidence = EvidenceCounter(self.follower, name, target_ms)
        self._tallying = Tallying(self.follower, target_ms / 1000, seen=dispatcher.seen.flush)
        self._look = BoundedLook(self._catch_up)
        self._adding: asyncio.Future[None] | None = None

    @property
    def observers(self) -> tuple[PredictionObserver, ...]:
        """Who counts what is put into the store."""
        return self._tallying, self.evidence

    async def start(self) -> None:
        """Look for the first time, and have something to seal prediction ids with."""
        await self.follower.look()
        await self.seals.start()

    async def refresh(self) -> None:
        """Have the routing, and what seals, be of about now; a store that is away takes nothing from what is known."""
        await self._look.refresh()

    async def add(self) -> None:
        """Put into the store what was counted, as nobody knows whether there will be another time.

        What the store does not take within `PATIENCE_S` is added with what comes next.
        """
        if self._adding is None:
            self._adding = asyncio.ensure_future(self._add())
        done, _ = await asyncio.wait((self._adding,), timeout=PATIENCE_S)
        if done:
            self._adding = None

    async def _catch_up(self) -> None:
        await self.follower.look()
        if self.follower.failure is not None:
            # Whatever stands between ends connections that are not used, and a process that stands still hears of it
            # when it asks; the next connection is a new one.
            await self.follower.look()
        with contextlib.suppress(StoreUnavailable):
            await self.seals.learn()

    async def _add(self) -> None:
        try:
            await self._tallying.add()
            await self.evidence.add()
        except Exception:
            logger.exception("what was counted is not in the store")
