"""The follower: keeps this worker at the store's newest generation, and makes changes through it.

    store --(looked at: when it tells of news, and now and then)--> newer entry --> adopted by this worker
      ^--- compare-and-set <--- change

Everything of the store happens in one thread beside the event loop. A store that is away takes nothing from what this
worker knows; when it comes back with less than that, it is given the newest entry again.
"""

import asyncio
import contextlib
import logging
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from configuration.settings import Settings
from shokado.dispatch.experiment_change import with_stages
from shokado.dispatch.state import RoutingState, fit, initial_state
from shokado.stores.record import decode_entry, encode_entry
from shokado.stores.store import (
    EMPTY,
    Action,
    Entry,
    GenerationConflict,
    News,
    Position,
    Store,
    StoreUnavailable,
    WorkerReport,
)

POLL_EVERY_S = 0.2
"""How often the newest generation is asked for where nothing tells of it: every worker has a change within a second."""
LOOK_EVERY_S = 0.8
"""How often it is asked for while the store tells of news: one that got lost is there within a second all the same."""
SPREAD_S = 0.1
"""Within which the workers that have heard the same news look, so that a store is not asked by thousands at once."""
KEEP_REPORT_S = 10.0
"""How long a worker's report counts: two may be lost before the worker counts as gone."""
REPORT_EVERY_S = 3.0
"""How often a worker reports that it lives, when it has no news."""
_MAX_TRIES = 1_000
"""Changes by others that one may lose to; more at once is a fault."""
_MAX_JITTER_S = 0.01
"""How far the next tries of those who lost lie apart."""
_PATIENCE_S = 1.0
"""How long a caller waits in line behind others while the store is away."""
_CONFIGURATION = "configuration"
_SERVER = "shokado"

Result = TypeVar("Result")

logger = logging.getLogger("bentoml.shokado")


class Follower:
    """A worker's copy of the routing state, which follows the store. Methods belong to the event loop."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        adopt: Callable[[Entry], None],
        report: Callable[[], WorkerReport],
        memory: Path | None = None,
        clock: Callable[[], float] = time.time,
        poll_every_s: float = POLL_EVERY_S,
    ) -> None:
        """`adopt` is called with every newer entry, before anybody else hears of it, and again when it has failed.

        `report` is asked at every poll. `memory` is a file in which the newest entry is kept for workers that start
        while the store is away.
        """
        self.store = store
        self.entry: Entry | None = None
        self.failure: str | None = None
        """Why the store cannot be followed now; None while it can."""
        self._settings = settings
        self._adopt = adopt
        self._report = report
        self._memory = memory
        self._clock = clock
        self._poll_every_s = poll_every_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shokado-store")
        self._away: str | None = None
        """Why the last call of the store failed, if it did."""
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[Entry]] = set()
        self._polling: asyncio.Task[None] | None = None
        self._told: News | None = None
        """What tells of news, if anything does."""
        self._heard = asyncio.Event()
        """News that were told, and not looked after yet."""
        self._hearing: list[asyncio.Task[None]] = []
        self._looked_at = -inf
        """When the store was asked last, on the monotonic clock."""
        self._reported: WorkerReport | None = None

    @property
    def state(self) -> RoutingState | None:
        return self.entry.state if self.entry is not None else None

    @property
    def is_told(self) -> bool:
        """Whether the store tells of news now, or it has to be asked often."""
        return self._told is not None and self._told.listening

    async def start(self) -> None:
        """Read the store, or make its first entry, and follow it from now on. Returns when that was tried once."""
        try:
            await self._catch_up()
        except StoreUnavailable as error:
            self._note_failure(error)
        self._polling = asyncio.create_task(self._poll())
        self._told = self.store.news()
        if self._told is not None:
            listening, looking = self._told.listen(self._heard.set), self._look_after_news()
            self._hearing = [asyncio.create_task(work) for work in (listening, looking)]

    async def stop(self) -> None:
        """Stop following, finish the changes under way, withdraw this worker's report, and close the store."""
        tasks = [task for task in (self._polling, *self._hearing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._changes, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await self.ask(self.store.withdraw, self._report().worker)
        await asyncio.get_running_loop().run_in_executor(self._thread, self.store.close)
        self._thread.shutdown(wait=False)

    async def ask(self, method: Callable[..., Result], *arguments: Any) -> Result:
        """Call a method of the store off the event loop. Raises `StoreUnavailable`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._call, time.monotonic(), method, arguments)

    def _call(self, asked_at: float, method: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
        """Call the method, in the follower's thread."""
        self._give_up(asked_at)
        away = None
        try:
            return method(*arguments)
        except StoreUnavailable as error:
            away = str(error)
            raise
        finally:
            self._away = away

    def _give_up(self, asked_at: float) -> None:
        """Raise `StoreUnavailable` for what waited in line while others found out, slowly, that the store is away.

        If each found out for itself, the last would wait for minutes.
        """
        if self._away is not None and time.monotonic() - asked_at > _PATIENCE_S:
            raise StoreUnavailable(self._away)

    async def change(
        self,
        make: Callable[[RoutingState], RoutingState],
        *,
        by: str,
        action: Action,
        why: str = "",
        if_match: int | None = None,
    ) -> Entry:
        """Replace the state by `make(newest state)`, durably, adopt it here, and return the new entry.

        `make` may be called again when somebody else was faster, unless `if_match` names the only generation that may
        be replaced. It goes on when its caller is cancelled. Raises what `make` raises, `GenerationConflict` and
        `StoreUnavailable`.
        """
        task = asyncio.create_task(self._change(make, by, action, why, if_match))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _change(
        self, make: Callable[[RoutingState], RoutingState], by: str, action: Action, why: str, if_match: int | None
    ) -> Entry:
        asked_at = time.monotonic()
        async with self._changing:
            self._give_up(asked_at)
            for tries_left in reversed(range(_MAX_TRIES)):
                base = await self.newest()
                if if_match is not None and base.generation != if_match:
                    raise GenerationConflict(if_match, base.generation)
                entry = self._entry(with_stages(base.state, make(base.state)), by, action, why)
                try:
                    await self.ask(self.store.append, entry, base.generation)
                except GenerationConflict:
                    if not tries_left:
                        raise
                    await asyncio.sleep(random.uniform(0, _MAX_JITTER_S))  # noqa: S311  # spreads the next tries
                else:
                    self._take(entry)
                    return entry
        raise AssertionError("the last try returns or raises")

    async def newest(self) -> Entry:
        """The newest entry, for which the store is asked: this worker may not have followed yet what another changed.

        Raises `StoreUnavailable`.
        """
        await self._follow()
        assert self.entry is not None
        return self.entry

    async def look(self) -> None:
        """Catch up with the store once, for who does not follow it all the time; a store that is away is noted."""
        await self._noted(self._catch_up)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_every_s)
            await self._noted(self._look_and_tell)

    async def _look_after_news(self) -> None:
        """Look soon after news, once for all that came meanwhile, and never more often than by polling."""
        while True:
            await self._heard.wait()
            await asyncio.sleep(random.uniform(0, SPREAD_S))  # noqa: S311  # workers look one by one
            self._heard.clear()
            try:
                await self._catch_up()
            except Exception as error:
                # That all is well again, the next poll says, which tells as well.
                self._note_failure(error)
            await asyncio.sleep(self._poll_every_s)

    async def _noted(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            self._note_failure(error)
        else:
            self._note_success()

    async def _look_and_tell(self) -> None:
        if self._is_due():
            await self._catch_up()
        await self._tell()

    def _is_due(self) -> bool:
        """Whether the store is to be asked now, without any news."""
        is_well = self.is_told and self.failure is None
        return not is_well or time.monotonic() - self._looked_at >= LOOK_EVERY_S

    async def _catch_up(self) -> None:
        self._recall()
        await self._follow()

    async def _follow(self) -> None:
        """Take over what is newer in the store, or give it what it lacks."""
        self._looked_at = time.monotonic()
        position = await self.ask(self.store.position)
        known = self.entry.position if self.entry is not None else EMPTY
        if position.generation == known.generation == 0:
            await self._begin()
        elif position.generation < known.generation:
            await self._restore(position)
        elif position != known:
            await self._adopt_newest()

    async def _begin(self) -> None:
        """Make the store's first entry out of the configuration."""
        first = self._entry(initial_state(self._settings), _CONFIGURATION, Action.CONFIGURED, "")
        try:
            await self.ask(self.store.append, first, 0)
        except GenerationConflict:
            await self._adopt_newest()
        except StoreUnavailable:
            # There never was another word than the configuration's, so it can be served by.
            if self.entry is None:
                self._take(replace(first, state=replace(first.state, generation=0)))
            raise
        else:
            self._take(first)

    async def _restore(self, position: Position) -> None:
        """Give the store what this worker knows, in place of the older generation that it has."""
        known = self.entry
        assert known is not None
        why = f"the store had lost what came after generation {position.generation}"
        entry = replace(known, at=self._clock(), by=_SERVER, action=Action.RESTORED, why=why)
        with contextlib.suppress(GenerationConflict):
            await self.ask(self.store.append, entry, position.generation)
            logger.warning("%s; generation %d was written to it again", why, known.generation)

    async def _adopt_newest(self) -> None:
        entry = await self.ask(self.store.read)
        if entry is None:
            raise StoreUnavailable(f"the store {self.store.name} loses what is written to it")
        self._take(self._fitted(entry))

    async def _tell(self) -> None:
        """Report on this worker, when there is news or the last report is old."""
        report = self._report()
        last = self._reported
        if last is None or not 0 <= report.at - last.at < REPORT_EVERY_S or _gist(report) != _gist(last):
            await self.ask(self.store.report, report, KEEP_REPORT_S)
            self._reported = report

    def _entry(self, state: RoutingState, by: str, action: Action, why: str) -> Entry:
        return Entry(state, self._clock(), by, action, why, secrets.token_hex(8))

    def _fitted(self, entry: Entry) -> Entry:
        return replace(entry, state=fit(entry.state, self._settings))

    def _take(self, entry: Entry) -> None:
        """Adopt the entry, unless this worker knows it already, or a newer one."""
        known = self.entry
        if known is not None:
            if known.generation > entry.generation or known.position == entry.position:
                return
            if known.generation == entry.generation:
                words = "the store has another generation %d (%s) than this worker (%s), and takes precedence"
                logger.warning(words, entry.generation, entry.id, known.id)
        self.entry = entry
        try:
            self._adopt(entry)
        except BaseException:
            # The next poll tries again.
            self.entry = known
            raise
        self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        if self._memory is None:
            return
        kept = self._remembered()
        if kept is not None and kept.generation > entry.generation:
            return
        try:
            scratch = self._memory.with_name(f"{self._memory.name}.{os.getpid()}")
            scratch.touch(mode=0o600)
            scratch.write_bytes(encode_entry(entry))
            scratch.replace(self._memory)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._memory, error)

    def _remembered(self) -> Entry | None:
        try:
            return decode_entry(self._memory.read_bytes()) if self._memory is not None else None
        except (OSError, ValueError):
            return None

    def _recall(self) -> None:
        """What a sibling knew, where this worker has nothing from the store."""
        if self.entry is None or self.entry.generation == 0:
            kept = self._remembered()
            # A sibling that goes by the configuration as well has nothing to say that this worker does not know.
            if kept is not None and (self.entry is None or kept.generation > 0):
                self._take(self._fitted(kept))

    def _note_failure(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            failure, unforeseen = str(error), None
        else:
            failure, unforeseen = f"the store {self.store.name} cannot be followed: {error!r}", error
        if self.failure is None:
            logger.warning("%s; serving goes on as it was, changes are refused", failure, exc_info=unforeseen)
        self.failure = failure

    def _note_success(self) -> None:
        if self.failure is not None:
            logger.warning("the store %s can be used again", self.store.name)
        self.failure = None


def _gist(report: WorkerReport) -> object:
    """What others must hear of at once: not when a version was used last."""
    versions = [
        {version: (found.digest, found.state, found.failure) for version, found in reports.items()}
        for reports in (report.versions, report.candidates)
    ]
    return report.generation, versions, report.heard
