"""The answer cache in memory, between a real dispatcher and real runners."""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configuration.settings import CacheBackend, CacheSettings, Settings
from runners.artefacts.card import Task
from runners.batching.job import Job
from runners.errors import DeadlineExceeded, ModelFailure, NotReady
from runners.version_state import VersionState
from shokado.dispatch.cache import ENTRY_BYTES, CacheCounts, MemoryCache
from shokado.dispatch.opening_cache import open_cache
from shokado.dispatch.redis_cache import RedisCache
from shokado.dispatch.request import PredictionRequest
from tests.dispatch.double_runners import DoubleRunner, Larder, OffBy, answer, packed, routed, started
from tests.runners.engine_doubles import ChokesOnBadRows, Obliging
from tests.support.clock import HandClock
from tests.support.garbage import NOISE, of_kinds, uncollected
from tests.support.waiting import in_time

HIT, MISS = CacheCounts(hits=1), CacheCounts(misses=1)


@dataclass
class MemoryLarder(Larder[MemoryCache]):
    """Over v1 and v2, which score differently."""

    clock: HandClock

    async def counts_of(self, *values: float, **asked: Any) -> CacheCounts:
        """What one request counts as."""
        self.cache.flush()
        version = (await self.answer(*values, **asked)).version
        return self.cache.flush().get(version, CacheCounts())


async def larder(v1: Any = None, task: Task = Task.BINARY, **settings: Any) -> MemoryLarder:
    engine = v1 or Obliging()
    runners = await started(DoubleRunner("v1", engine, task), DoubleRunner("v2", OffBy(engine.per_row, offset=1), task))
    clock = HandClock()
    cache = MemoryCache(CacheSettings(**settings), asyncio.get_running_loop().call_soon, clock)
    engine.sizes.clear()
    return MemoryLarder(routed(runners, cache=cache), cache, engine.sizes, clock)


def test_the_same_rows_are_answered_without_the_engine() -> None:
    async def scenario() -> None:
        stocked = await larder()
        computed, known = [await stocked.answer(1.0, 2.0) for _ in range(2)]
        assert stocked.sizes == [2]
        assert computed.scores is not None
        assert known.scores is not None
        assert known.scores.tolist() == computed.scores.tolist() == [1.5, 2.5]
        assert known.scores.dtype == np.float32
        assert (computed.cached, known.cached) == (False, True)
        assert stocked.cache.flush() == {"v1": CacheCounts(hits=1, misses=1)}
        assert stocked.cache.flush() == {}

    in_time(scenario())


@pytest.mark.parametrize("rows", [1, 2])
def test_several_scores_per_row_come_back_in_their_shape(rows: int) -> None:
    async def scenario() -> None:
        stocked = await larder(Obliging(per_row=3), Task.MULTICLASS)
        values = list(map(float, range(rows)))
        for _ in range(2):
            scores = (await stocked.answer(*values)).scores
            assert scores is not None
            assert scores.tolist() == [[value + 0.5] * 3 for value in values]
        assert stocked.sizes == [rows]

    in_time(scenario())


def test_nobody_can_write_into_what_others_are_given() -> None:
    async def scenario() -> None:
        stocked = await larder()
        first = (await stocked.answer(1.0)).scores
        assert first is not None
        first[:] = 9.0
        known = (await stocked.answer(1.0)).scores
        assert known is not None
        with pytest.raises(ValueError, match="read-only"):
            known[:] = 9.0
        assert known.tolist() == [1.5]

    in_time(scenario())


def test_an_answer_is_kept_for_its_time_from_when_it_was_computed() -> None:
    async def scenario() -> None:
        stocked = await larder(ttl_s=10)
        assert await stocked.counts_of(1.0) == MISS
        stocked.clock.advance(9.9)
        assert await stocked.counts_of(1.0) == HIT
        stocked.clock.advance(0.1)
        assert await stocked.counts_of(1.0) == MISS
        stocked.clock.advance(9.9)
        assert await stocked.counts_of(1.0) == HIT

    in_time(scenario())


def test_a_request_with_more_rows_is_neither_looked_up_nor_kept() -> None:
    async def scenario() -> None:
        stocked = await larder(max_rows=2)
        for _ in range(2):
            assert await stocked.counts_of(1.0, 2.0, 3.0) == CacheCounts()
        assert stocked.sizes == [3, 3]

    in_time(scenario())


def test_another_artefact_under_the_same_name_begins_with_nothing() -> None:
    async def scenario() -> None:
        stocked = await larder()
        await stocked.answer(1.0)
        for files, offset, counts in (("0", 0.0, HIT), ("1", 5.0, MISS), ("0", 0.0, HIT)):
            runners = await started(DoubleRunner("v1", OffBy(offset=offset), files=files))
            stocked.dispatcher.adopt(stocked.dispatcher.state, runners)
            assert await stocked.counts_of(1.0) == counts
            scores = (await stocked.answer(1.0)).scores
            assert scores is not None
            assert scores.tolist() == [1.5 + offset]

    in_time(scenario())


def test_two_imports_of_one_artefact_share_their_answers() -> None:
    """Their examples' last bits may differ, as those depend on the processor."""

    async def scenario() -> None:
        stocked = await larder()
        await stocked.answer(1.0)
        runners = await started(DoubleRunner("v1", OffBy(offset=1e-6)))
        stocked.dispatcher.adopt(stocked.dispatcher.state, runners)
        assert await stocked.counts_of(1.0) == HIT

    in_time(scenario())


def test_what_failed_is_not_kept() -> None:
    async def scenario() -> None:
        stocked = await larder(ChokesOnBadRows())
        for _ in range(2):
            failed = await stocked.answer(1.0, -1.0)
            assert isinstance(failed.error, ModelFailure)
            assert failed.error.row == 1
        assert stocked.sizes.count(2) == 2
        assert stocked.cache.flush() == {"v1": CacheCounts(misses=2)}

    in_time(scenario())


def test_a_request_that_failed_after_some_of_its_rows_were_scored_is_not_kept() -> None:
    async def scenario() -> None:
        stocked = await larder(ChokesOnBadRows(), max_rows=1000)
        for _ in range(2):
            failed = await stocked.answer(*[1.0] * 200, -1.0)
            assert failed.scores is not None
            assert isinstance(failed.error, ModelFailure)
        assert stocked.cache.flush() == {"v1": CacheCounts(misses=2)}

    in_time(scenario())


def test_a_runner_that_is_not_ready_refuses_even_what_is_known() -> None:
    async def scenario() -> None:
        stocked = await larder()
        await stocked.answer(1.0, version="v1")
        stocked.dispatcher.runners["v1"].state = VersionState.DRAINING
        with pytest.raises(NotReady, match="v1 is draining"):
            await stocked.answer(1.0, version="v1")

    in_time(scenario())


def test_a_request_that_is_too_late_is_refused_even_if_its_answer_is_known() -> None:
    async def scenario() -> None:
        stocked = await larder()
        stocked.clock.now = time.monotonic()
        await stocked.answer(1.0, deadline=inf)
        with pytest.raises(DeadlineExceeded):
            await stocked.answer(1.0, deadline=stocked.clock.now)
        assert await stocked.counts_of(1.0, deadline=stocked.clock.now + 60) == HIT

    in_time(scenario())


def test_a_request_that_was_cancelled_is_not_answered() -> None:
    async def scenario() -> None:
        stocked = await larder()
        await stocked.answer(1.0)
        answers: list[Job] = []
        for value in (1.0, 2.0):
            prediction = stocked.dispatcher.dispatch(PredictionRequest(packed(value), 1), answers.append)
            prediction.cancelled = True
        await stocked.answer(3.0)
        assert answers == []
        assert await stocked.counts_of(2.0) == MISS

    in_time(scenario())


def test_concurrent_requests_for_the_same_rows_are_each_answered() -> None:
    async def scenario() -> None:
        stocked = await larder()
        predictions = await asyncio.gather(*(stocked.answer(1.0) for _ in range(10)))
        assert all(prediction.scores is not None and prediction.scores[0] == 1.5 for prediction in predictions)
        assert stocked.cache.flush() == {"v1": CacheCounts(misses=10)}
        assert await stocked.counts_of(1.0) == HIT

    in_time(scenario())


def test_what_was_used_last_stays() -> None:
    async def scenario() -> None:
        stocked = await larder(max_bytes=3 * (ENTRY_BYTES + 4) + 4)
        for value in (1.0, 2.0, 3.0):
            await stocked.answer(value)
        assert await stocked.counts_of(1.0) == HIT
        assert await stocked.counts_of(4.0) == MISS
        assert [await stocked.counts_of(value) for value in (1.0, 3.0, 4.0)] == [HIT] * 3
        assert await stocked.counts_of(2.0) == MISS

    in_time(scenario())


def test_an_answer_that_is_kept_again_takes_its_room_once() -> None:
    async def scenario() -> None:
        stocked = await larder(max_bytes=3 * (ENTRY_BYTES + 4))
        await stocked.answer(1.0)
        await asyncio.gather(*(stocked.answer(2.0) for _ in range(10)))
        assert await stocked.counts_of(1.0) == HIT

    in_time(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 16])
def test_the_bound_is_the_memory_that_is_really_taken(rows: int) -> None:
    bound = 2**20

    async def scenario() -> list[int]:
        stocked = await larder(max_bytes=bound)
        taken = []
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(3 * bound // (ENTRY_BYTES + 4 * rows)):
            await stocked.answer(*[float(number)] * rows)
            if number % 500 == 0:
                taken.append(tracemalloc.get_traced_memory()[0] - before)
        tracemalloc.stop()
        assert await stocked.counts_of(*[float(number)] * rows) == HIT
        return taken

    taken = in_time(scenario())
    assert max(taken) < 1.2 * bound
    assert taken[-1] > 0.6 * bound


requests = st.tuples(
    st.sampled_from(["v1", "v2"]),
    st.sampled_from("01"),
    st.lists(st.sampled_from([0.0, -0.0, 1.0]), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.0, 6.0]),
)


@settings(max_examples=60)
@given(asked=st.lists(requests, max_size=30))
def test_no_order_of_requests_brings_an_answer_of_other_rows_or_another_artefact(asked: list[Any]) -> None:
    offsets = {("v1", "0"): 0.0, ("v1", "1"): 10.0, ("v2", "0"): 20.0, ("v2", "1"): 30.0}

    async def scenario() -> None:
        served = {
            (version, files): DoubleRunner(version, OffBy(offset=offset), files=files)
            for (version, files), offset in offsets.items()
        }
        await started(*served.values())
        clock = HandClock()
        # Room for three or four answers only.
        cache = MemoryCache(
            CacheSettings(max_bytes=1400, ttl_s=10, max_rows=2), asyncio.get_running_loop().call_soon, clock
        )
        dispatcher = routed({}, cache=cache)
        for version, files, values, seconds in asked:
            clock.advance(seconds)
            other = "v2" if version == "v1" else "v1"
            runners = {version: served[version, files], other: served[other, "0"]}
            dispatcher.adopt(dispatcher.state, runners)
            scores = (await answer(dispatcher, *values, version=version)).scores
            assert scores is not None
            assert scores.tolist() == [value + 0.5 + offsets[version, files] for value in values]

    in_time(scenario())


def test_nothing_of_a_request_is_left_to_the_garbage_collector() -> None:
    async def scenario() -> int:
        stocked = await larder(ChokesOnBadRows(), max_bytes=10_000)
        with uncollected():
            for number in range(2000):
                await stocked.answer(float(number % 100 - 50))
            stocked.dispatcher.runners["v1"].state = VersionState.DRAINING
            for _ in range(2 * NOISE):
                with pytest.raises(NotReady):
                    await stocked.answer(1.0, version="v1")
            assert of_kinds(Job) == []
            return gc.collect()

    assert in_time(scenario()) < NOISE


def settings_with(backend: CacheBackend, **given: Any) -> Settings:
    content: dict[str, Any] = {
        "model": "customers",
        "versions": {"v1": {}},
        "environments": {"production": {"active": "v1", "weights": {"v1": 1}}},
        "store": "redis://store:6379/0",
        "cache": {"backend": backend, **given},
    }
    return Settings(**content)


def test_the_settings_say_which_cache_there_is() -> None:
    def call_soon(callback: Callable[[], None]) -> None:
        """Is not called here."""

    assert open_cache(settings_with(CacheBackend.OFF), call_soon) is None
    assert isinstance(open_cache(settings_with(CacheBackend.MEMORY), call_soon), MemoryCache)
    opened = open_cache(settings_with(CacheBackend.REDIS, url="redis://elsewhere:1/0"), call_soon)
    assert isinstance(opened, RedisCache)
    assert opened._redis.connection_pool.connection_kwargs["host"] == "elsewhere"


def test_a_closed_cache_holds_nothing() -> None:
    async def scenario() -> None:
        stocked = await larder()
        await stocked.answer(1.0)
        await stocked.cache.settle()
        await stocked.cache.close()
        assert await stocked.counts_of(1.0) == MISS

    in_time(scenario())
