"""The judge of a shadow: pairs that have met end its experiment once, over both stores, and move the split."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from configuration.experiment_plan import AtEnd, ExperimentPlan
from configuration.experiment_policy import ExperimentDesign, ExperimentMetric
from configuration.settings import Settings
from shokado.dispatch.change import KnownVersions, SplitChange, with_split
from shokado.dispatch.experiment import Result
from shokado.dispatch.experiment_change import ExperimentOrder, with_experiment
from shokado.experiments.effects_over_time import effects_over_time
from shokado.experiments.experiment_counts import FAILED, SAMPLED, SCORED
from shokado.experiments.experiment_judge import ExperimentJudge, look_at, pairs_to_keep, results_of
from shokado.experiments.pair_evidence import paired_label, sighting_of_failure, sighting_of_pair
from shokado.experiments.prediction_id import Provenance
from shokado.stores.evidence import Evidence, EvidenceBatch, ShadowScores
from shokado.stores.follower import Follower
from shokado.stores.store import Action, Settlement, Store, WorkerReport
from tests.experiments.judged_experiment import JudgedExperiment
from tests.experiments.test_experiment_judge import answering
from tests.stores.backends import Backend
from tests.stores.test_evidence import unit
from tests.support.settings import paper_settings

NOW = 1_790_000_000.0
AGE_S = 100.0
READY = KnownVersions({"v1": "ready", "v2": "ready", "v3": "ready"}, {})
PRODUCTION = {"active": "v1", "weights": {"v1": 90, "v3": 10}, "shadow": "v2"}
SETTINGS: Settings = paper_settings(versions={"v1": {}, "v2": {}, "v3": {}}, environments={"production": PRODUCTION})
Row = tuple[float, float]
"""What the label says, and what the shadow does."""


class Court(JudgedExperiment):
    """A judge, and the experiment of a shadow that it is asked about."""

    async def ask(self, method: Callable[..., Any], *arguments: Any) -> Any:
        return await self.follower.ask(method, *arguments)

    async def tell(
        self,
        rows: Sequence[Row],
        control: Callable[[Row], float],
        age_s: float = AGE_S,
        failed: int = 0,
        *,
        of_one_unit: bool = False,
    ) -> None:
        """Have the scores of a request for each row in the store, and their labels; the last ones failed, perhaps those
        of one unit, which has others.
        """
        experiment, store = self.experiment, self.follower.store
        stage, cohort = experiment.stages[-1].generation, experiment.cohort_of(NOW - age_s)
        labels, scores, seen = [], [], []
        for number, row in enumerate(rows):
            key = f"{self.batches}-{number}"
            origin = Provenance(
                key, "v1", "production", stage, NOW - age_s, 1, (0.0,), unit(10_000 * self.batches + number)
            )
            label = paired_label(experiment, experiment.stages[-1], origin, 0, control(row), [row[0]], NOW - age_s + 1)
            assert label is not None
            labels.append(Settlement(key, NOW + 1000, {}, paired=label))
            fails = number >= len(rows) - failed
            answers = b"" if fails else np.array([row[1]], np.float32).tobytes()
            whose = unit(10_000 * self.batches) if fails and of_one_unit else origin.unit
            seen.append(sighting_of_failure(experiment, stage, cohort, whose, failed=fails))
            no_room = Evidence(stage, "v2", cohort, "pairs.no_room")
            scores.append(ShadowScores(experiment.id, cohort, key, answers, 100_000, no_room))
        counts = {SAMPLED: len(rows) + 7, SCORED: len(rows) - failed, FAILED: failed}
        await self._add(counts, cohort, scores=scores, sightings=seen)
        await self.ask(store.settle, labels, NOW)

    async def agree(self, rows: int, apart: int) -> None:
        """Have it in the store on how many rows both say the same."""
        experiment = self.experiment
        stage, cohort = experiment.stages[-1].generation, experiment.cohort_of(NOW - 1)
        seen = [
            sighting_of_pair(experiment, stage, cohort, unit(number), 1.0, float(number >= apart))
            for number in range(rows)
        ]
        await self._add({SAMPLED: rows, SCORED: rows}, cohort, sightings=seen)

    async def _add(self, counts: dict[str, int], cohort: int, **more: Any) -> None:
        experiment = self.experiment
        stage = experiment.stages[-1].generation
        told = {(experiment.id, Evidence(stage, "v2", cohort, name)): float(number) for name, number in counts.items()}
        self.batches += 1
        await self.ask(self.follower.store.add_evidence, EvidenceBatch("w1", self.batches, told, **more), NOW)


def accuracy(number: int, won: int, lost: int) -> list[Row]:
    """Labels 1, of which the control is right but for those that the shadow won."""
    return [(1.0, 1.0)] * (number - lost) + [(1.0, 0.0)] * lost + [(0.0, 0.0)] * won


def right(row: Row) -> float:
    return row[0]


def try_it(
    backend: Backend, scenario: Callable[[Court], Awaitable[None]], *, started: float = NOW - 500, **plan: Any
) -> None:
    content: dict[str, Any] = {
        "metric": "accuracy", "design": ExperimentDesign.SHADOW, "smallest_effect": 0.02, "max_duration_s": 1000,
        "label_delay_s": 10, "at_end": AtEnd.PROMOTE,
    }  # fmt: skip
    order = ExperimentOrder(ExperimentPlan(**content | plan))

    async def run() -> None:
        store: Store = backend.open()
        report = WorkerReport("w1", "m1", 1, 1, at=0.0)
        follower = Follower(store, SETTINGS, lambda _: None, lambda: report, poll_every_s=3600)
        await follower.start()
        await follower.change(
            lambda state: with_experiment(state, None, order, READY, experiment_id="e1", now=started),
            by="ann",
            action=Action.EXPERIMENT,
        )
        judge = ExperimentJudge(follower, answering(True), answering(READY), clock=lambda: NOW)
        try:
            await scenario(Court(follower, judge))
        finally:
            await follower.stop()

    asyncio.run(run())


BETTER = accuracy(800, 60, 10)
WORSE = accuracy(800, 10, 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "at_end", "result", "shares", "shadow"),
    [
        (BETTER, AtEnd.PROMOTE, Result.PROMOTE, {"v2": 1.0}, None),
        (BETTER, AtEnd.ROLLBACK, Result.PROMOTE, {"v1": 0.9, "v3": 0.1}, "v2"),
        (BETTER, AtEnd.TELL, Result.PROMOTE, {"v1": 0.9, "v3": 0.1}, "v2"),
        (WORSE, AtEnd.PROMOTE, Result.ROLLBACK, {"v1": 0.9, "v3": 0.1}, None),
        (WORSE, AtEnd.ROLLBACK, Result.ROLLBACK, {"v1": 0.9, "v3": 0.1}, None),
        (WORSE, AtEnd.TELL, Result.ROLLBACK, {"v1": 0.9, "v3": 0.1}, "v2"),
    ],
)
def test_pairs_end_the_experiment_once_and_the_split_moves_as_planned(
    backend: Backend, rows: list[Row], at_end: AtEnd, result: Result, shares: dict[str, float], shadow: str | None
) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(rows, right)
        for _ in range(3):
            await court.judge.look_at_all()
        ended = court.experiment.conclusion
        assert ended is not None
        assert ended.result is result, ended.reason
        assert ended.reason.endswith(f"; of {len(rows) + 7} requests it scored {len(rows)}, and 0 failed")
        assert (dict(court.production.shares), court.production.shadow) == (shares, shadow)
        assert court.production.active == ("v2" if shares == {"v2": 1.0} else "v1")
        entries = await court.ask(court.follower.store.history, 10, None)
        assert [entry.action for entry in reversed(entries)] == [
            Action.CONFIGURED, Action.EXPERIMENT, Action.CONCLUDE,
        ], "once"  # fmt: skip
        control, candidate = ended.versions["v1"], ended.versions["v2"]
        assert control.observations == candidate.observations == len(rows)
        assert (control.assigned, candidate.assigned) == (len(rows) + 7, 0)
        assert control.mean == pytest.approx(sum(row[0] for row in rows) / len(rows))
        assert candidate.effect == pytest.approx((candidate.mean or 0) - (control.mean or 0))

    try_it(backend, scenario, at_end=at_end)


@pytest.mark.parametrize("rows", [BETTER, WORSE], ids=["better", "worse"])
@pytest.mark.parametrize("shadow", ["v3", None])
def test_the_end_moves_nothing_once_another_version_is_the_shadow(
    backend: Backend, rows: list[Row], shadow: str | None
) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(rows, right)
        changed = SplitChange(shadow=shadow)
        await court.follower.change(
            lambda state: with_split(state, None, changed, READY), by="ann", action=Action.SPLIT
        )
        await court.judge.look_at_all()
        ended = court.experiment.conclusion
        assert ended is not None
        assert ended.result is (Result.PROMOTE if rows is BETTER else Result.ROLLBACK)
        assert (dict(court.production.shares), court.production.shadow) == ({"v1": 0.9, "v3": 0.1}, shadow)

    try_it(backend, scenario)


def test_what_is_undecided_goes_on_and_is_held_in_the_end(backend: Backend) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(accuracy(300, 4, 4), right)
        await court.judge.look_at_all()
        assert court.experiment.is_running
        look = await look_at(court.experiment, court.follower, NOW + 500)
        assert look.judgement.verdict.value == "HOLD"
        assert look.pairs == {"sampled": 311, "scored": 304, "failed": 0, "labels": 304, "joined": 304}

    try_it(backend, scenario)


def test_an_equivalent_shadow_is_held_before_the_end(backend: Backend) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(accuracy(3000, 40, 40), right)
        await court.judge.look_at_all()
        ended = court.experiment.conclusion
        assert ended is not None
        assert (ended.result, "equivalent" in ended.reason) == (Result.HOLD, True)
        assert court.production.shadow == "v2"

    try_it(backend, scenario)


def test_failures_count_as_wrong_answers(backend: Backend) -> None:
    """It has all right that it can score, but is not there for one row in ten."""

    async def scenario(court: Court) -> None:
        await court.tell(accuracy(1000, 0, 0), right, failed=100)
        await court.judge.look_at_all()
        ended = court.experiment.conclusion
        assert ended is not None
        assert ended.result is Result.ROLLBACK, ended.reason

    try_it(backend, scenario)


def test_errors_of_a_shadow_that_fails_too_often_are_invalid(backend: Backend) -> None:
    def squared(row: Row) -> float:
        return row[0] ** 2

    async def scenario(court: Court) -> None:
        random = np.random.default_rng(3)
        await court.tell([(error, error / 2) for error in random.normal(0, 1, 2000).tolist()], squared, failed=100)
        await court.judge.look_at_all()
        ended = court.experiment.conclusion
        assert ended is not None
        assert ended.result is Result.INVALID, ended.reason
        assert "100 of 2,000" in ended.reason
        assert ended.versions["v2"].observations == 1900
        assert court.production.shadow is None

    try_it(backend, scenario, metric=ExperimentMetric.SQUARED_ERROR)


def test_many_failures_of_one_unit_are_no_share_of_all(backend: Backend) -> None:
    async def scenario(court: Court) -> None:
        random = np.random.default_rng(3)
        rows = [(error, error) for error in random.normal(0, 1, 2000).tolist()]
        await court.tell(rows, lambda row: row[0] ** 2, failed=100, of_one_unit=True)
        look = await look_at(court.experiment, court.follower, NOW)
        assert look.judgement.verdict.value == "RUNNING", look.reason
        assert look.pairs["failed"] == 100

    rails = [{"metric": "error_rate", "limit": 0.01}]
    try_it(backend, scenario, metric=ExperimentMetric.SQUARED_ERROR, guardrails=rails)


def test_labels_that_had_no_time_to_come_do_not_count_yet(backend: Backend) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(BETTER, right, age_s=12)
        await court.judge.look_at_all()
        assert court.experiment.is_running

    try_it(backend, scenario)


def test_nothing_is_joined_by_another_worker_and_nothing_twice(backend: Backend) -> None:
    async def scenario(court: Court) -> None:
        await court.tell(accuracy(300, 4, 4), right)
        idle = ExperimentJudge(court.follower, answering(False), answering(READY), clock=lambda: NOW)
        await idle.look_at_all()
        assert len(await court.ask(court.follower.store.met_pairs, "e1", 1000)) == 304
        for _ in range(2):
            await court.judge.look_at_all()
        assert await court.ask(court.follower.store.met_pairs, "e1", 1000) == []
        look = await look_at(court.experiment, court.follower, NOW)
        assert results_of(court.experiment, look)["v2"].observations == 304

    try_it(backend, scenario)


@pytest.mark.parametrize(
    ("rows", "apart", "result", "shadow"), [(1000, 2, Result.PROMOTE, None), (600, 60, Result.ROLLBACK, None)]
)
def test_agreement_needs_no_label_and_no_delay(
    backend: Backend, rows: int, apart: int, result: Result, shadow: str | None
) -> None:
    async def scenario(court: Court) -> None:
        await court.agree(rows, apart)
        await court.judge.look_at_all()
        ended = court.experiment.conclusion
        assert ended is not None
        assert ended.result is result, ended.reason
        assert court.production.shadow == shadow
        assert (ended.versions["v1"].mean, ended.versions["v2"].mean) == (1, 1 - apart / rows)

    try_it(backend, scenario, metric=ExperimentMetric.AGREEMENT, label_delay_s=86_400)


@pytest.mark.parametrize("metric", [ExperimentMetric.ACCURACY, ExperimentMetric.AGREEMENT])
def test_the_last_point_of_the_effects_over_time_is_what_a_look_tells(
    backend: Backend, metric: ExperimentMetric
) -> None:
    async def scenario(court: Court) -> None:
        if metric is ExperimentMetric.ACCURACY:
            await court.tell(accuracy(300, 4, 4), right)
        else:
            await court.agree(200, 3)
        await court.judge.look_at_all()
        found = results_of(court.experiment, await look_at(court.experiment, court.follower, NOW))["v2"]
        evidence = await court.ask(court.follower.store.counted_evidence, "e1")
        curve = effects_over_time(court.experiment, evidence, NOW, NOW).candidates["v2"]
        assert curve.observations[-1] == found.observations
        assert (curve.estimate[-1], curve.low[-1], curve.high[-1]) == pytest.approx(
            (found.effect, found.low, found.high)
        )

    try_it(backend, scenario, metric=metric)


def test_pairs_are_kept_for_as_long_as_labels_may_come(backend: Backend) -> None:
    async def scenario(court: Court) -> None:
        state = court.follower.state
        assert state is not None
        await court.tell(accuracy(10, 1, 1), right, age_s=15)
        await court.tell(accuracy(10, 1, 1), right, age_s=40)
        keep = pairs_to_keep(state, NOW)
        assert keep == {"e1": int(NOW - 10 - 5 - 3) - 5}
        await court.ask(court.follower.store.forget_pairs, keep)
        waiting = await court.ask(court.follower.store.met_pairs, "e1", 1000)
        assert {pair.cohort for pair in waiting} >= {court.experiment.cohort_of(NOW - 15)}
        await court.tell(BETTER, right)
        await court.judge.look_at_all()
        assert not court.experiment.is_running
        assert court.follower.state is not None
        assert pairs_to_keep(court.follower.state, NOW) == {}

    try_it(backend, scenario)
