"""The shadow sampler: what a worker's shadow copies say is kept, once, over real runners and a real store."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import STORED, ExperimentDesign, ExperimentMetric, Guardrail
from configuration.settings import CacheBackend, CacheSettings, ShadowSettings, Strategy
from shokado.dispatch.cache import MemoryCache
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.experiment import Experiment, ExperimentStage
from shokado.dispatch.layer import Layer
from shokado.dispatch.request import Prediction
from shokado.dispatch.shadow import MAX_JOB_ROWS, ShadowCopier
from shokado.experiments import shadow_sampler
from shokado.experiments.experiment_judge import kept_since
from shokado.experiments.prediction_id import PredictionIds
from shokado.experiments.shadow_sampler import ShadowSampler, kept_of_a_cohort
from shokado.stores.evidence import Evidence
from shokado.stores.follower import Follower
from shokado.stores.pairs import FORGET_EVERY_S, PairedLabel
from shokado.stores.store import Settlement
from tests.dispatch.double_runners import DoubleRunner, OffBy, answer, routed, started
from tests.experiments.following import break_store, following, store_in
from tests.experiments.test_tallying import SETTINGS
from tests.runners.engine_doubles import ChokesOnBadRows, Obliging
from tests.support.cards import make_card
from tests.support.waiting import eventually

NOW = 1_790_000_000.0
SECRET = bytes(range(32))


def experiment(metric: ExperimentMetric, **plan: Any) -> Experiment:
    content: dict[str, Any] = {"smallest_effect": 0.1, "label_delay_s": 10, "max_duration_s": 2000} | plan
    told = ExperimentPlan(metric=metric, design=ExperimentDesign.SHADOW, **content)
    return Experiment("e1", "v1", ("v2",), told, NOW, (ExperimentStage(1, {"v1": 1.0}, is_sticky=False),))


class Studio:
    """v1 answers, and v2 is its shadow, which is compared by an experiment."""

    def __init__(self, follower: Follower, dispatcher: Dispatcher, max_kept: int, max_waiting_rows: int) -> None:
        settings = ShadowSettings(cpu_share=1, max_waiting_rows=max_waiting_rows)
        self.follower, self.dispatcher = follower, dispatcher
        self.sampler = sampler = ShadowSampler(follower, "w1", max_kept, clock=lambda: NOW)
        self.copier = ShadowCopier(dispatcher, settings, sample=sampler)
        self.ids = PredictionIds(SECRET, 3600.0, clock=lambda: NOW)

    async def answer(self, *values: float, told: bool = True, **asked: Any) -> Prediction:
        prediction = await answer(self.dispatcher, *values, **asked)
        prediction.prediction_id = self.ids.make(prediction)
        if told:
            self.copier.answered(prediction.version, [prediction])
        return prediction

    async def idle(self) -> None:
        """Return when no copy waits, and all is in the store."""
        await eventually(lambda: self.copier._task is None or self.copier._task.done())
        await self.sampler.add()

    async def kept(self, predictions: list[Prediction]) -> dict[int, list[float]]:
        """What is kept of each prediction that is asked about by a label, by its position."""
        follower, found = self.follower, {}
        for position, one in enumerate(predictions):
            origin = self.ids.read(one.prediction_id)
            cohort = experiment(ExperimentMetric.ACCURACY).cohort_of(origin.at)
            of = Evidence(1, "v2", cohort, "labels")
            label = PairedLabel(
                "e1", cohort, origin.key, 0, f"{position}", waits=False, at_most=9, counted=of, let_go=of
            )
            await follower.ask(follower.store.settle, [Settlement(f"{position}", NOW + 9, {}, paired=label)], NOW)
        for pair in await follower.ask(follower.store.met_pairs, "e1", 10_000):
            found[int(pair.content)] = np.frombuffer(pair.answers, np.float32).tolist()
        return found


def sample(
    folder: Path,
    scenario: Callable[[Studio], Awaitable[Any]],
    metric: ExperimentMetric = ExperimentMetric.ACCURACY,
    v2: Any = None,
    under_way: Experiment | None = None,
    max_kept: int = 10_000,
    max_waiting_rows: int = 1024,
    cache: Any = None,
) -> None:
    """By default the shadow's scores are higher by 0.25."""

    async def run() -> None:
        runners = await started(DoubleRunner("v1", Obliging()), DoubleRunner("v2", v2 or OffBy(offset=0.25)))
        dispatcher = routed(runners, shadow="v2", cache=cache() if cache is not None else None)
        environment = dispatcher.state.environments["production"]
        running = replace(environment, experiment=under_way or experiment(metric))
        environments = {**dispatcher.state.environments, "production": running}
        dispatcher.adopt(replace(dispatcher.state, environments=environments), runners)
        async with following(folder, SETTINGS) as follower:
            await scenario(Studio(follower, dispatcher, max_kept, max_waiting_rows))

    asyncio.run(run())


def stored(folder: Path) -> dict[str, float]:
    """Of the shadow, by name, and of the control with a prefix."""
    store = store_in(folder)
    sums = store.evidence("e1", NOW + 1e6).sums
    store.close()
    assert {stage for stage, _, _ in sums} <= {1}
    return {("" if version == "v2" else f"{version}:") + name: value for (_, version, name), value in sums.items()}


def test_what_the_shadow_says_of_the_first_rows_is_kept_for_labels(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        # The score of a row is 0.5 and its first feature; so these are 0.3 and 0.75, and of the shadow 0.55 and 1.
        first = await studio.answer(-0.2, 0.25, unit="a")
        second = await studio.answer(-0.5, unit="b")
        many = await studio.answer(*[0.25] * (2 * MAX_JOB_ROWS + 3), unit="c")
        await studio.idle()
        found = await studio.kept([first, second, many])
        assert found == {0: [1, 1], 1: [0], 2: [1.0] * 32}

    sample(tmp_path, scenario)
    assert stored(tmp_path) == {"pairs.sampled": 3, "pairs.scored": 3, "labels": 3}


def test_only_what_the_split_gave_the_control_is_sampled(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        await studio.answer(0.0, unit="a", version="v1")
        await studio.answer(0.0, unit="b", version="v2")
        await studio.answer(0.0, unit="c", environment="staging")
        await studio.answer(0.0, unit="d", split=False)
        await studio.idle()

    sample(tmp_path, scenario)
    assert stored(tmp_path) == {}


def test_in_a_layer_only_units_inside_are_sampled_and_their_labels_alone_count(tmp_path: Path) -> None:
    layer, units = Layer("checkout", 0.0, 0.5), [f"user-{number}" for number in range(40)]

    async def scenario(studio: Studio) -> None:
        state = studio.dispatcher.state
        within = replace(state.environments["production"], strategy=Strategy.HASH, layer=layer)
        environments = {**state.environments, "production": within}
        studio.dispatcher.adopt(replace(state, environments=environments), studio.dispatcher.runners)
        answers = {unit: await studio.answer(0.0, unit=unit) for unit in units}
        assert {one.version for one in answers.values()} == {"v1"}, "the split deals all of them"
        for unit, one in answers.items():
            assert bool(studio.ids.read(one.prediction_id).unit) == layer.has(unit)
        await studio.idle()

    sample(tmp_path, scenario)
    inside = sum(layer.has(unit) for unit in units)
    assert 0 < inside < 40
    assert stored(tmp_path) == {"pairs.sampled": inside, "pairs.scored": inside}


@pytest.mark.parametrize("change", [{"control": "v3"}, {"candidates": ("v3",)}, {"stages": ()}], ids=str)
def test_nothing_is_sampled_while_others_answer_or_are_the_shadow(tmp_path: Path, change: dict[str, Any]) -> None:
    off = {"stages": (ExperimentStage(1, {}, is_sticky=False),)}

    async def scenario(studio: Studio) -> None:
        await studio.answer(0.0, unit="a")
        await studio.idle()

    under_way = replace(experiment(ExperimentMetric.ACCURACY), **(off if "stages" in change else change))
    sample(tmp_path, scenario, under_way=under_way)
    assert stored(tmp_path) == {}


def test_an_answer_of_the_cache_is_compared_as_any_other(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        one, other = await studio.answer(0.25, unit="a"), await studio.answer(0.25, unit="b")
        assert (one.cached, other.cached) == (False, True)
        await studio.idle()
        assert await studio.kept([one, other]) == {0: [1], 1: [1]}

    def cache() -> MemoryCache:
        return MemoryCache(CacheSettings(backend=CacheBackend.MEMORY), asyncio.get_running_loop().call_soon)

    sample(tmp_path, scenario, cache=cache)


def test_a_request_that_the_shadow_cannot_score_is_kept_as_that(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        predictions = [
            await studio.answer(*values, unit=f"{values}", told=False) for values in ([0.25], [0.25, -1.0], [0.5, 0.5])
        ]
        studio.copier.answered("v1", predictions)
        await studio.idle()
        assert await studio.kept(predictions) == {0: [1], 1: [], 2: [1, 1]}

    sample(tmp_path, scenario, v2=ChokesOnBadRows())
    assert stored(tmp_path) == {"pairs.sampled": 3, "pairs.scored": 2, "pairs.failed": 1, "labels": 3}


def test_what_is_dropped_was_sampled_and_is_not_scored(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        predictions = [await studio.answer(0.25, unit=f"{number}", told=False) for number in range(5)]
        studio.copier.answered("v1", predictions)
        await studio.idle()
        assert await studio.kept(predictions) == {0: [1], 1: [1]}

    sample(tmp_path, scenario, max_waiting_rows=2)
    assert stored(tmp_path) == {"pairs.sampled": 5, "pairs.scored": 2, "labels": 5}


def test_what_lacks_a_feature_is_dropped_as_any_other_where_too_many_wait(tmp_path: Path) -> None:
    """Else failures would all count, and what the shadow scores would not."""

    async def scenario(studio: Studio) -> None:
        predictions = [await studio.answer(0.25, unit=f"{number}", told=False) for number in range(5)]
        shadow = studio.dispatcher.runners["v2"]
        features, examples = [{"name": "a"}, {"name": "b"}, {"name": "c"}], {"rows": [[0.0] * 3], "scores": [0.5]}
        own, other = shadow.row_format, make_card(features=features, examples=examples).row_format
        for row_format, some in ((own, predictions[:1]), (other, predictions[1:2])):
            shadow.row_format = row_format
            studio.copier.answered("v1", some)
        assert studio.copier._waiting_rows == 1
        shadow.row_format = own
        studio.copier.answered("v1", predictions[2:3])
        shadow.row_format = other
        studio.copier.answered("v1", predictions[3:])
        shadow.row_format = own
        await studio.idle()
        assert await studio.kept(predictions) == {0: [1], 1: [], 2: [1]}

    sample(tmp_path, scenario, max_waiting_rows=2)
    assert stored(tmp_path) == {"pairs.sampled": 5, "pairs.scored": 2, "pairs.failed": 1, "labels": 5}


def test_what_another_artefact_of_the_shadow_would_say_is_not_taken_for_its_own(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        await studio.answer(0.25, unit="a")
        runners = await started(DoubleRunner("v2", OffBy(offset=0.5), files="1"))
        studio.dispatcher.adopt(studio.dispatcher.state, {**studio.dispatcher.runners, **runners})
        await studio.idle()

    sample(tmp_path, scenario)
    assert stored(tmp_path) == {"pairs.sampled": 1}


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path) -> None:
    plan = experiment(ExperimentMetric.ACCURACY).plan
    assert (plan.cohort_s, kept_of_a_cohort(plan, 128)) == (10, 2)

    async def scenario(studio: Studio) -> None:
        for number in range(5):
            await studio.answer(0.25, unit=f"{number}")
        await studio.idle()

    sample(tmp_path, scenario, max_kept=128)
    assert stored(tmp_path) == {"pairs.sampled": 5, "pairs.scored": 5, "pairs.no_room": 3}


@pytest.mark.parametrize("label_delay_s", [1, 8, 170, 3600, 86_400])
@pytest.mark.parametrize("max_duration_s", [1, 200, 3600, 86_400, 14 * 86_400])
def test_all_cohorts_that_are_kept_at_once_have_no_more_than_there_is_room_for(
    max_duration_s: float, label_delay_s: float
) -> None:
    """Cohorts of all lengths, each filled to its part, and forgotten as late as may be."""
    plan = ExperimentPlan.model_validate(
        {"metric": "accuracy", "design": "shadow", "smallest_effect": 0.1, "max_duration_s": max_duration_s}
        | {"label_delay_s": label_delay_s},
        context=STORED,
    )
    part = kept_of_a_cohort(plan, 100_000)
    most = 0
    for begun in (NOW, NOW + 0.5 * plan.cohort_s, NOW + 0.999):
        # A cohort that was just not forgotten, and the last one that begins before somebody comes again.
        first, last = kept_since(plan, begun), begun + 2 * FORGET_EVERY_S
        cohorts = range(-(-first // plan.cohort_s), int(last // plan.cohort_s) + 1)
        most = max(most, len(cohorts))
    assert most * (part + 1) > 60_000, "and not much less"
    assert most * part <= 100_000


def test_agreement_counts_the_first_row_of_the_first_request_of_each_unit(tmp_path: Path) -> None:
    """Scores of 0.3 become 0.55, which is the other class; all others keep theirs."""

    async def scenario(studio: Studio) -> None:
        for unit, values in (("a", [-0.2, 0.25]), ("b", [0.25, -0.2]), ("c", [0.25]), ("a", [0.25]), ("b", [-0.2])):
            await studio.answer(*values, unit=unit)
            await studio.idle()

    sample(tmp_path, scenario, ExperimentMetric.AGREEMENT)
    assert stored(tmp_path) == {
        "pairs.sampled": 5, "pairs.scored": 5,
        "agreement.count": 3, "agreement.sum": 2, "agreement.squares": 2,
        "v1:agreement.count": 3, "v1:agreement.sum": 3, "v1:agreement.squares": 3,
        "pairs.agreement.count": 3, "pairs.agreement.sum": -1, "pairs.agreement.squares": 1,
    }  # fmt: skip


def test_of_each_unit_the_first_request_tells_whether_it_fails(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        for unit, value in (("a", -1.0), ("a", -1.0), ("b", 0.25), ("b", -1.0), ("c", 0.25)):
            await studio.answer(value, unit=unit)
            await studio.idle()

    rails = (Guardrail(metric=ExperimentMetric.ERROR_RATE, limit=0.1),)
    under_way = experiment(ExperimentMetric.ACCURACY, guardrails=rails)
    sample(tmp_path, scenario, v2=ChokesOnBadRows(), under_way=under_way)
    assert stored(tmp_path) == {
        "pairs.sampled": 5, "pairs.scored": 2, "pairs.failed": 3,
        "error_rate.count": 3, "error_rate.sum": 1, "error_rate.squares": 1,
    }  # fmt: skip


def test_who_has_no_answer_does_not_agree(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        await studio.answer(-1.0, unit="a")
        await studio.idle()

    sample(tmp_path, scenario, ExperimentMetric.AGREEMENT, v2=ChokesOnBadRows())
    found = stored(tmp_path)
    assert (found["pairs.failed"], found["pairs.agreement.sum"]) == (1, -1)


def test_what_could_not_be_added_is_added_once_the_store_is_back(tmp_path: Path) -> None:
    async def scenario(studio: Studio) -> None:
        await studio.answer(0.25, unit="a")
        break_store(tmp_path)
        await studio.idle()
        await studio.answer(0.25, unit="b")
        await studio.idle()
        (tmp_path / "store.db").rmdir()
        await studio.idle()

    sample(tmp_path, scenario)
    assert stored(tmp_path) == {"pairs.sampled": 2, "pairs.scored": 2}


def test_no_more_than_so_many_wait_for_a_store_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_sampler, "MAX_UNSENT", 2)

    async def scenario(studio: Studio) -> None:
        for number in range(4):
            await studio.answer(0.25, unit=f"{number}")
            await eventually(lambda: studio.copier._task is None or studio.copier._task.done())
        await studio.idle()

    sample(tmp_path, scenario)
    assert stored(tmp_path) == {"pairs.sampled": 4, "pairs.scored": 2}
