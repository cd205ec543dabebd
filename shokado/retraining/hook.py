"""The hook: one of all workers looks for causes, makes events of them, and calls whoever the settings name.

    look (every `look_every_s`): causes --> log in the store --> the event that is due --> attempt --> log

A worker that is killed while it calls leaves a lease that runs out; another one then calls again, with the same id.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from configuration.retraining_settings import RetrainingSettings
from shokado.retraining import event as events
from shokado.retraining.command import run_command
from shokado.retraining.event import EventStatus, Log, Outcome, RetrainingCause, RetrainingEvent
from shokado.retraining.webhook import post
from shokado.stores.follower import Follower
from shokado.stores.store import StoreUnavailable

DOCUMENT = "retraining"
"""The name of the log in the store."""
_MAX_TRIES = 100
"""Changes by others that one may lose to."""

_STOPS_IN_S = 5.0
"""How long a stopping worker waits to say that somebody else should begin again; else its lease says so."""

logger = logging.getLogger("bentoml.shokado")


class RetrainingHook:
    """Make one per worker. Methods belong to the event loop, on the main thread."""

    def __init__(
        self,
        settings: RetrainingSettings,
        model: str,
        root: Path,
        worker: str,
        follower: Follower,
        leads: Callable[[], Awaitable[bool]],
        causes: Callable[[float], Awaitable[Sequence[RetrainingCause]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`leads` says whether this worker is the one that looks; `causes` gives what there is to retrain for now."""
        self._settings = settings
        self._model = model
        self._key_file = root / settings.key_file if settings.key_file is not None else None
        self._worker = worker
        self._follower = follower
        self._leads = leads
        self._causes = causes
        self._clock = clock
        self._attempt: asyncio.Task[None] | None = None
        self._counts: Counter[tuple[str, str]] = Counter()

    async def look(self) -> None:
        """One round. Raises `StoreUnavailable`."""
        if not await self._leads():
            return
        now = self._clock()
        causes = await self._causes(now)
        # Not written where it stays as it is.
        log = await self._change(lambda log: events.with_causes(log, causes, self._settings, now))
        for one in log:
            if one.at == now and not one.attempts:
                logger.warning("retraining is wanted: %s of %s: %s", one.cause, one.version, one.reason)
        if self._attempt is None or self._attempt.done():
            await self._begin(log, now)

    async def log(self) -> Log:
        """All events that are remembered. Raises `StoreUnavailable`."""
        _, content = await self._follower.ask(self._follower.store.document, DOCUMENT)
        return events.decode_log(content)

    def flush_counts(self) -> Counter[tuple[str, str]]:
        """Attempts since this was last asked, by cause and by what came of them."""
        counts, self._counts = self._counts, Counter()
        return counts

    async def stop(self) -> None:
        """End the attempt under way; another worker begins it again."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.cancel()
            await asyncio.wait((attempt,), timeout=_STOPS_IN_S)

    async def _begin(self, log: Log, now: float) -> None:
        due = events.callable_event(log, now)
        if due is None:
            return
        mine = events.called(due, self._worker, self._settings, now)

        def take(found: Log) -> Log:
            # Somebody else may have been faster.
            return events.taken(found, mine) if events.callable_event(found, now) == due else found

        if mine not in await self._change(take):
            return
        if mine.status is EventStatus.FAILED:
            self._tell(mine)
        else:
            self._attempt = asyncio.create_task(self._call(mine))

    async def _call(self, mine: RetrainingEvent) -> None:
        calling = asyncio.create_task(self._called(mine))
        try:
            while not calling.done():
                await asyncio.wait((calling,), timeout=events.RENEW_EVERY_S)
                if not calling.done():
                    await self._renew(mine)
            outcome = calling.result()
        except asyncio.CancelledError:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            with contextlib.suppress(StoreUnavailable):
                await self._put(events.interrupted(mine, self._clock()))
            raise
        ended = events.ended(mine, outcome, self._settings, self._clock())
        self._tell(ended)
        while True:
            try:
                await self._put(ended)
            except StoreUnavailable:
                # While it is not told, others take it for one whose worker has died.
                await asyncio.sleep(1)
            else:
                return

    async def _called(self, mine: RetrainingEvent) -> Outcome:
        body, timeout_s = events.body_of(mine, self._model), self._settings.timeout
        try:
            if self._settings.webhook is not None:
                return await post(self._settings.webhook, mine.id, body, self._key_file, timeout_s)
            return await run_command(self._settings.command, body, timeout_s)
        except Exception as error:
            logger.exception("retraining event %s could not be called", mine.id)
            return Outcome(accepted=False, note=f"{type(error).__name__}: {error}")

    async def _renew(self, mine: RetrainingEvent) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self._put(events.renewed_lease(mine, self._clock()))

    async def _put(self, mine: RetrainingEvent) -> None:
        """Tell how an event of this worker stands, unless another one has taken it over."""
        await self._change(lambda log: events.replaced(log, mine, self._worker) or log)

    async def _change(self, change: Callable[[Log], Log]) -> Log:
        """Replace the log by another, made of what it is; it is returned as it is then. Raises `StoreUnavailable`."""
        for _ in range(_MAX_TRIES):
            revision, content = await self._follower.ask(self._follower.store.document, DOCUMENT)
            log = events.decode_log(content)
            changed = change(log)
            if changed == log:
                return log
            encoded = events.encode_log(changed)
            if await self._follower.ask(self._follower.store.put_document, DOCUMENT, encoded, revision):
                return changed
        raise StoreUnavailable("the log of retraining events is changed by others all the time")

    def _tell(self, event: RetrainingEvent) -> None:
        came = {EventStatus.DONE: "done", EventStatus.FAILED: "failed"}.get(event.status, "retried")
        self._counts[event.cause, came] += 1
        words = "retraining event %s (%s of %s), attempt %d: %s"
        told = event.id, event.cause, event.version, event.attempts, event.note
        (logger.info if event.status is EventStatus.DONE else logger.warning)(words, *told)
