"""The seals over both stores: whatever becomes of the store, no id that was given out is called forged."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shokado.experiments import seals
from shokado.experiments.feedback_collector import Feedback, FeedbackCollector, FeedbackStatus
from shokado.experiments.prediction_id import BadPredictionId, PredictionIds
from shokado.experiments.seals import Seals
from shokado.stores.machine import Machine
from shokado.stores.store import BEFORE, GIVEN, Secret, StoreUnavailable
from tests.experiments.test_joining_feedback import BINARY
from tests.stores.backends import Backend
from tests.stores.entries import secret
from tests.stores.following import NEVER_S, Worker
from tests.stores.processes import in_processes, process
from tests.support.waiting import in_time, until
from tests.transports.predictions import prediction

HOUR_S = 3600.0
LEEWAY_S = 86_400.0
LEARN_EVERY_S = 0.02
F1, F2 = (bytes([number]) * 32 for number in (201, 202))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a hundred rounds of learning, rather than five."""
    monkeypatch.setattr(seals, "SETTLES_S", 2.0)
    monkeypatch.setattr(seals, "LOOK_EVERY_S", 0.1)


class Sealer:
    """A worker, as far as prediction ids go. `folder` is its machine's."""

    def __init__(
        self,
        backend: Backend,
        folder: Path,
        given: bytes | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.follower = Worker(backend, poll_every_s=NEVER_S).follower
        self.ids = PredictionIds(bytes(32), HOUR_S, clock)
        self.seals = Seals(self.follower, self.ids, Machine(folder / "shared"), given, HOUR_S, clock, monotonic)
        look = self.seals.look_again
        self.collector = FeedbackCollector(self.follower, self.ids, lambda: {"v1": BINARY}, HOUR_S, look, clock)

    def make(self) -> str:
        return self.ids.make(prediction(BINARY, [0.9]))

    def reads(self, made: str) -> bool:
        """By what it knows already."""
        with contextlib.suppress(BadPredictionId):
            return bool(self.ids.read(made))
        return False

    async def statuses(self, *made: str) -> set[FeedbackStatus]:
        return {ruling.status for ruling in await self.collector.take([Feedback(one, label=1) for one in made])}

    async def keep_learning(self) -> None:
        while True:
            await asyncio.sleep(LEARN_EVERY_S)
            with contextlib.suppress(StoreUnavailable):
                await self.seals.learn()


@contextlib.asynccontextmanager
async def sealing(*sealers: Sealer, learning: bool = True) -> AsyncIterator[None]:
    """They have started, at the same time, and learn until the context is left: then they just end, as if killed."""
    await asyncio.gather(*(sealer.seals.start() for sealer in sealers))
    tasks = [asyncio.create_task(sealer.keep_learning()) for sealer in sealers if learning]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(sealer.follower.stop() for sealer in sealers))


def all_read(sealers: Iterable[Sealer], made: Iterable[str]) -> bool:
    return all(sealer.reads(one) for sealer in sealers for one in made)


def sealed_by(value: bytes, made: str) -> bool:
    with contextlib.suppress(BadPredictionId):
        return bool(PredictionIds(value, inf).read(made))
    return False


def kept(backend: Backend) -> dict[bytes, Secret]:
    return {one.value: one for one in backend.open().secrets()}


def test_starts_at_once_on_an_empty_store_agree_on_one_secret(backend: Backend, tmp_path: Path) -> None:
    def start(number: int) -> list[str]:
        made: list[str] = []

        async def scenario() -> None:
            sealers = [Sealer(backend, tmp_path / f"machine-{number}") for _ in range(2)]
            async with sealing(*sealers, learning=False):
                made.extend(sealer.make() for sealer in sealers)

        in_time(scenario())
        return made

    made = list(itertools.chain(*in_processes(start, 5)))
    (only,) = kept(backend)
    assert all(sealed_by(only, one) for one in made)


def test_a_store_that_is_flushed_again_and_again_while_workers_run_and_start(backend: Backend, tmp_path: Path) -> None:
    """Each start finds an empty store; all ids, of the dead as well, are sent to everybody at once."""

    async def scenario() -> None:
        old = [Sealer(backend, tmp_path / f"old-{number}") for number in range(2)]
        made: list[str] = []
        async with sealing(*old):
            for turn in range(8):
                made += [sealer.make() for sealer in old]
                await asyncio.to_thread(backend.wipe)
                new = Sealer(backend, tmp_path / f"new-{turn}")
                async with sealing(new):
                    made.append(new.make())
                    for sealer in (new, *old):
                        assert await sealer.statuses(*made) <= {FeedbackStatus.ACCEPTED, FeedbackStatus.DUPLICATE}
            await until(lambda: len({sealer.seals._used[0] for sealer in old}) == 1)
            newest = max(kept(backend).values(), key=lambda one: (one.made_at, one.value))
            assert sealed_by(newest.value, old[0].make()), "the newest one seals"
            assert await old[0].statuses(PredictionIds(F1, HOUR_S).make(prediction(BINARY, [0.9]))) == {
                FeedbackStatus.FORGED
            }, "a stranger's is still told"

    in_time(scenario())


def test_a_loss_that_somebody_else_has_mended_is_seen(backend: Backend, tmp_path: Path) -> None:
    """A third one may not have put back yet what only it knows."""

    async def scenario() -> None:
        now = time.monotonic()
        sealer, other = Sealer(backend, tmp_path / "a", monotonic=lambda: now), Sealer(backend, tmp_path / "b")
        async with sealing(sealer, other, learning=False):
            assert not await sealer.seals.look_again(), "it has just started"
            now += seals.SETTLES_S
            assert await sealer.seals.look_again()
            await asyncio.to_thread(backend.wipe)
            await other.seals.learn()
            now += 2 * seals.SETTLES_S
            assert not await sealer.seals.look_again()
            now += seals.SETTLES_S
            assert await sealer.seals.look_again()

    in_time(scenario())


def test_a_worker_that_starts_while_the_store_is_away(backend: Backend, tmp_path: Path) -> None:
    """What it seals with counts when the store is back, for everybody, and all of its machine agree on it."""

    async def scenario() -> None:
        old = Sealer(backend, tmp_path / "old")
        async with sealing(old):
            made = [old.make()]
            backend.take_away()
            await until(lambda: old.follower._away is not None)
            new = [Sealer(backend, tmp_path / "new") for _ in range(3)]
            async with sealing(*new):
                made += [sealer.make() for sealer in new]
                assert all_read(new, made[1:])
                for sealer in (old, *new):
                    with pytest.raises(StoreUnavailable):
                        await sealer.statuses(*made, made[0][:-4] + "AAAA")
                backend.give_back()
                for sealer in (old, *new):
                    while True:
                        with contextlib.suppress(StoreUnavailable):
                            assert await sealer.statuses(*made) <= {FeedbackStatus.ACCEPTED, FeedbackStatus.DUPLICATE}
                            break
            assert len(kept(backend)) == 2

    in_time(scenario())


def test_a_worker_that_is_killed_before_the_store_is_back(backend: Backend, tmp_path: Path) -> None:
    backend.open().keep_secrets([secret(1)])
    backend.take_away()

    def serve(told: Connection) -> None:
        async def scenario() -> None:
            sealer = Sealer(backend, tmp_path / "machine")
            await sealer.seals.start()
            told.send(sealer.make())
            await asyncio.sleep(60)

        in_time(scenario())

    with process(serve) as (child, told):
        made = told.recv()
        child.kill()
        child.join()
    backend.give_back()

    async def scenario() -> None:
        one, other = Sealer(backend, tmp_path / "machine"), Sealer(backend, tmp_path / "other")
        async with sealing(one, other):
            assert await one.statuses(made) == {FeedbackStatus.ACCEPTED}
            assert await other.statuses(made) == {FeedbackStatus.DUPLICATE}

    in_time(scenario())


def test_workers_that_are_all_killed_while_the_store_is_flushed(backend: Backend, tmp_path: Path) -> None:
    async def scenario() -> None:
        first = Sealer(backend, tmp_path)
        async with sealing(first):
            made = first.make()
        await asyncio.to_thread(backend.wipe)
        again = Sealer(backend, tmp_path)
        async with sealing(again):
            assert again.reads(made)
            assert set(kept(backend)) == {first.seals._used[0]}

    in_time(scenario())


def test_a_secret_that_is_given_seals_where_it_is_and_verifies_everywhere(backend: Backend, tmp_path: Path) -> None:
    async def scenario() -> None:
        with_file, without = Sealer(backend, tmp_path / "a", F1), Sealer(backend, tmp_path / "b")
        async with sealing(with_file, without):
            made = [with_file.make(), without.make()]
            assert [sealed_by(F1, one) for one in made] == [True, False]
            await until(lambda: all_read([with_file, without], made))
            assert kept(backend)[F1].made_at == GIVEN
            await with_file.seals.age(300)
            await until(lambda: {one.idle_s for one in kept(backend).values()} == {0.0})
            await asyncio.to_thread(backend.wipe)
            await until(lambda: len(kept(backend)) == 2)
            assert sealed_by(F1, with_file.make())

    in_time(scenario())


def test_the_given_secret_is_rotated_worker_by_worker(backend: Backend, tmp_path: Path) -> None:
    async def scenario() -> None:
        before, after = Sealer(backend, tmp_path / "a", F1), Sealer(backend, tmp_path / "b", F2)
        async with sealing(before):
            made = [before.make()]
            async with sealing(after):
                made += [before.make(), after.make()]
                assert sealed_by(F2, made[-1])
                await until(lambda: all_read([before, after], made))
        alone = Sealer(backend, tmp_path / "c", F2)
        async with sealing(alone):
            assert all_read([alone], made)
            assert sealed_by(F2, alone.make())
        assert set(kept(backend)) == {F1, F2}, "no other one is made"

    in_time(scenario())


def test_the_secret_of_an_older_version_seals_on(backend: Backend, tmp_path: Path) -> None:
    backend.put_older_secret(F1)

    async def scenario() -> None:
        sealer = Sealer(backend, tmp_path)
        async with sealing(sealer):
            assert sealed_by(F1, sealer.make())
        assert kept(backend)[F1].made_at == BEFORE

    in_time(scenario())


def test_an_idle_secret_is_dropped_when_its_ids_have_expired_and_not_before(backend: Backend, tmp_path: Path) -> None:
    async def scenario() -> None:
        backend.open().keep_secrets([secret(1)])
        sealer, other = Sealer(backend, tmp_path / "a"), Sealer(backend, tmp_path / "b")
        async with sealing(sealer, other, learning=False):
            made = sealer.make()
            assert sealed_by(secret(1).value, made)
            backend.open().keep_secrets([secret(2)])
            for one in (sealer, other):
                await one.seals.learn()
            assert sealed_by(secret(2).value, sealer.make())
            for _ in range(2):
                await sealer.seals.age((HOUR_S + LEEWAY_S) / 2)
                await other.seals.learn()
                assert sealer.reads(made)
                assert other.reads(made)
            await sealer.seals.age(1)
            for one in (sealer, other):
                await one.seals.learn()
                assert not one.reads(made)
            await sealer.seals.age(1)
            for one in (sealer, other):
                await one.seals.learn()
            assert set(kept(backend)) == {secret(2).value}, "nobody puts it back"
        again = Sealer(backend, tmp_path / "a")
        async with sealing(again, learning=False):
            assert set(kept(backend)) == {secret(2).value}, "nor does who starts later"

    in_time(scenario())


def test_a_secret_ages_from_when_the_last_worker_has_sealed_with_it(backend: Backend, tmp_path: Path) -> None:
    """One that could not reach the store for long goes on with the one that it knows."""

    async def scenario() -> None:
        backend.open().keep_secrets([secret(1)])
        cut_off, other = Sealer(backend, tmp_path / "a"), Sealer(backend, tmp_path / "b")
        async with sealing(cut_off, other, learning=False):
            backend.open().keep_secrets([secret(2)])
            await other.seals.learn()
            await other.seals.age(HOUR_S + LEEWAY_S + 1)
            await other.seals.age(1)
            assert set(kept(backend)) == {secret(2).value}
            made = cut_off.make()
            assert sealed_by(secret(1).value, made)
            await cut_off.seals.learn()
            assert sealed_by(secret(2).value, cut_off.make())
            assert kept(backend)[secret(1).value].idle_s == 0
            assert await other.statuses(made) == {FeedbackStatus.ACCEPTED}

    in_time(scenario())


@pytest.mark.parametrize("step_s", [-10 * 365 * 86_400.0, 10 * 365 * 86_400.0])
def test_a_clock_that_is_set_loses_no_secret(step_s: float, backend: Backend, tmp_path: Path) -> None:
    async def scenario() -> None:
        now = time.time()
        before = Sealer(backend, tmp_path / "a", clock=lambda: now)
        async with sealing(before, learning=False):
            made = [before.make()]
            await asyncio.to_thread(backend.wipe)
            wrong = Sealer(backend, tmp_path / "b", clock=lambda: now + step_s)
            async with sealing(wrong, learning=False):
                made.append(wrong.make())
                for _ in range(3):
                    await wrong.seals.age(300)
                    await before.seals.learn()
                    await wrong.seals.learn()
                assert len(kept(backend)) == 2
                assert before.seals._used == wrong.seals._used
                seals = {one: sealed_by(one, before.make()) for one in before.seals._used}
                assert list(seals.values()) == [True, False], "they agree on which one seals"
        right = Sealer(backend, tmp_path / "c", clock=lambda: now)
        async with sealing(right):
            assert right.reads(made[0])
            assert all(any(sealed_by(one, each) for one in right.seals._used) for each in made)

    in_time(scenario())


def test_what_is_remembered_is_for_nobody_else_and_may_be_damaged(backend: Backend, tmp_path: Path) -> None:
    async def scenario() -> None:
        sealer = Sealer(backend, tmp_path)
        async with sealing(sealer):
            made = sealer.make()
            file = tmp_path / "shared" / "secrets"
            assert file.stat().st_mode & 0o777 == 0o600
        for content in (b"", b"[[", b'[["AA==",1,0]]', b"\xff"):
            file.write_bytes(content)
            again = Sealer(backend, tmp_path)
            async with sealing(again):
                assert again.reads(made)

    in_time(scenario())
