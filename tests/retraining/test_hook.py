"""The hook, of several workers over one real store and a real receiver: everybody is told once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from configuration.retraining_settings import RetrainingSettings
from shokado.retraining import event as events
from shokado.retraining.event import EventStatus, RetrainingCause, RetrainingEvent
from shokado.retraining.hook import RetrainingHook
from shokado.stores.store import StoreUnavailable
from tests.request_log.sinks.receiver import Receiver, receiving
from tests.stores.backends import Backend
from tests.stores.entries import NOW
from tests.stores.following import Worker
from tests.support.waiting import until

DRIFT = RetrainingCause("drift", "drift:v1:day", "v1", "age drifted")
GUARDRAIL = RetrainingCause("guardrail", "guardrail:x:v2", "v2", "error_rate is past its limit", "production")


class Team:
    """Workers over one store, each with a hook; all of them lead, as may be for a while."""

    def __init__(self, backend: Backend, receiver: Receiver, workers: int, **changes: Any) -> None:
        chosen: dict[str, Any] = {"webhook": receiver.url, "min_interval_s": 0, "retry_s": 0.01} | changes
        self.now = NOW
        self.causes: list[RetrainingCause] = []
        self.workers = [Worker(backend, f"w{number}") for number in range(workers)]
        self.hooks = [self._hook(RetrainingSettings(**chosen), worker) for worker in self.workers]

    def _hook(self, settings: RetrainingSettings, worker: Worker) -> RetrainingHook:
        return RetrainingHook(
            settings, "churn", Path(), worker.name, worker.follower, leads, self._causes, lambda: self.now
        )

    async def _causes(self, at: float) -> Sequence[RetrainingCause]:
        assert at == self.now
        return self.causes

    async def look(self) -> None:
        """All at once."""
        await asyncio.gather(*(hook.look() for hook in self.hooks))

    async def log(self) -> Sequence[RetrainingEvent]:
        return await self.hooks[-1].log()

    async def ended(self) -> Sequence[RetrainingEvent]:
        """The log once nobody calls any more."""

        async def quiet() -> bool:
            return all(one.status is not EventStatus.CALLING for one in await self.log())

        await settled(quiet)
        return await self.log()


async def leads() -> bool:
    return True


async def settled(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def team(backend: Backend, workers: int = 3, **changes: Any) -> AsyncIterator[tuple[Team, Receiver]]:
    with receiving() as receiver:
        found = Team(backend, receiver, workers, **changes)
        try:
            yield found, receiver
        finally:
            for hook in found.hooks:
                await hook.stop()
            for worker in found.workers:
                await worker.follower.stop()


def test_a_cause_is_told_once_by_however_many_workers(backend: Backend) -> None:
    async def steps() -> None:
        async with team(backend) as (workers, receiver):
            await workers.look()
            assert await workers.log() == (), "there is no cause yet"
            workers.causes = [DRIFT]
            for _ in range(5):
                await workers.look()
                await workers.ended()
            (one,) = await workers.log()
            assert (one.status, one.attempts) == (EventStatus.DONE, 1)
            assert len(receiver.bodies) == 1
            assert receiver.heads[0]["webhook-id"] == one.id
            counts = [hook.flush_counts() for hook in workers.hooks]
            assert sum(each["drift", "done"] for each in counts) == 1

    asyncio.run(steps())


def test_a_receiver_that_refuses_is_asked_again_with_the_same_id(backend: Backend) -> None:
    async def steps() -> None:
        async with team(backend, max_attempts=3) as (workers, receiver):
            workers.causes = [GUARDRAIL]
            receiver.script = [(500, {}), (429, {"retry-after": "100"})]
            await workers.look()
            (one,) = await workers.ended()
            assert (one.status, one.attempts, one.note.endswith("answered 500")) == (EventStatus.DUE, 1, True)
            workers.now += 1
            await workers.look()
            (one,) = await workers.ended()
            assert (one.attempts, one.due_at) == (2, workers.now + 100)
            workers.now += 99
            await workers.look()
            assert (await workers.ended())[0].attempts == 2, "it is not due yet"
            workers.now += 1
            await workers.look()
            (one,) = await workers.ended()
            assert (one.status, one.attempts) == (EventStatus.DONE, 3)
            assert len({head["webhook-id"] for head in receiver.heads}) == 1
            assert len(set(receiver.bodies)) == 1

    asyncio.run(steps())


def test_after_so_many_failures_it_is_given_up(backend: Backend) -> None:
    async def steps() -> None:
        async with team(backend, workers=2, max_attempts=2) as (workers, receiver):
            workers.causes = [DRIFT]
            receiver.script = [(500, {})] * 10
            for _ in range(5):
                await workers.look()
                await workers.ended()
                workers.now += 3600
            assert [(one.status, one.attempts) for one in await workers.log()] == [(EventStatus.FAILED, 2)]
            assert len(receiver.bodies) == 2

    asyncio.run(steps())


def test_causes_take_turns_within_the_limit(backend: Backend) -> None:
    async def steps() -> None:
        async with team(backend, min_interval_s=100) as (workers, receiver):
            workers.causes = [DRIFT, GUARDRAIL]
            for passed in (0, 50, 49, 1):
                workers.now += passed
                await workers.look()
                await workers.ended()
            found = await workers.log()
            assert [(one.cause, one.at) for one in found] == [("drift", NOW), ("guardrail", NOW + 100)]
            assert len(receiver.bodies) == 2

    asyncio.run(steps())


def test_a_worker_that_died_while_it_called_is_followed_by_another(backend: Backend) -> None:
    """It is as if it were killed: its lease is in the store, and it never tells what came of it."""

    async def steps() -> None:
        async with team(backend, workers=2) as (workers, receiver):
            workers.causes = [DRIFT]
            receiver.script = [(0, {})]
            first, second = workers.hooks
            await first.look()
            await until(lambda: len(receiver.bodies) == 1)
            dead, first._attempt = first._attempt, None
            await second.look()
            assert len(receiver.bodies) == 1, "its lease is good"
            workers.now += events.LEASE_S
            await second.look()
            (one,) = await workers.ended()
            assert (one.status, one.attempts, len(receiver.bodies)) == (EventStatus.DONE, 2, 2)
            assert dead is not None
            dead.cancel()
            await asyncio.gather(dead, return_exceptions=True)
            assert (await workers.log())[0].status is EventStatus.DONE, "it comes too late"

    asyncio.run(steps())


def test_a_worker_that_stops_leaves_it_to_another_at_once(backend: Backend) -> None:
    async def steps() -> None:
        async with team(backend, workers=2) as (workers, receiver):
            workers.causes = [DRIFT]
            receiver.script = [(0, {})]
            await workers.hooks[0].look()
            await until(lambda: len(receiver.bodies) == 1)
            await workers.hooks[0].stop()
            await workers.hooks[1].look()
            (one,) = await workers.ended()
            assert (one.status, one.attempts) == (EventStatus.DONE, 1)

    asyncio.run(steps())


def test_a_long_call_keeps_its_lease(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RENEW_EVERY_S", 0.01)

    async def steps() -> None:
        async with team(backend, workers=2) as (workers, receiver):
            workers.causes = [DRIFT]
            receiver.script = [(0, {})]
            await workers.hooks[0].look()
            await until(lambda: len(receiver.bodies) == 1)
            workers.now += 10 * events.LEASE_S

            async def renewed() -> bool:
                return (await workers.log())[0].leased_until > workers.now

            await settled(renewed)
            await workers.hooks[1].look()
            assert len(receiver.bodies) == 1

    asyncio.run(steps())


def test_a_store_that_is_away_is_said_and_nothing_is_called(backend: Backend) -> None:
    async def steps() -> None:
        async with team(backend, workers=1) as (workers, receiver):
            workers.causes = [DRIFT]
            await workers.hooks[0].log()
            backend.take_away()
            with pytest.raises(StoreUnavailable):
                await workers.look()
            backend.give_back()
            assert receiver.bodies == []
            await workers.look()
            assert (await workers.ended())[0].status is EventStatus.DONE

    asyncio.run(steps())


def test_who_does_not_lead_does_nothing(backend: Backend) -> None:
    async def steps() -> None:
        async with team(backend, workers=1) as (workers, receiver):

            async def follows() -> bool:
                return False

            workers.hooks[0]._leads = follows
            workers.causes = [DRIFT]
            await workers.look()
            assert (await workers.log(), receiver.bodies) == ((), [])

    asyncio.run(steps())
