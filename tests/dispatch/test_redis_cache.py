"""The answer cache in a real Redis, which is killed, frozen, filled up and poisoned."""

import asyncio
import logging
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import CacheSettings
from runners.artefacts.card import Task
from runners.batching.job import Job
from runners.errors import DeadlineExceeded, NotReady
from runners.version_state import VersionState
from shokado.dispatch import redis_cache
from shokado.dispatch.cache import KEY_BYTES, CacheCounts
from shokado.dispatch.redis_cache import RedisCache, seal, unseal
from shokado.dispatch.request import PredictionRequest
from tests.dispatch.double_runners import DoubleRunner, Larder, OffBy, packed, routed, started
from tests.runners.engine_doubles import ChokesOnBadRows, Obliging
from tests.support.garbage import of_kinds, uncollected
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, in_time
from tests.tools import why

HIT, MISS = CacheCounts(hits=1), CacheCounts(misses=1)
PATTERN = "shokado:customers:cache:*"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip(why("redis-server"))
    with RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no") as server:
        yield server


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        client.flushdb()
        yield client


class RedisLarder(Larder[RedisCache]):
    """One worker, over v1."""

    async def reached(self) -> "RedisLarder":
        """Ready to be used: the first request only begins to connect."""
        await self.answer(-1000.0)
        await eventually(lambda: self.cache._reachable)
        self.cache.flush()
        self.sizes.clear()
        return self

    async def kept(self, *values: float) -> None:
        """Have these rows answered and their answer written."""
        await self.answer(*values)
        await eventually(lambda: not self.cache._writes)
        await self.answer(-2000.0)
        self.cache.flush()
        self.sizes.clear()


async def larder(server: RedisServer | str, v1: Any = None, task: Task = Task.BINARY, **given: Any) -> RedisLarder:
    engine = v1 or Obliging()
    files = given.pop("files", "0")
    runners = await started(DoubleRunner("v1", engine, task, files))
    url = server if isinstance(server, str) else server.url
    cache = RedisCache(CacheSettings(**given), url, "customers", asyncio.get_running_loop().call_soon)
    engine.sizes.clear()
    return RedisLarder(routed(runners, cache=cache), cache, engine.sizes)


def test_workers_share_their_answers(redis_server: RedisServer, client: Any) -> None:
    async def scenario() -> None:
        one, other = [await (await larder(redis_server, ttl_s=60)).reached() for _ in range(2)]
        await one.kept(1.0, 2.0)
        known = await other.answer(1.0, 2.0)
        assert known.scores is not None
        assert known.scores.tolist() == [1.5, 2.5]
        with pytest.raises(ValueError, match="read-only"):
            known.scores[:] = 0
        assert other.sizes == []
        assert other.cache.flush() == {"v1": HIT}
        for worker in (one, other):
            await worker.cache.close()

    in_time(scenario())
    names = list(client.scan_iter(PATTERN))
    assert names
    assert all(0 < client.pttl(name) <= 60_000 for name in names)
    assert set(client.scan_iter()) == set(names)


def test_several_scores_per_row_come_back_in_their_shape(redis_server: RedisServer, client: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server, Obliging(per_row=3), Task.MULTICLASS)).reached()
        await stocked.kept(1.0, 2.0)
        scores = (await stocked.answer(1.0, 2.0)).scores
        assert scores is not None
        assert scores.tolist() == [[1.5] * 3, [2.5] * 3]
        assert stocked.cache.flush() == {"v1": HIT}
        await stocked.cache.close()

    in_time(scenario())


def test_an_answer_is_gone_after_its_time(redis_server: RedisServer, client: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server, ttl_s=0.05)).reached()
        await stocked.kept(1.0)
        await eventually(lambda: not list(client.scan_iter(PATTERN)))
        await stocked.answer(1.0)
        assert stocked.cache.flush() == {"v1": MISS}
        await stocked.cache.close()

    in_time(scenario())


def test_another_artefact_or_version_is_never_answered_for(redis_server: RedisServer, client: Any) -> None:
    async def scenario() -> None:
        for files, offset in (("0", 0.0), ("1", 5.0), ("0", 0.0)):
            stocked = await (await larder(redis_server, OffBy(offset=offset), files=files)).reached()
            for _ in range(2):
                scores = (await stocked.answer(1.0)).scores
                assert scores is not None
                assert scores.tolist() == [1.5 + offset]
                await stocked.kept(-3.0)
            await stocked.cache.close()

    in_time(scenario())


NAN = np.array([math.nan], dtype=np.float32).tobytes()
POISONS = {
    "empty": lambda key, value: b"",
    "short": lambda key, value: value[:-1],
    "long": lambda key, value: value + b"\0",
    "of more rows": lambda key, value: seal(key, value[16:] * 2),
    "another number": lambda key, value: value[:-1] + bytes([value[-1] ^ 1]),
    "another checksum": lambda key, value: bytes([value[0] ^ 1]) + value[1:],
    "of another key": lambda key, value: seal(b"k" * KEY_BYTES, value[16:]),
    "no number": lambda key, value: seal(key, NAN),
    "text": lambda key, value: "ä" * 10,
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_a_poisoned_value_is_a_miss_and_is_replaced(redis_server: RedisServer, client: Any, poison: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        await stocked.kept(1.0)
        for name in client.scan_iter(PATTERN):
            client.set(name, poison(bytes.fromhex(name.decode().rpartition(":")[2]), client.get(name)))
        scores = (await stocked.answer(1.0)).scores
        assert scores is not None
        assert scores.tolist() == [1.5]
        assert stocked.sizes == [1]
        assert stocked.cache.flush() == {"v1": CacheCounts(misses=1, errors=1)}
        await stocked.kept(-3.0)
        await stocked.answer(1.0)
        assert stocked.cache.flush() == {"v1": HIT}
        await stocked.cache.close()

    in_time(scenario())


def test_a_value_of_another_kind_is_a_miss(redis_server: RedisServer, client: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        await stocked.kept(1.0)
        for name in list(client.scan_iter(PATTERN)):
            client.delete(name)
            client.rpush(name, b"x")
        await stocked.answer(1.0)
        assert stocked.cache.flush() == {"v1": MISS}
        await stocked.cache.close()

    in_time(scenario())


def test_requests_are_answered_while_redis_is_dead_and_kept_again_when_it_is_back(
    redis_server: RedisServer, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_cache, "RETRY_S", 0.05)

    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        await stocked.kept(1.0)
        redis_server.kill()
        answers = await asyncio.gather(*(stocked.answer(1.0) for _ in range(20)))
        assert all(prediction.scores is not None and prediction.scores[0] == 1.5 for prediction in answers)
        assert stocked.cache.flush() == {"v1": CacheCounts(misses=20, errors=20)}
        assert not stocked.cache._reachable
        for _ in range(20):
            await stocked.answer(1.0)
        assert stocked.cache.flush() == {"v1": CacheCounts(misses=20)}
        assert stocked.cache._writes == []
        await asyncio.to_thread(redis_server.start)
        await eventually(lambda: stocked.cache._reachable)
        await stocked.kept(1.0)
        await stocked.answer(1.0)
        assert stocked.cache.flush() == {"v1": HIT}
        await stocked.cache.close()

    with caplog.at_level(logging.INFO, "bentoml.shokado"):
        in_time(scenario())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"], "each change is said once"


def test_a_redis_that_was_never_there_costs_nobody_anything() -> None:
    async def scenario() -> None:
        stocked = await larder("redis://127.0.0.1:1/0")
        for _ in range(5):
            assert (await stocked.answer(1.0)).scores is not None
        assert stocked.cache.flush() == {"v1": CacheCounts(misses=5)}
        await stocked.cache.settle()
        await stocked.cache.close()

    in_time(scenario())


def test_no_password_is_logged(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        for url in ("redis://:hush@127.0.0.1:1/0", redis_server.url.replace("//", "//nobody:hush@")):
            stocked = await larder(url)
            caplog.clear()
            await stocked.answer(1.0)
            await eventually(lambda: caplog.records)
            assert "cannot be used" in caplog.text
            assert "hush" not in caplog.text
            await stocked.cache.close()

    in_time(scenario())


@pytest.fixture
def frozen(redis_server: RedisServer, client: Any) -> Iterator[Any]:
    """Stops the server in its tracks, for as long as the test takes."""
    pid = client.info()["process_id"]
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


def test_requests_wait_for_a_frozen_redis_once(redis_server: RedisServer, frozen: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        frozen()
        answers = await asyncio.gather(*(stocked.answer(float(number)) for number in range(10)))
        assert all(prediction.error is None for prediction in answers)
        assert stocked.cache.flush() == {"v1": CacheCounts(misses=10, errors=10)}
        await stocked.answer(1.0)
        assert stocked.cache.flush() == {"v1": MISS}
        await stocked.cache.close()

    in_time(scenario())


def test_what_happens_while_a_request_is_looked_up_counts(redis_server: RedisServer, frozen: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        frozen()
        left: list[Job] = []
        cancelled = stocked.dispatcher.dispatch(PredictionRequest(packed(1.0), 1), left.append)
        late = asyncio.ensure_future(stocked.answer(1.0, deadline=time.monotonic() + redis_cache.TIMEOUT_S / 10))
        drained = asyncio.ensure_future(stocked.answer(2.0))
        await asyncio.sleep(0)
        cancelled.cancelled = True
        await eventually(lambda: stocked.cache._reachable is False)
        stocked.dispatcher.runners["v1"].state = VersionState.DRAINING
        assert isinstance((await drained).error, NotReady)
        assert isinstance((await late).error, NotReady | DeadlineExceeded)
        assert left == []
        await stocked.cache.close()

    in_time(scenario())


def test_a_deadline_that_passes_while_a_request_is_looked_up_counts(redis_server: RedisServer, frozen: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        frozen()
        late = await stocked.answer(1.0, deadline=time.monotonic() + redis_cache.TIMEOUT_S / 10)
        assert isinstance(late.error, DeadlineExceeded)
        await stocked.cache.close()

    in_time(scenario())


def test_an_answer_that_is_found_too_late_is_not_given(redis_server: RedisServer, client: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        await stocked.kept(1.0)
        deadline = time.monotonic() + 10
        stocked.cache._clock = lambda: deadline
        await stocked.answer(1.0, deadline=deadline)
        assert stocked.cache.flush() == {"v1": MISS}, "the runner decides, whose clock is the right one"
        await stocked.cache.close()

    in_time(scenario())


def test_a_cache_that_has_settled_has_handed_everything_to_the_runners(redis_server: RedisServer, frozen: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        frozen()
        answers = [asyncio.ensure_future(stocked.answer(float(number))) for number in range(5)]
        await asyncio.sleep(0)
        await stocked.cache.settle()
        await stocked.dispatcher.runners["v1"].drain()
        assert [prediction.error for prediction in await asyncio.gather(*answers)] == [None] * 5
        await stocked.cache.close()

    in_time(scenario())


def test_closing_leaves_nobody_without_an_answer(redis_server: RedisServer, frozen: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        frozen()
        waiting = asyncio.ensure_future(stocked.answer(1.0))
        await asyncio.sleep(0)
        await stocked.cache.close()
        assert (await waiting).error is None

    in_time(scenario())


def test_a_full_redis_still_tells_what_it_knows(redis_server: RedisServer, client: Any) -> None:
    async def scenario() -> None:
        stocked = await (await larder(redis_server)).reached()
        await stocked.kept(1.0)
        client.config_set("maxmemory", "1")
        try:
            await stocked.answer(2.0)
            await stocked.answer(-4.0)
            await eventually(lambda: not stocked.cache._writes)
            await stocked.answer(1.0)
            counts = stocked.cache.flush()["v1"]
            assert (counts.hits, counts.misses) == (1, 2)
            assert counts.errors >= 1
            assert stocked.cache._reachable
        finally:
            client.config_set("maxmemory", "0")
        await stocked.cache.close()

    in_time(scenario())


def test_nothing_of_a_request_is_left_to_the_garbage_collector(redis_server: RedisServer, client: Any) -> None:
    async def refusal(stocked: RedisLarder) -> type:
        refused = asyncio.ensure_future(stocked.answer(77.0))
        await asyncio.sleep(0)
        stocked.dispatcher.runners["v1"].state = VersionState.DRAINING
        return type((await refused).error)

    async def scenario() -> None:
        stocked = await (await larder(redis_server, ChokesOnBadRows())).reached()
        with uncollected():
            for number in range(300):
                await asyncio.gather(*(stocked.answer(float((number + more) % 50 - 10)) for more in range(3)))
            assert await refusal(stocked) is NotReady
            # The loop holds the future that woke this task until it has its turn.
            await asyncio.sleep(0)
            assert of_kinds(Job) == []
        assert stocked.cache.flush()["v1"].hits > 500
        await stocked.cache.close()

    in_time(scenario())


KEY = b"k" * KEY_BYTES
finite = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8)


@given(values=finite)
def test_what_was_sealed_is_unsealed(values: list[float]) -> None:
    content = np.array(values, dtype=np.float32).tobytes()
    assert unseal(KEY, seal(KEY, content), len(values)) == content
    assert unseal(KEY, seal(KEY, content), len(values) + 1) is None
    assert unseal(b"x" * KEY_BYTES, seal(KEY, content), len(values)) is None


@given(values=finite, bit=st.integers(0))
def test_no_bit_can_be_changed(values: list[float], bit: int) -> None:
    value = bytearray(seal(KEY, np.array(values, dtype=np.float32).tobytes()))
    bit %= 8 * len(value)
    value[bit // 8] ^= 1 << bit % 8
    assert unseal(KEY, bytes(value), len(values)) is None


@given(value=st.one_of(st.binary(), st.text(), st.none(), st.integers()), count=st.integers(0, 16))
def test_what_was_not_sealed_is_nothing(value: Any, count: int) -> None:
    assert unseal(KEY, value, count) is None
