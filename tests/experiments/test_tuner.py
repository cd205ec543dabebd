"""The tuner: it moves weighted splits on the store's evidence, and tells the history why."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.experiment_policy import ExperimentMetric, Guardrail
from configuration.settings import Settings
from shokado.dispatch.change import KnownVersions, SplitChange, with_split
from shokado.dispatch.state import RoutingState
from shokado.experiments.figures import Counted
from shokado.experiments.thompson import Evidence
from shokado.experiments.tuner import Tuner, explain
from shokado.stores.follower import Follower
from shokado.stores.store import Action, Entry, StoreUnavailable, Tally
from tests.dispatch.shares import environment
from tests.experiments.following import break_store, following, store_in
from tests.support.settings import paper_settings

NOW = 1_790_000_000.0
READY = KnownVersions({"v1": "ready", "v2": "ready", "v3": "ready"}, {})
EVIDENCE = {"v1": (1000, 300), "v2": (1000, 500)}


def guarded() -> Settings:
    """The same, with a limit of errors."""
    weighted = settings().weighted.model_copy(
        update={"guardrails": (Guardrail(metric=ExperimentMetric.ERROR_RATE, limit=0.02),)}
    )
    return settings().model_copy(update={"weighted": weighted})


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

    async def answer(self, **given: tuple[float, float]) -> None:
        """Tell the store of (answers, errors) per version."""
        counts: dict[Tally, float] = {}
        for version, (answers, failed) in given.items():
            counts[Tally(version, "", Counted.REQUESTS)] = counts[Tally(version, "", Counted.ON_TIME)] = answers
            counts[Tally(version, "", Counted.FAILED)] = failed
        await self.follower.ask(self.follower.store.add, counts, NOW)


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


def test_a_store_that_is_away_is_told_to_whoever_repeats_updates(tmp_path: Path) -> None:
    async def scenario(worker: Worker) -> None:
        await worker.reward()
        break_store(tmp_path)
        with pytest.raises(StoreUnavailable):
            await worker.tuner.update()
        assert worker.state.generation == 1

    worker(scenario, tmp_path)


def test_a_version_past_a_limit_has_the_least_at_once_and_the_history_says_why(tmp_path: Path) -> None:
    async def scenario(worker: Worker) -> None:
        await worker.reward({"v1": (1000, 300), "v2": (1000, 900)})
        await worker.answer(v1=(5000, 5), v2=(900, 100))
        await worker.tuner.update()
        assert worker.shares == pytest.approx({"v1": 0.95, "v2": 0.05})
        newest = await worker.follower.ask(worker.follower.store.read)
        assert newest is not None
        why = "v2 has its least share for error_rate 0.1 of 1,000 requests (at most 0.02), found at 14:13 UTC"
        assert newest.why == why
        assert worker.tuner.past["production"].keys() == {"v2"}
        await worker.tuner.update()
        assert worker.state.generation == 2

    worker(scenario, tmp_path, guarded())


def test_versions_that_are_all_past_a_limit_keep_their_shares_and_that_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(worker: Worker) -> None:
        await worker.reward()
        await worker.answer(v1=(5000, 5000), v2=(900, 100))
        for _ in range(3):
            await worker.tuner.update()
        assert worker.state.generation == 1

    worker(scenario, tmp_path, guarded())
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 1
    assert logged[0].startswith("the split of environment production stays, as all of its versions are past a limit: ")
    assert "v1: error_rate 0.5 of 10,000" in logged[0]
    assert "v2: error_rate 0.1 of 1,000" in logged[0]


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


def test_who_is_past_a_limit_is_not_compared() -> None:
    split = environment({"v1": 1, "v2": 1, "v3": 1})
    said = explain(split, {version: errors(10, 25) for version in ("v1", "v2", "v3")}, {"v2": "slow_share 0.4"})
    assert said == "v2 has its least share for slow_share 0.4; v1 2.5 against v3 2.5 by squared error"
