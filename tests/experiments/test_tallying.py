"""Tallying: what was counted gets into the store, once, and waits while the store is away."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from configuration.settings import Settings
from shokado.dispatch.fault import FELL_BACK, Fault
from shokado.dispatch.observers import Failure
from shokado.dispatch.shadow import Pair, ShadowCounts
from shokado.experiments.figures import Counted
from shokado.experiments.tallying import Tallying
from shokado.stores.store import Tally
from tests.experiments.following import break_store, following, store_in
from tests.support.predictions import prediction_of

NOW = 1_790_000_000.0
SETTINGS = Settings.model_validate(
    {
        "model": "paper",
        "versions": {"v1": {}},
        "environments": {"production": {"active": "v1", "weights": {"v1": 1}}},
    }
)
FAILED = Tally("v1", "", Counted.FAILED)


def tally(folder: Path, scenario: Callable[[Tallying], Awaitable[None]]) -> None:
    async def run() -> None:
        async with following(folder, SETTINGS) as follower:
            await scenario(Tallying(follower, on_time_s=0.05, clock=lambda: NOW))

    asyncio.run(run())


def stored(folder: Path) -> dict[Tally, float]:
    store = store_in(folder)
    found = {counted: value for (_, counted), value in store.tallies(0).items()}
    store.close()
    return found


def fail(tallying: Tallying, times: int) -> None:
    tallying.failed([Failure(None, "v1", FELL_BACK)] * times)


def test_what_was_counted_is_added_once(tmp_path: Path) -> None:
    async def scenario(tallying: Tallying) -> None:
        fail(tallying, 3)
        await tallying.add()
        await tallying.add()
        fail(tallying, 2)
        await tallying.add()

    tally(tmp_path, scenario)
    assert stored(tmp_path) == {FAILED: 5.0}


def test_what_could_not_be_added_is_added_later(tmp_path: Path) -> None:
    async def scenario(tallying: Tallying) -> None:
        break_store(tmp_path)
        for number in (1, 2):
            fail(tallying, number)
            await tallying.add()
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        fail(tallying, 4)
        await tallying.add()

    tally(tmp_path, scenario)
    assert stored(tmp_path) == {FAILED: 7.0}


def test_endings_are_tallied_by_version_over_all_environments(tmp_path: Path) -> None:
    async def scenario(tallying: Tallying) -> None:
        tallying.answered("v1", [prediction_of(rows=rows, latency_s=s) for rows, s in ((3, 0.01), (1, 0.05), (1, 0.2))])
        tallying.failed(
            [
                Failure(prediction_of("v2"), "v2", "overloaded"),
                Failure(prediction_of("v2"), "v2", "unknown_output", Fault.CLIENT),
                Failure(None, None, "malformed_body", Fault.CLIENT),
                Failure(None, None, "overloaded"),
            ]
        )
        await tallying.add()

    tally(tmp_path, scenario)
    assert stored(tmp_path) == {
        Tally("v1", "", "requests"): 3.0,
        Tally("v1", "", "rows"): 5.0,
        Tally("v1", "", "on_time"): 2.0,
        Tally("v2", "", "failed"): 1.0,
    }


def test_comparisons_are_tallied_for_the_shadow_in_its_environment(tmp_path: Path) -> None:
    async def scenario(tallying: Tallying) -> None:
        for _ in range(2):
            tallying.compared(Pair("production", "v1", "v2"), ShadowCounts(4, 1, 0.5, 0.25, 3, 2))
        await tallying.add()

    tally(tmp_path, scenario)
    assert stored(tmp_path) == {
        Tally("v2", "production", "shadow_rows"): 8.0,
        Tally("v2", "production", "shadow_disagreements"): 2.0,
        Tally("v2", "production", "shadow_difference_sum"): 1.0,
        Tally("v2", "production", "shadow_dropped_rows"): 6.0,
    }
