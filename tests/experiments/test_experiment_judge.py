"""The judge: it ends what the store's evidence decides, once, and moves the split as the plan says."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from configuration.experiment_plan import AtEnd, ExperimentPlan
from configuration.experiment_policy import ExperimentMetric, Guardrail
from configuration.settings import Settings
from shokado.dispatch.change import KnownVersions, SplitChange, with_split
from shokado.dispatch.experiment import Result
from shokado.dispatch.experiment_change import ExperimentOrder, with_experiment
from shokado.dispatch.state import RoutingState
from shokado.experiments.experiment_counts import ASSIGNED, ERRORS, FALLBACKS, REQUESTS, SLOW, sums_named
from shokado.experiments.experiment_judge import ExperimentJudge, look_at
from shokado.stores.evidence import Evidence, EvidenceBatch
from shokado.stores.store import Action
from tests.experiments.following import following
from tests.experiments.judged_experiment import JudgedExperiment
from tests.support.settings import paper_settings

NOW = 1_790_000_000.0
READY = KnownVersions({"v1": "ready", "v2": "ready"}, {})
REWARD = sums_named(ExperimentMetric.REWARD)
ANSWERS = sums_named(ExperimentMetric.LATENCY)[0]
RAILS = (Guardrail(metric=ExperimentMetric.ERROR_RATE, margin=0.05),)
PRODUCTION = {"active": "v1", "weights": {"v1": 50, "v2": 50}}
SETTINGS: Settings = paper_settings(versions={"v1": {}, "v2": {}}, environments={"production": PRODUCTION})

Seen = Mapping[str, Mapping[str, float]]


def rewarded(number: int, right: int, **more: float) -> dict[str, float]:
    """What a version has that was given a reward for each of its answers."""
    counts = dict.fromkeys((ASSIGNED, REQUESTS, ANSWERS, REWARD[0]), float(number))
    return counts | {REWARD[1]: float(right), REWARD[2]: float(right)} | more


class Court(JudgedExperiment):
    """A judge, and the experiment that it is asked about."""

    async def tell(self, seen: Seen, age_s: float = 100) -> None:
        """Have counts of both versions in the store."""
        stage, cohort = self.experiment.stages[-1].generation, self.experiment.cohort_of(NOW - age_s)
        counts = {
            (self.experiment.id, Evidence(stage, version, cohort, name)): number
            for version, sums in seen.items()
            for name, number in sums.items()
        }
        self.batches += 1
        batch = EvidenceBatch("w1", self.batches, counts)
        await self.follower.ask(self.follower.store.add_evidence, batch, NOW)

    async def actions(self) -> list[Action]:
        entries = await self.follower.ask(self.follower.store.history, 10, None)
        return [entry.action for entry in reversed(entries)]


def answering(value: Any) -> Callable[[], Awaitable[Any]]:
    async def answer() -> Any:
        return value

    return answer


def try_it(
    folder: Path,
    scenario: Callable[[Court], Awaitable[None]],
    *,
    versions: KnownVersions = READY,
    leads: bool = True,
    started: float = NOW - 500,
    **plan: Any,
) -> None:
    content: dict[str, Any] = {
        "metric": "reward", "smallest_effect": 0.05, "guardrails": RAILS, "max_duration_s": 1000, "label_delay_s": 10,
        "at_end": AtEnd.PROMOTE,
    }  # fmt: skip
    order = ExperimentOrder(ExperimentPlan(**content | plan))

    async def run() -> None:
        async with following(folder, SETTINGS) as follower:
            await follower.change(
                lambda state: with_experiment(state, None, order, READY, experiment_id="e1", now=started),
                by="ann",
                action=Action.EXPERIMENT,
            )
            judge = ExperimentJudge(follower, answering(leads), answering(versions), clock=lambda: NOW)
            await scenario(Court(follower, judge))

    asyncio.run(run())


BETTER = {"v1": rewarded(4000, 1000), "v2": rewarded(4000, 1600)}
WORSE = {"v1": rewarded(4000, 1600), "v2": rewarded(4000, 1000)}
FAILING = {"v1": rewarded(4000, 1000), "v2": rewarded(4000, 1000, **{ERRORS: 1000.0})}
PASSED_OVER = {
    "v1": rewarded(4000, 1000, **{ASSIGNED: 4900.0}),
    "v2": rewarded(3000, 750, **{REQUESTS: 4000.0, FALLBACKS: 900.0}),
}
UNHEARD = {"v1": rewarded(4000, 1000), "v2": rewarded(4000, 1600, **{REWARD[0]: 2000.0})}
ALIKE = {"v1": rewarded(400, 100), "v2": rewarded(400, 100)}


@pytest.mark.parametrize(
    ("seen", "at_end", "result", "shares", "says"),
    [
        (BETTER, AtEnd.PROMOTE, Result.PROMOTE, {"v2": 1}, "reward +0.15"),
        (BETTER, AtEnd.ROLLBACK, Result.PROMOTE, {"v1": 0.5, "v2": 0.5}, "better"),
        (BETTER, AtEnd.TELL, Result.PROMOTE, {"v1": 0.5, "v2": 0.5}, "better"),
        (WORSE, AtEnd.PROMOTE, Result.ROLLBACK, {"v1": 1}, "worse"),
        (WORSE, AtEnd.ROLLBACK, Result.ROLLBACK, {"v1": 1}, "worse"),
        (WORSE, AtEnd.TELL, Result.ROLLBACK, {"v1": 0.5, "v2": 0.5}, "worse"),
        (FAILING, AtEnd.PROMOTE, Result.ROLLBACK, {"v1": 1}, "error_rate"),
        (PASSED_OVER, AtEnd.ROLLBACK, Result.INVALID, {"v1": 1}, "fallbacks: 900 of v2"),
        (UNHEARD, AtEnd.ROLLBACK, Result.INVALID, {"v1": 1}, "labels"),
    ],
)
def test_what_is_decided_ends_once_and_moves_the_split_as_planned(
    tmp_path: Path, seen: Seen, at_end: AtEnd, result: Result, shares: dict[str, float], says: str
) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(seen)
        for _ in range(3):
            await court.judge.look_at_all()
        ended = court.experiment.conclusion
        assert ended is not None
        assert (ended.result, ended.at) == (result, NOW)
        assert says in ended.reason
        assert ended.winner == ("v2" if result is Result.PROMOTE else None)
        assert ended.broken.keys() == ({"v2"} if seen is FAILING else set())
        assert (dict(court.production.shares), court.production.active) == (
            shares,
            "v2" if shares == {"v2": 1} else "v1",
        )
        assert await court.actions() == [Action.CONFIGURED, Action.EXPERIMENT, Action.CONCLUDE], "once"
        assert ended.versions["v1"].observations == seen["v1"][REWARD[0]]
        entry = court.follower.entry
        assert entry is not None
        assert (entry.by, entry.why.startswith(f"{result} by experiment e1: ")) == ("shokado", True)

    try_it(tmp_path, scenario, at_end=at_end)


@pytest.mark.parametrize("metric", [ExperimentMetric.LATENCY, ExperimentMetric.ERROR_RATE, ExperimentMetric.SLOW_SHARE])
def test_what_comes_with_the_answer_waits_for_no_labels(tmp_path: Path, metric: ExperimentMetric) -> None:
    """Its verdict is of what was answered a second ago, also where labels would have a day to come."""

    def answered(slow: int) -> dict[str, float]:
        times = sums_named(ExperimentMetric.LATENCY)
        total = 4000 * 10.0 + slow * 100
        counts = dict.fromkeys((ASSIGNED, REQUESTS, times[0]), 4000.0)
        return counts | {SLOW: slow, ERRORS: slow, times[1]: total, times[2]: total**2 / 4000 + slow * 1e4}

    async def scenario(court: Court) -> None:
        await court.tell({"v1": answered(1600), "v2": answered(200)}, age_s=1)
        await court.judge.look_at_all()
        assert court.experiment.conclusion is not None
        assert court.experiment.conclusion.result is Result.PROMOTE, court.experiment.conclusion.reason

    smallest = 1.0 if metric is ExperimentMetric.LATENCY else 0.05
    try_it(tmp_path, scenario, metric=metric, smallest_effect=smallest, label_delay_s=86_400)


def test_what_is_faster_waits_for_the_labels_that_its_guardrail_is_about(tmp_path: Path) -> None:
    """It is surely faster within minutes, and its labels have a day to come."""
    times, right = sums_named(ExperimentMetric.LATENCY), sums_named(ExperimentMetric.ACCURACY)
    rails = (Guardrail(metric=ExperimentMetric.ACCURACY, margin=0.05),)

    def answered(ms: float) -> dict[str, float]:
        sums = {times[1]: 4000 * ms, times[2]: 4000 * 2 * ms**2}
        return dict.fromkeys((ASSIGNED, REQUESTS, times[0]), 4000.0) | sums

    def labelled(number: float) -> dict[str, float]:
        return dict.fromkeys(right, number)

    async def scenario(court: Court) -> None:
        await court.tell({"v1": answered(20), "v2": answered(10)}, age_s=200)
        await court.judge.look_at_all()
        assert court.experiment.is_running
        look = await look_at(court.experiment, court.follower, NOW)
        assert "not sure to keep a guardrail yet: accuracy not compared yet" in look.reason
        for number, is_running in ((30.0, True), (3000.0, False)):
            await court.tell({"v1": labelled(number), "v2": labelled(number)}, age_s=200)
            await court.judge.look_at_all()
            assert court.experiment.is_running is is_running
        assert court.experiment.conclusion is not None
        assert court.experiment.conclusion.result is Result.PROMOTE
        assert dict(court.production.shares) == {"v2": 1}

    async def is_held(court: Court) -> None:
        await court.tell({"v1": answered(20), "v2": answered(10)}, age_s=200)
        await court.judge.look_at_all()
        assert court.experiment.conclusion is not None
        assert court.experiment.conclusion.result is Result.HOLD
        assert "accuracy not compared yet" in court.experiment.conclusion.reason
        assert dict(court.production.shares) == {"v1": 0.5, "v2": 0.5}

    plan: dict[str, Any] = {"metric": ExperimentMetric.LATENCY, "smallest_effect": 1.0, "guardrails": rails}
    try_it(tmp_path / "a", scenario, label_delay_s=100, **plan)
    try_it(tmp_path / "b", is_held, label_delay_s=999, started=NOW - 1000, **plan)


def test_what_is_undecided_goes_on_and_is_held_in_the_end(tmp_path: Path) -> None:
    async def goes_on(court: Court) -> None:
        await court.tell(ALIKE)
        await court.judge.look_at_all()
        assert court.experiment.is_running

    async def is_held(court: Court) -> None:
        await court.tell(ALIKE)
        await court.judge.look_at_all()
        assert court.experiment.conclusion is not None
        assert court.experiment.conclusion.result is Result.HOLD
        assert dict(court.production.shares) == {"v1": 0.5, "v2": 0.5}

    try_it(tmp_path / "a", goes_on)
    try_it(tmp_path / "b", is_held, started=NOW - 1000)


@pytest.mark.parametrize(
    "given", [{"leads": False}, {"versions": KnownVersions({"v1": "ready", "v2": "starting"}, {})}], ids=str
)
def test_nothing_ends_by_another_worker_or_before_the_winner_is_ready(tmp_path: Path, given: dict[str, Any]) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(BETTER)
        await court.judge.look_at_all()
        assert court.experiment.is_running

    try_it(tmp_path, scenario, **given)


def test_labels_that_had_no_time_to_come_do_not_count_yet(tmp_path: Path) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(BETTER, age_s=12)
        await court.judge.look_at_all()
        assert court.experiment.is_running

    try_it(tmp_path, scenario)


def test_shares_that_change_make_no_effect_of_their_own(tmp_path: Path) -> None:
    """Simpson's paradox: at each hour both are alike, and the one that has more of the good hour looks better."""

    async def scenario(court: Court) -> None:
        for right, weights in ((0.1, {"v1": 50, "v2": 50}), (0.6, {"v1": 10, "v2": 90})):
            await court.follower.change(
                lambda state, weights=weights: with_split(state, None, SplitChange(weights=weights), READY),  # type: ignore[misc]
                by="ann",
                action=Action.SPLIT,
            )
            total = sum(weights.values())
            numbers = {version: 8000 * weight // total for version, weight in weights.items()}
            await court.tell({of: rewarded(number, round(number * right)) for of, number in numbers.items()})
        assert len(court.experiment.stages) == 2
        await court.judge.look_at_all()
        ended = court.experiment.conclusion
        assert ended is None or ended.result is Result.HOLD, ended

    try_it(tmp_path, scenario)


def test_what_fails_for_one_does_not_keep_another_from_its_end(tmp_path: Path) -> None:
    settings = paper_settings(
        versions={"v1": {}, "v2": {}}, environments={"production": PRODUCTION, "staging": PRODUCTION}
    )
    plan = ExperimentPlan(
        metric=ExperimentMetric.REWARD,
        smallest_effect=0.05,
        max_duration_s=1000,
        label_delay_s=10,
        at_end=AtEnd.PROMOTE,
    )
    answers: Iterator[Exception | KnownVersions] = iter([ValueError("the first one's"), READY])

    def begun(environment: str, state: RoutingState) -> RoutingState:
        order = ExperimentOrder(plan)
        return with_experiment(state, environment, order, READY, experiment_id=f"of-{environment}", now=NOW - 500)

    async def versions() -> KnownVersions:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario() -> None:
        async with following(tmp_path, settings) as follower:
            for environment in ("production", "staging"):
                await follower.change(partial(begun, environment), by="ann", action=Action.EXPERIMENT)
            assert follower.state is not None
            for number, experiment in enumerate(follower.state.running.values()):
                of = (experiment.stages[-1].generation, experiment.cohort_of(NOW - 100))
                counts = {
                    (experiment.id, Evidence(of[0], version, of[1], name)): count
                    for version, right in (("v1", 0), ("v2", 300))
                    for name, count in rewarded(300, right).items()
                }
                await follower.ask(follower.store.add_evidence, EvidenceBatch("w1", number + 1, counts), NOW)
            await ExperimentJudge(follower, answering(True), versions, clock=lambda: NOW).look_at_all()
            assert follower.state is not None
            assert len(follower.state.running) == 1

    asyncio.run(scenario())
