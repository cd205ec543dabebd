"""Tallying: what was counted gets into the store, once, and waits while the store is away."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from configuration.settings import Settings
from shokado.experiments.figures import Counted
from shokado.experiments.tallying import Tallying, tallies_of
from shokado.monitoring.metrics import Outcomes
from shokado.stores.store import Tally
from tests.experiments.following import break_store, following, store_in

NOW = 1_790_000_000.0
SETTINGS = Settings.model_validate(
    {
        "model": "paper",
        "versions": {"v1": {}},
        "environments": {"production": {"active": "v1", "weights": {"v1": 1}}},
    }
)
REQUESTS = Tally("v1", "", Counted.REQUESTS)


class Counter:
    """Hands over what was counted since it was last asked."""

    def __init__(self) -> None:
        self.counts: dict[Tally, float] = {}

    def take(self) -> dict[Tally, float]:
        taken, self.counts = self.counts, {}
        return taken


def tally(folder: Path, scenario: Callable[[Counter, Tallying], Awaitable[None]]) -> None:
    async def run() -> None:
        counter = Counter()
        async with following(folder, SETTINGS) as follower:
            await scenario(counter, Tallying(follower, counter.take, clock=lambda: NOW))

    asyncio.run(run())


def stored(folder: Path) -> dict[Tally, float]:
    store = store_in(folder)
    found = {counted: value for (_, counted), value in store.tallies(0).items()}
    store.close()
    return found


def test_what_was_counted_is_added_once(tmp_path: Path) -> None:
    async def scenario(counter: Counter, tallying: Tallying) -> None:
        counter.counts = {REQUESTS: 3.0}
        await tallying.add()
        await tallying.add()
        counter.counts = {REQUESTS: 2.0}
        await tallying.add()

    tally(tmp_path, scenario)
    assert stored(tmp_path) == {REQUESTS: 5.0}


def test_what_could_not_be_added_is_added_later(tmp_path: Path) -> None:
    async def scenario(counter: Counter, tallying: Tallying) -> None:
        break_store(tmp_path)
        for number in (1.0, 2.0):
            counter.counts = {REQUESTS: number}
            await tallying.add()
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        counter.counts = {REQUESTS: 4.0}
        await tallying.add()

    tally(tmp_path, scenario)
    assert stored(tmp_path) == {REQUESTS: 7.0}


def test_outcomes_are_tallied_by_version_over_all_environments() -> None:
    outcomes = {"v1": Outcomes(requests=3, rows=5, on_time=2, failed=0), "v2": Outcomes(failed=1)}
    assert tallies_of(outcomes) == {
        Tally("v1", "", "requests"): 3.0,
        Tally("v1", "", "rows"): 5.0,
        Tally("v1", "", "on_time"): 2.0,
        Tally("v2", "", "failed"): 1.0,
    }
