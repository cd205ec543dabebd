"""A store whose Redis is replaced by its replica: it goes on there, with all that the replica had."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import exceptions as redis_errors

from shokado.stores.opening import open_store
from shokado.stores.store import Store, StoreUnavailable
from tests.stores.backends import MODEL, RedisBackend
from tests.stores.entries import NOW, entry, filled, settlement, total
from tests.stores.following import NEVER_S, working
from tests.support.redis_sentinel import SERVICE, WatchedRedis
from tests.support.redis_server import needs_redis
from tests.support.waiting import in_time, until, wait_until

pytestmark = needs_redis


def opened(url: str) -> Store:
    return open_store(url, MODEL, Path("/nowhere"))


def succeeds(call: Callable[[], object]) -> bool:
    with contextlib.suppress(StoreUnavailable):
        call()
        return True
    return False


def has(redis: WatchedRedis, generation: int) -> bool:
    """Whether the replica has it. While the Sentinel tells it whom to follow, it closes connections."""
    with contextlib.suppress(redis_errors.ConnectionError), redis.replica.client() as client:
        return bool(client.hget(f"shokado:{{{MODEL}}}:newest", "generation") == str(generation).encode())
    return False


class Watched(RedisBackend):
    """A Redis that a Sentinel watches, to be opened."""

    def __init__(self, redis: WatchedRedis) -> None:
        super().__init__(redis.master)
        self.url = redis.url


def test_the_store_goes_on_where_its_replica_is_the_master_now(tmp_path: Path) -> None:
    """Both want a password, the Sentinel as well; what was confirmed and had reached the replica is there."""
    with WatchedRedis(tmp_path, password="a,b") as redis, contextlib.closing(opened(redis.url)) as store:
        filled(store, 3)
        assert store.settle([settlement("one"), settlement("two")], NOW) == [True, True]
        wait_until(lambda: has(redis, 3))
        lost = redis.fail_over()
        wait_until(lambda: succeeds(store.position), 30)
        assert store.read() == entry(3)
        assert store.settle([settlement("two"), settlement("three")], NOW) == [False, True]
        assert total(store) == 3.0
        store.append(entry(4), 3)
        lost.start()
        wait_until(lambda: has(redis, 4), 60)
        assert store.read() == entry(4)


def test_workers_agree_after_the_replica_took_over(tmp_path: Path) -> None:
    """Also on a change that the replica had never heard of."""

    async def scenario(redis: WatchedRedis) -> None:
        async with working(Watched(redis), 3) as workers:
            await workers[0].changes(2)
            replica = redis.replica
            await until(lambda: has(redis, 3))
            replica.pause()
            unheard = await workers[1].change()
            await until(lambda: all(worker.generation == 4 for worker in workers))
            redis.master.kill()
            replica.resume()
            await until(lambda: redis.master is replica)
            await until(lambda: all(worker.follower.failure is None for worker in workers))
            with contextlib.closing(opened(redis.url)) as store:
                await until(lambda: succeeds(store.position) and store.position().generation == 4)
            assert all(worker.entry.state == unheard.state for worker in workers)
            changed = await workers[2].change()
            await until(lambda: all(worker.entry == changed for worker in workers))

    with WatchedRedis(tmp_path) as redis:
        in_time(scenario(redis))


def test_workers_hear_of_changes_from_the_new_master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them want a password, and nobody looks without news."""
    monkeypatch.setattr("shokado.stores.follower.LOOK_EVERY_S", NEVER_S)

    async def scenario(redis: WatchedRedis) -> None:
        async with working(Watched(redis), 3) as workers:
            await until(lambda: listeners(redis) == 3)
            await workers[0].change()
            await until(lambda: {worker.generation for worker in workers} == {2} and has(redis, 2))
            await asyncio.to_thread(redis.fail_over)
            await until(lambda: listeners(redis) == 3)
            await until(lambda: all(worker.follower.failure is None for worker in workers))
            # What tells them that they hear again makes them look once.
            await asyncio.sleep(0.5)
            changed = await workers[2].change()
            await until(lambda: all(worker.entry == changed for worker in workers))

    with WatchedRedis(tmp_path, password="a,b") as redis:
        in_time(scenario(redis))


def listeners(redis: WatchedRedis) -> int:
    """How many connections the master would tell of a change."""
    with redis.master.client() as client:
        return int(client.pubsub_numsub(f"shokado:{{{MODEL}}}:news")[0][1])


def test_who_cannot_be_asked_is_named_without_a_password(tmp_path: Path) -> None:
    with WatchedRedis(tmp_path, password="word") as redis:
        wrong = redis.url.replace("word", "another")
        with contextlib.closing(opened(wrong)) as store, pytest.raises(StoreUnavailable) as refused:
            store.position()
        assert f"/{SERVICE}/0" in str(refused.value)
        assert "another" not in str(refused.value)
        other = redis.url.replace(SERVICE, "other")
        with contextlib.closing(opened(other)) as store, pytest.raises(StoreUnavailable, match="'other'"):
            store.position()
