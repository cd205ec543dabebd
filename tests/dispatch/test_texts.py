"""Requests for a text on their whole way: dispatcher, cache, runner, shadow; and nothing of them is left behind."""

import asyncio
import gc

import numpy as np
import pytest

from configuration.settings import BatchingSettings, CacheBackend, CacheSettings, ShadowSettings, VersionSettings
from runners.artefacts.card import read_card
from runners.batching.job import Job
from runners.engines.engine import open_engine
from runners.runner import Runner
from shokado.dispatch.cache import MemoryCache
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.request import Prediction, PredictionRequest
from shokado.dispatch.shadow import ShadowCopier
from tests.conftest import HOME, prepare
from tests.dispatch.double_runners import routed
from tests.support.garbage import NOISE, of_kinds, uncollected
from tests.support.waiting import eventually, in_time

TEXTS = ["Win a free cruise!!!", "", "see you on monday", "\0", "\u6771\u4eac \U0001f600"]


class Listener:
    def batch(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def _models() -> None:
    prepare("spam")


async def runner(version: str) -> Runner:
    folder = HOME / "models" / "spam" / version
    batching = BatchingSettings(max_batch_rows=16, inline_ms=1000)
    made = Runner(version, read_card(folder), folder, VersionSettings(), batching)
    await made.start(Listener())
    return made


async def answer(dispatcher: Dispatcher, texts: list[str]) -> Prediction:
    answered = asyncio.Event()
    prediction = dispatcher.dispatch(PredictionRequest(texts, len(texts)), lambda _: answered.set())
    await answered.wait()
    return prediction


def test_texts_are_scored_cached_and_shadowed_as_they_are() -> None:
    async def scenario() -> None:
        runners = {version: await runner(version) for version in ("v1", "v2")}
        cache = MemoryCache(CacheSettings(backend=CacheBackend.MEMORY), asyncio.get_running_loop().call_soon)
        dispatcher = routed(runners, shadow="v2", cache=cache)
        copier = ShadowCopier(dispatcher, ShadowSettings(cpu_share=1))
        folder = HOME / "models" / "spam" / "v1"
        engine = open_engine(folder, read_card(folder), VersionSettings().engine)
        many = TEXTS * 20
        for texts in (TEXTS, ["ab"], ["a", "b"], TEXTS, many):
            prediction = await answer(dispatcher, texts)
            assert prediction.scores is not None
            expected = engine.predict(np.array(texts, dtype=object).reshape(-1, 1))
            np.testing.assert_allclose(prediction.scores, expected, rtol=0, atol=1e-6)
            copier.answered(prediction.version, [prediction])
        counts = cache.flush()["v1"]
        # A hundred texts are too many to be kept.
        assert (counts.hits, counts.misses, counts.errors) == (1, 3, 0)
        await eventually(lambda: copier._task is None or copier._task.done())
        (compared,) = copier.flush().values()
        assert compared.shadow_rows == 2 * len(TEXTS) + 3 + len(many)
        assert compared.shadow_difference_max > 0
        for made in runners.values():
            await made.drain()

    in_time(scenario())


def test_nothing_of_a_text_is_left_to_the_garbage_collector() -> None:
    async def scenario() -> int:
        runners = {version: await runner(version) for version in ("v1", "v2")}
        dispatcher = routed(runners, shadow="v2")
        copier = ShadowCopier(dispatcher, ShadowSettings(cpu_share=1))
        with uncollected():
            for times in range(3 * NOISE):
                copier.answered("v1", [await answer(dispatcher, [f"message {times}", "win"])])
            await eventually(lambda: copier._task is None or copier._task.done())
            assert of_kinds(Job) == []
            return gc.collect()

    assert in_time(scenario()) < NOISE
