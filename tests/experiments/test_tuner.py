"""The tuner: it moves weighted splits on the store's evidence, tells the history why, and never stops trying."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.settings import Settings
from shokado.dispatch.change import KnownVersions, SplitChange, with_split
from shokado.dispatch.state import RoutingState
from shokado.experiments.figures import Counted
from shokado.experiments.thompson import Evidence
from shokado.experiments.tuner import Tuner, explain
from shokado.stores.follower import Follower
from shokado.stores.store import Action, Entry, Tally
from tests.dispatch.shares import environment
from tests.experiments.following import break_store, following, store_in
from tests.support.settings import paper_settings

NOW = 1_790_000_000.0
READY = KnownVersions({"v1": "ready", "v2": "ready", "v3": "ready"}, {})
EVIDENCE = {"v1": (1000, 300), "v2": (1000, 500)}


def settings(**environments: Mapping[str, Any]) -> Settings:
    """Of a server with three versions; production is tuned, unless it is told otherwise."""
    production = {"active": "v1", "weights": {"v1": 80, "v2": 20, "v3": 0}, "strategy": "weighted"}
    return paper_settings(
        versions={"v1": {}, "v2": {}, "v3": {}},
        environments={"production": production} | environments,
        weighted={"update_every_s": 0.1},
    )


async def leading() -> bool:
    return True


@dataclass
class Worker:
    """A follower of a store of its own, and its tuner."""

    follower: Follower
    tuner: Tuner

    @property
    def state(self) -> RoutingState:
        assert self.follower.state is not None
        return self.follower.state

    @property
    def shares(self) -> Mapping[str, float]:
        return self.state.environments["production"].shares

    async def reward(
        self, given: Mapping[str, tuple[float, float]] = EVIDENCE, name: str = "production", age_s: float = 0
    ) -> None:
        """Tell the store of (number, sum) of rewards per version."""
        counts: dict[Tally, float] = {}
        for version, (number, total) in given.items():
            counts[Tally(version, name, Counted.REWARDS)] = number
            counts[Tally(version, name, Counted.REWARD_SUM)] = total
        await self.follower.ask(self.follower.store.add, counts, NOW - age_s)


def answering(versions: KnownVersions) -> Callable[[], Awaitable[KnownVersions]]:
    async def answer() -> KnownVersions:
        return versions

    return answer


def worker(scenario: Callable[[Worker], Any], folder: Path, configured: Settings | None = None, **parts: Any) -> None:
    """Run the scenario."""
    configured = configured or settings()

    async def run() -> None:
        async with following(folder, configured) as follower:
            given = {"leads": leading, "versions": answering(READY)} | parts
            tuner = Tuner(follower, settings=configured, random=np.random.default_rng(5), clock=lambda: NOW, **given)
            await scenario(Worker(follower, tuner))

    asyncio.run(asyncio.wait_for(run(), 60))


def test_an_update_moves_the_split_and_says_why_in_the_history(tmp_path: Path) -> None:
    async def scenario(worker: Worker) -> None:
        await worker.reward()
        await worker.tuner.update()
        assert worker.shares == pytest.approx({"v1": 0.7, "v2": 0.3})
        assert dict(worker.state.environments["production"].weights)["v3"] == 0
        newest = await worker.follower.ask(worker.follower.store.read)
        assert newest is not None
        assert (newest.generation, newest.by, newest.action) == (2, "shokado", Action.WEIGHTED)
        assert newest.why == "v2 0.5 against v1 0.3 by reward"

    worker(scenario, tmp_path)


def test_updates_go_on_until_the_minimum_is_reached(tmp_path: Path) -> None:
    async def scenario(worker: Worker) -> None:
        await worker.reward()
        for _ in range(12):
            await worker.tuner.update()
        assert worker.shares == pytest.approx({"v1": 0.05, "v2": 0.95})
        assert worker.state.generation == 9

    worker(scenario, tmp_path)


def test_environments_are_tuned_by_their_own_feedback_in_one_round(tmp_path: Path) -> None:
    staging = {"active": "v2", "weights": {"v2": 50, "v3": 50}, "strategy": "weighted"}

    async def scenario(worker: Worker) -> None:
        await worker.reward()
        await worker.reward({"v2": (500, 400), "v3": (500, 100)}, "staging")
        await worker.tuner.update()
        assert worker.shares == pytest.approx({"v1": 0.7, "v2": 0.3})
        assert worker.state.environments["staging"].shares == pytest.approx({"v2": 0.6, "v3": 0.4})
        assert worker.state.generation == 3

    worker(scenario, tmp_path, settings(staging=staging))


@pytest.mark.parametrize(
    "changed", [{"strategy": "random"}, {"strategy": "hash"}, {"enabled": False}, {"weights": {"v1": 0, "v2": 3}}]
)
def test_an_environment_that_is_not_to_be_tuned_is_left_alone(tmp_path: Path, changed: dict[str, Any]) -> None:
    async def unasked() -> bool:
        raise AssertionError("nobody needs to know")

    async def scenario(worker: Worker) -> None:
        await worker.reward()
        await worker.tuner.update()
        assert worker.state.generation == 1

    production = {"active": "v1", "weights": {"v1": 80, "v2": 20}, "strategy": "weighted"} | changed
    worker(scenario, tmp_path, settings(production=production), leads=unasked)


def test_only_the_worker_that_leads_tunes(tmp_path: Path) -> None:
    async def following_another() -> bool:
        return False

    async def scenario(worker: Worker) -> None:
        await worker.reward()
        await worker.tuner.update()
        assert worker.state.generation == 1

    worker(scenario, tmp_path, leads=following_another)


def test_nothing_moves_without_evidence_or_by_what_is_older_than_ten_half_lives(tmp_path: Path) -> None:
    async def scenario(worker: Worker) -> None:
        await worker.tuner.update()
        await worker.reward(age_s=10 * 3600 + 120)
        await worker.tuner.update()
        assert worker.state.generation == 1

    worker(scenario, tmp_path)


def test_a_change_by_somebody_else_in_the_meantime_stands(tmp_path: Path) -> None:
    """The other worker is faster by as little as can be: it writes while the tuner makes its change."""
    other = store_in(tmp_path)

    async def versions() -> KnownVersions:
        newest = other.read()
        assert newest is not None
        state = with_split(newest.state, "production", SplitChange(weights={"v1": 1, "v3": 1}), READY)
        other.append(Entry(state, NOW, "ann", Action.SPLIT, "", "another"), newest.generation)
        return READY

    async def scenario(worker: Worker) -> None:
        await worker.reward()
        await worker.tuner.update()
        assert [entry.by for entry in other.history(10)] == ["ann", "configuration"]

    worker(scenario, tmp_path, versions=versions)
    other.close()


def test_a_change_that_this_worker_has_not_heard_of_yet_stands(tmp_path: Path) -> None:
    other = store_in(tmp_path)

    async def scenario(worker: Worker) -> None:
        await worker.reward()
        known = worker.follower.entry
        assert known is not None
        state = with_split(known.state, "production", SplitChange(weights={"v1": 1, "v3": 1}), READY)
        other.append(Entry(state, NOW, "ann", Action.SPLIT, "", "another"), known.generation)
        await worker.tuner.update()
        assert [entry.by for entry in other.history(10)] == ["ann", "configuration"]

    worker(scenario, tmp_path)
    other.close()


def test_a_split_with_a_version_that_is_not_ready_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(worker: Worker) -> None:
        await worker.reward()
        with caplog.at_level(logging.INFO):
            await worker.tuner.update()
        assert worker.state.generation == 1
        assert "environment production was not updated: version v2 is failed" in caplog.text

    worker(scenario, tmp_path, versions=answering(KnownVersions({"v1": "ready", "v2": "failed", "v3": "ready"}, {})))


def test_a_store_that_is_away_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(worker: Worker) -> None:
        await worker.reward()
        break_store(tmp_path)
        await worker.tuner.update()
        assert worker.state.generation == 1

    worker(scenario, tmp_path)
    assert not [record for record in caplog.records if record.name == "bentoml.shokado"]


@dataclass
class FailingAtFirst:
    """Says that this worker leads, after having been broken once."""

    asked: int = 0
    led: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> bool:
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("something nobody thought of")
        self.led.set()
        return True


def test_it_runs_until_it_is_cancelled_whatever_happens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leads = FailingAtFirst()

    async def scenario(worker: Worker) -> None:
        await worker.reward()
        running = asyncio.create_task(worker.tuner.run())
        await leads.led.wait()
        while worker.state.generation == 1:
            await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert worker.state.environments["production"].shares["v2"] > 0.2

    worker(scenario, tmp_path, leads=leads)
    assert "something nobody thought of" in caplog.text


def errors(number: float, total: float) -> dict[str, float]:
    return {Counted.VALUE_LABELS: number, Counted.SQUARED_ERROR: total}


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (
            {"v1": {Counted.REWARDS: 50.0, Counted.REWARD_SUM: 20.0}},
            "v1 0.4 against v2 unobserved and v3 unobserved by reward",
        ),
        (
            {"v1": errors(10, 25), "v2": errors(10, 12), "v3": errors(10, 1234)},
            "v2 1.2 against v1 2.5 and v3 123 by squared error",
        ),
        (
            {"v2": {Counted.CLASS_LABELS: 3.0, Counted.CORRECT: 2.0}, "v1": {Counted.CLASS_LABELS: 4.0}},
            "v2 0.667 against v1 0 and v3 unobserved by accuracy",
        ),
        (
            {"v3": {Counted.REQUESTS: 99.0, Counted.ON_TIME: 99.0, Counted.FAILED: 1.0}},
            "v3 0.99 against v1 unobserved and v2 unobserved by answers on time",
        ),
        ({}, ""),
    ],
)
def test_the_history_reads_well(evidence: Evidence, expected: str) -> None:
    assert explain(environment({"v1": 1, "v2": 1, "v3": 1}), evidence) == expected
