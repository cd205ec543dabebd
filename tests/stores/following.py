"""Workers in one event loop that follow a store, each with a thread and a handle of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from configuration.settings import Settings
from shokado.dispatch.change import KnownVersions, SplitChange, with_split
from shokado.dispatch.state import RoutingState
from shokado.stores.follower import Follower
from shokado.stores.store import Action, Entry, WorkerReport
from tests.stores.backends import Backend
from tests.stores.entries import NOW, report
from tests.support.settings import paper_settings

POLL_EVERY_S = 0.01
NEVER_S = 3600.0
"""For workers that hear of others only when they make a change themselves."""
READY = KnownVersions({"v1": "ready", "v2": "ready"}, {})


class Worker:
    """What a follower belongs to: it adopts entries, and reports on itself."""

    def __init__(
        self,
        backend: Backend,
        name: str = "w",
        chosen: Settings | None = None,
        memory: Path | None = None,
        poll_every_s: float = POLL_EVERY_S,
    ) -> None:
        self.adopted: list[Entry] = []
        self.now = NOW
        self.name = name
        self.said: dict[str, Any] = {}
        """What is said in its reports."""
        self.bugs: list[Exception] = []
        """Raised, one by one, instead of adopting."""
        chosen, store = chosen or paper_settings(), backend.open()
        if poll_every_s == NEVER_S:
            store.news = lambda: None  # type: ignore[method-assign]
        self.follower = Follower(store, chosen, self._adopt, self._report, memory, lambda: self.now, poll_every_s)

    @property
    def entry(self) -> Entry:
        assert self.follower.entry is not None
        return self.follower.entry

    @property
    def state(self) -> RoutingState:
        return self.entry.state

    @property
    def generation(self) -> int:
        """0 while none is known."""
        return self.follower.entry.generation if self.follower.entry is not None else 0

    @property
    def weight(self) -> float:
        """Of v2, which `more` makes greater."""
        return self.state.environments["production"].weights["v2"]

    async def change(self, make: Callable[[RoutingState], RoutingState] | None = None, **given: Any) -> Entry:
        """By default, one more for v2."""
        return await self.follower.change(make or more, **({"by": "ann", "action": Action.SPLIT} | given))

    async def changes(self, count: int) -> None:
        for _ in range(count):
            await self.change()

    async def history(self) -> list[Entry]:
        return await self.follower.ask(self.follower.store.history, 10_000)

    def _adopt(self, entry: Entry) -> None:
        if self.bugs:
            raise self.bugs.pop()
        self.adopted.append(entry)

    def _report(self) -> WorkerReport:
        return replace(report(self.name, self.now, generation=self.generation), **self.said)


def more(state: RoutingState) -> RoutingState:
    """One more for v2."""
    weights = dict(state.environments["production"].weights)
    return with_split(state, None, SplitChange(weights=weights | {"v2": weights["v2"] + 1}), READY)


@contextlib.asynccontextmanager
async def working(backend: Backend, count: int = 1, **given: Any) -> AsyncIterator[list[Worker]]:
    """Workers that have started, all at the same time."""
    workers = [Worker(backend, f"w{number}", **given) for number in range(count)]
    async with running(*workers):
        yield workers


@contextlib.asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    await asyncio.gather(*(worker.follower.start() for worker in workers))
    try:
        yield
    finally:
        await asyncio.gather(*(worker.follower.stop() for worker in workers))
