"""The evidence counter: what a worker answers and fails counts for an experiment once, and for the right version."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from configuration.settings import Strategy
from shokado.dispatch.experiment import CountedStage, Experiment, ExperimentStage
from shokado.dispatch.fault import FELL_BACK, Fault
from shokado.dispatch.observers import Failure
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from shokado.dispatch.state import Environment, RoutingState
from shokado.experiments import evidence_counter
from shokado.experiments.evidence_counter import EvidenceCounter
from tests.experiments.following import break_store, following, store_in
from tests.experiments.test_tallying import SETTINGS
from tests.support.cards import toy_card
from tests.support.clock import HandClock

NOW = 1_790_000_000.0
PLAN = ExperimentPlan(metric=ExperimentMetric.LATENCY, smallest_effect=1, max_duration_s=2000)
EXPERIMENT = Experiment("e1", "v1", ("v2",), PLAN, NOW, (ExperimentStage(7, {"v1": 0.5, "v2": 0.5}, is_sticky=False),))
STICKY = replace(EXPERIMENT, stages=(ExperimentStage(7, {"v1": 0.5, "v2": 0.5}, is_sticky=True),))
CARD = toy_card()


def routing(experiment: Experiment | None) -> RoutingState:
    strategy = Strategy.HASH if experiment is STICKY else Strategy.RANDOM
    environment = Environment("production", "v1", {"v1": 1, "v2": 1}, strategy, experiment=experiment)
    return RoutingState(9, {"production": environment}, "production")


def ended(
    version: str = "v1",
    unit: str = "u",
    reason: Reason = Reason.SPLIT,
    passed_over: str = "",
    latency_s: float = 0.5,
    experiment: Experiment | None = EXPERIMENT,
) -> Prediction:
    stage = CountedStage(experiment) if experiment is not None else None
    made = Prediction(
        b"\0" * 8, 1, lambda _: None, origin=Origin(version, "production", 9, CARD, stage), reason=reason, unit=unit
    )
    made.scores = np.array([0.5], np.float32)
    made.latency_s, made.passed_over = latency_s, passed_over
    return made


def count(
    folder: Path,
    scenario: Callable[[EvidenceCounter], Awaitable[Any]],
    experiment: Experiment | None = EXPERIMENT,
    clock: Callable[[], float] = lambda: NOW,
) -> None:
    async def run() -> None:
        async with following(folder, SETTINGS) as follower:
            counter = EvidenceCounter(follower, "w1", slow_ms=400, clock=clock)
            counter.adopt(routing(experiment))
            await scenario(counter)

    asyncio.run(run())


def stored(folder: Path, before: float = NOW + 1e6) -> dict[str, dict[str, float]]:
    """By version and name; all of stage 7."""
    store = store_in(folder)
    found: dict[str, dict[str, float]] = {}
    for (stage, version, name), value in store.evidence("e1", before).sums.items():
        assert stage == 7
        found.setdefault(version, {})[name] = value
    store.close()
    return found


def answers(number: int, **given: float) -> dict[str, float]:
    """What so many answers within half a second each add."""
    counts = dict.fromkeys(("assigned", "requests", "latency.count", "slow"), float(number))
    return counts | {"latency.sum": number * 500.0, "latency.squares": number * 250_000.0} | given


def test_each_request_counts_where_units_have_no_version(tmp_path: Path) -> None:
    async def scenario(counter: EvidenceCounter) -> None:
        counter.answered("v1", [ended(), ended()])
        counter.answered("v2", [ended("v2")])
        await counter.add()
        await counter.add()
        counter.answered("v1", [ended()])
        await counter.add()

    count(tmp_path, scenario)
    assert stored(tmp_path) == {"v1": answers(3), "v2": answers(1)}


@pytest.mark.parametrize("experiment", [EXPERIMENT, STICKY], ids=["random", "hash"])
def test_only_what_the_split_decided_counts(tmp_path: Path, experiment: Experiment) -> None:
    async def scenario(counter: EvidenceCounter) -> None:
        for number, reason in enumerate((Reason.PINNED, Reason.ACTIVE, Reason.OUTSIDE_LAYER)):
            counter.answered("v1", [ended(unit=f"u{number}", reason=reason, experiment=experiment)])
            failed = ended(unit=f"f{number}", reason=reason, experiment=experiment)
            counter.failed([Failure(failed, "v1", "model_failure")])
        counter.answered("v1", [ended(experiment=None)])
        counter.failed([Failure(None, None, "overloaded"), Failure(None, "v2", FELL_BACK)])
        await counter.add()

    count(tmp_path, scenario, experiment)
    assert stored(tmp_path) == {}


@pytest.mark.parametrize("experiment", [EXPERIMENT, STICKY], ids=["random", "hash"])
def test_what_fell_back_counts_for_who_answered_and_as_an_error_of_the_other(
    tmp_path: Path, experiment: Experiment
) -> None:
    async def scenario(counter: EvidenceCounter) -> None:
        failed = ended("v2", "a", experiment=experiment)
        counter.failed([Failure(failed, "v2", FELL_BACK)])
        counter.answered("v1", [ended("v1", "a", Reason.FALLBACK, "v2", experiment=experiment)])
        counter.answered("v1", [ended("v1", "b", experiment=experiment)])
        await counter.add()

    count(tmp_path, scenario, experiment)
    assert stored(tmp_path) == {"v1": answers(1, assigned=2), "v2": {"requests": 1, "fallbacks": 1}}


@pytest.mark.parametrize("experiment", [EXPERIMENT, STICKY], ids=["random", "hash"])
def test_what_was_not_answered_was_assigned_all_the_same(tmp_path: Path, experiment: Experiment) -> None:
    async def scenario(counter: EvidenceCounter) -> None:
        made = [ended("v2", f"u{number}", experiment=experiment) for number in range(3)]
        counter.failed([Failure(made[0], "v2", "model_failure"), Failure(made[1], "v2", "invalid", Fault.CLIENT)])
        counter.cancelled("v2", [made[2]])
        await counter.add()

    count(tmp_path, scenario, experiment)
    assert stored(tmp_path) == {"v2": {"assigned": 3, "requests": 1, "errors": 1}}


def test_a_unit_counts_once_where_it_keeps_its_version(tmp_path: Path) -> None:
    async def scenario(counter: EvidenceCounter) -> None:
        for _ in range(2):
            for unit in ("a", "b", "a", "c"):
                counter.answered("v1", [ended(unit=unit, experiment=STICKY)])
            await counter.add()
        counter.answered("v2", [ended("v2", "d", experiment=STICKY)])
        await counter.add()

    count(tmp_path, scenario, STICKY)
    assert stored(tmp_path) == {"v1": answers(3), "v2": answers(1)}
    # Another worker, which has not seen them.
    count(tmp_path, scenario, STICKY)
    assert stored(tmp_path) == {"v1": answers(3), "v2": answers(1)}


def test_units_beyond_what_is_kept_are_let_go_of_alike_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_counter, "MAX_ASSIGNED_UNITS", 50)
    versions = {f"u{number}": f"v{1 + number % 2}" for number in range(1000)}

    async def scenario(counter: EvidenceCounter) -> None:
        for number, (unit, version) in enumerate(versions.items()):
            counter.answered(version, [ended(version, unit, experiment=STICKY)])
            if number % 300 == 299:
                await counter.add()
        await counter.add()

    count(tmp_path, scenario, STICKY)
    store = store_in(tmp_path)
    halvings = store.evidence("e1", NOW + 1e6).halvings["assigned.7"]
    store.close()
    stage = CountedStage(STICKY)
    limit = 1 << (64 - halvings)
    kept = Counter(
        version for unit, version in versions.items() if int.from_bytes(stage.unit_bytes(unit), "big") < limit
    )
    assert {version: found["assigned"] for version, found in stored(tmp_path).items()} == kept
    assert 10 < kept.total() <= 50


def test_requests_are_of_the_cohort_in_which_they_ended(tmp_path: Path) -> None:
    clock = HandClock(NOW)

    async def scenario(counter: EvidenceCounter) -> None:
        for _ in range(3):
            counter.answered("v1", [ended()])
            clock.advance(EXPERIMENT.plan.cohort_s)
        await counter.add()

    count(tmp_path, scenario, clock=clock)
    begun = EXPERIMENT.cohort_of(NOW)
    found = [stored(tmp_path, begun + 10 * number).get("v1", {}).get("assigned", 0) for number in range(4)]
    assert found == [0, 1, 2, 3]


def test_what_could_not_be_added_is_added_later_and_once(tmp_path: Path) -> None:
    async def scenario(counter: EvidenceCounter) -> None:
        counter.answered("v1", [ended()])
        break_store(tmp_path)
        await counter.add()
        counter.answered("v1", [ended()])
        await counter.add()
        shutil.rmtree(tmp_path / "store.db")
        await counter.add()
        await counter.add()

    count(tmp_path, scenario)
    assert stored(tmp_path) == {"v1": answers(2)}


def test_nothing_is_counted_where_no_experiment_is_under_way(tmp_path: Path) -> None:
    async def scenario(counter: EvidenceCounter) -> None:
        counter.answered("v1", [ended()])
        await counter.add()

    count(tmp_path, scenario, None)
    assert stored(tmp_path) == {}


def test_the_hash_of_a_unit_is_another_one_in_each_experiment_and_no_kin_of_its_assignment() -> None:
    stage, other = CountedStage(EXPERIMENT), CountedStage(replace(EXPERIMENT, id="e2"))
    assert stage.unit_bytes("a") == CountedStage(STICKY).unit_bytes("a") != other.unit_bytes("a")
    assert len(stage.unit_bytes("ü" * 1000)) == 8
    environment = routing(STICKY).environments["production"]
    found: Mapping[tuple[str, bool], int] = Counter(
        (environment.rendezvous.version_of(unit), stage.unit_bytes(unit)[0] < 128) for unit in map(str, range(4000))
    )
    assert all(abs(number - 1000) < 150 for number in found.values()), found
