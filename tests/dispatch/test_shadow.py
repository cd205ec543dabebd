"""Shadow copies over real runners: what is compared, what is dropped, and that live requests go first."""

import asyncio
import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.settings import BatchingSettings, EngineChoice, ShadowSettings, VersionSettings
from runners.artefacts.card import read_card
from runners.batching.job import Job
from runners.engines.engine import open_engine
from runners.errors import Overloaded
from runners.runner import Runner
from runners.version_state import VersionState
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.request import Prediction
from shokado.dispatch.shadow import MAX_JOB_ROWS, Pair, ShadowCopier, ShadowCounts
from shokado.lifecycle import datasets
from tests.conftest import HOME
from tests.dispatch.double_runners import DoubleRunner, OffBy, answer, routed, started
from tests.runners.engine_doubles import AddsAColumn, ChokesOnBadRows, Obliging
from tests.support.clock import HandClock
from tests.support.garbage import NOISE, of_kinds, uncollected
from tests.support.waiting import eventually, in_time

PAIR = Pair("production", "v1", "v2")


class Gallery:
    """A dispatcher whose v1 answers and whose v2 is the shadow, and the copier beside it; it rests no real time."""

    def __init__(self, dispatcher: Dispatcher, clock: HandClock | None = None, **settings: Any) -> None:
        self.dispatcher = dispatcher
        self.rests: list[float] = []
        self.clock = clock or HandClock()
        self.copier = ShadowCopier(dispatcher, ShadowSettings(**settings), self.clock, self._rest)
        self.counts: dict[Pair, ShadowCounts] = {}

    async def _rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def answer(self, *values: float, **asked: Any) -> Prediction:
        prediction = await answer(self.dispatcher, *values, **asked)
        self.copier.answered(prediction.version, [prediction])
        return prediction

    async def counted(self, rows: int, pair: Pair = PAIR) -> ShadowCounts:
        """Everything counted so far, as soon as something became of this many rows of the pair."""
        await eventually(lambda: self._rows(pair) >= rows)
        assert self._rows(pair) == rows
        return self.counts[pair]

    def _rows(self, pair: Pair) -> int:
        for key, new in self.copier.flush().items():
            old = self.counts.get(key, ShadowCounts())
            self.counts[key] = ShadowCounts(
                old.shadow_rows + new.shadow_rows,
                old.shadow_disagreements + new.shadow_disagreements,
                old.shadow_difference_sum + new.shadow_difference_sum,
                max(old.shadow_difference_max, new.shadow_difference_max),
                old.shadow_dropped_rows + new.shadow_dropped_rows,
                old.shadow_failed_rows + new.shadow_failed_rows,
            )
        counts = self.counts.get(pair, ShadowCounts())
        return counts.shadow_rows + counts.shadow_dropped_rows + counts.shadow_failed_rows


async def gallery(v1: Any = None, v2: Any = None, **settings: Any) -> Gallery:
    """The shadow scores each row 0.25 higher, unless it is given."""
    runners = await started(DoubleRunner("v1", v1 or Obliging()), DoubleRunner("v2", v2 or OffBy(offset=0.25)))
    return Gallery(routed(runners, shadow="v2"), **settings)


def double(gallery: Gallery, version: str) -> DoubleRunner:
    runner = gallery.dispatcher.runners[version]
    assert isinstance(runner, DoubleRunner)
    return runner


def test_what_was_answered_is_compared_with_what_the_shadow_says() -> None:
    async def scenario() -> ShadowCounts:
        shown = await gallery()
        await shown.answer(-0.5, -0.125)
        await shown.answer(0.0)
        return await shown.counted(3)

    # Answered: 0, 0.375, 0.5; the shadow: 0.25, 0.625, 0.75. All rows but the first get another class.
    assert in_time(scenario()) == ShadowCounts(3, 2, 0.75, 0.25)


def test_real_versions_are_compared_as_their_engines_score(models: Path) -> None:
    cards = {version: read_card(HOME / "models" / "customers" / version) for version in ("v1", "v2")}
    rows = datasets.load("customers").test.rows[:500]
    scores = {
        version: open_engine(HOME / "models" / "customers" / version, card, EngineChoice.AUTO).predict(rows)
        for version, card in cards.items()
    }

    async def scenario() -> ShadowCounts:
        runners: dict[str, Runner] = {}
        for version, card in cards.items():
            folder = HOME / "models" / "customers" / version
            batching = BatchingSettings(max_batch_rows=64, max_queue_ms=60_000, standing_queue_ms=60_000)
            runners[version] = Runner(version, card, folder, VersionSettings(), batching)
            await runners[version].start(DoubleRunner("observer", Obliging()))
        shown = Gallery(routed(runners, shadow="v2"))
        for start in range(0, 500, 7):
            prediction = await answer(shown.dispatcher, rows=rows[start : start + 7].tobytes())
            shown.copier.answered(prediction.version, [prediction])
        return await shown.counted(500)

    counts = in_time(scenario())
    differences = np.abs(scores["v1"].astype(float) - scores["v2"])
    assert counts.shadow_rows == 500
    assert counts.shadow_disagreements == int(((scores["v1"] >= 0.5) != (scores["v2"] >= 0.5)).sum())
    assert counts.shadow_difference_sum == pytest.approx(differences.sum(), abs=1e-3)
    assert counts.shadow_difference_max == pytest.approx(differences.max(), abs=1e-5)


def test_nothing_is_copied_where_there_is_no_shadow_and_to_the_version_that_answered() -> None:
    async def scenario() -> Gallery:
        shown = await gallery()
        await shown.answer(0.0, version="v2")
        await shown.answer(0.0, environment="staging")
        await shown.answer(0.0)
        await shown.counted(1)
        return shown

    shown = in_time(scenario())
    assert set(shown.counts) == {PAIR}


def test_copies_of_several_requests_travel_in_one_job() -> None:
    shadow = OffBy()

    async def scenario() -> None:
        shown = await gallery(v2=shadow)
        shadow.sizes.clear()
        predictions = [await answer(shown.dispatcher, float(number)) for number in range(20)]
        for prediction in predictions:
            shown.copier.answered(prediction.version, [prediction])
        assert (await shown.counted(20)).shadow_disagreements == 0

    in_time(scenario())
    assert shadow.sizes == [20]


def test_a_large_request_is_compared_in_pieces() -> None:
    shadow = OffBy(offset=1.0)
    rows = 3 * MAX_JOB_ROWS + 5

    async def scenario() -> ShadowCounts:
        shown = await gallery(v2=shadow, max_waiting_rows=rows)
        shadow.sizes.clear()
        await shown.answer(*np.linspace(-2, 2, rows).tolist())
        return await shown.counted(rows)

    counts = in_time(scenario())
    assert counts.shadow_rows == rows
    assert counts.shadow_difference_sum == pytest.approx(rows)
    assert max(shadow.sizes) <= MAX_JOB_ROWS


def test_copies_beyond_the_bound_are_dropped_and_counted() -> None:
    async def scenario() -> ShadowCounts:
        shown = await gallery(max_waiting_rows=10)
        predictions = [await answer(shown.dispatcher, *[0.0] * rows) for rows in (6, 5, 4, 1, 11)]
        for prediction in predictions:
            shown.copier.answered(prediction.version, [prediction])
        return await shown.counted(27)

    counts = in_time(scenario())
    assert (counts.shadow_rows, counts.shadow_dropped_rows) == (10, 17)


def test_room_is_made_by_what_was_compared() -> None:
    async def scenario() -> ShadowCounts:
        shown = await gallery(max_waiting_rows=10)
        for times in range(1, 6):
            await shown.answer(*[0.0] * 10)
            counts = await shown.counted(10 * times)
        return counts

    assert in_time(scenario()).shadow_dropped_rows == 0


class Crowded(DoubleRunner):
    """Has rows waiting for as long as it is told."""

    crowd = 0

    @property
    def waiting_rows(self) -> int:
        return self.crowd or super().waiting_rows


def test_nothing_is_scored_while_live_rows_wait() -> None:
    shadow = OffBy()

    async def scenario() -> None:
        crowded = Crowded("v3", Obliging())
        runners = await started(DoubleRunner("v1", Obliging()), DoubleRunner("v2", shadow), crowded)
        shown = Gallery(routed(runners, shadow="v2"), max_waiting_rows=2)
        shadow.sizes.clear()
        crowded.crowd = 1
        for _ in range(5):
            await shown.answer(0.0)
        await eventually(lambda: len(shown.rests) > 100)
        assert shadow.sizes == []
        crowded.crowd = 0
        counts = await shown.counted(5)
        assert (counts.shadow_rows, counts.shadow_dropped_rows) == (2, 3)

    in_time(scenario())


def test_copies_are_compared_under_steady_live_load() -> None:
    """What leaves with the next turn of the loop is no backlog."""

    async def scenario() -> None:
        shown = await gallery()
        await shown.answer(0.0)
        live = asyncio.ensure_future(steady(shown.dispatcher))
        await shown.counted(1)
        live.cancel()

    async def steady(dispatcher: Dispatcher) -> None:
        while True:
            await answer(dispatcher, 0.0)

    in_time(scenario())


@pytest.mark.parametrize("cpu_share", [0.05, 0.5, 1.0])
def test_shadow_work_keeps_to_its_share_of_the_time(cpu_share: float) -> None:
    clock = HandClock()
    shadow = OffBy()

    async def scenario() -> Gallery:
        shown = await gallery(v2=shadow, cpu_share=cpu_share, clock=clock)
        shadow.meanwhile = lambda: clock.advance(0.003)
        began = clock.now
        for times in range(1, 31):
            await shown.answer(0.0)
            await shown.counted(times)
        await eventually(lambda: len(shown.rests) == 30)
        assert 30 * 0.003 / (clock.now - began) == pytest.approx(cpu_share)
        return shown

    in_time(scenario())


@pytest.mark.parametrize("state", [state for state in VersionState if state is not VersionState.READY])
def test_copies_for_a_shadow_that_is_not_ready_are_dropped(state: VersionState) -> None:
    async def scenario() -> ShadowCounts:
        shown = await gallery()
        double(shown, "v2").state = state
        await shown.answer(0.0, 1.0)
        return await shown.counted(2)

    assert in_time(scenario()) == ShadowCounts(shadow_dropped_rows=2)


def test_copies_for_a_shadow_that_was_unloaded_are_dropped() -> None:
    async def scenario() -> ShadowCounts:
        shown = await gallery()
        await shown.answer(0.0)
        runners = {"v1": shown.dispatcher.runners["v1"]}
        shown.dispatcher.adopt(shown.dispatcher.state, runners)
        return await shown.counted(1)

    assert in_time(scenario()) == ShadowCounts(shadow_dropped_rows=1)


class Overwhelmed(DoubleRunner):
    """Refuses every job once it is asked for more than it can do."""

    overwhelmed = False

    def submit(self, job: Job) -> None:
        if self.overwhelmed:
            raise Overloaded(1.0)
        super().submit(job)


def test_copies_that_an_overloaded_shadow_refuses_are_dropped() -> None:
    async def scenario() -> ShadowCounts:
        shadow = Overwhelmed("v2", Obliging())
        shown = Gallery(routed(await started(DoubleRunner("v1", Obliging()), shadow), shadow="v2"))
        shadow.overwhelmed = True
        await shown.answer(0.0)
        return await shown.counted(1)

    assert in_time(scenario()) == ShadowCounts(shadow_dropped_rows=1)


def test_copies_are_dropped_when_the_shadows_place_is_lost() -> None:
    async def scenario() -> ShadowCounts:
        shown = await gallery()
        double(shown, "v2").executor.lost = True
        await shown.answer(0.0)
        return await shown.counted(1)

    assert in_time(scenario()) == ShadowCounts(shadow_dropped_rows=1)


def test_a_row_that_the_shadow_cannot_score_fails_its_own_request_alone() -> None:
    async def scenario() -> ShadowCounts:
        shown = await gallery(v2=ChokesOnBadRows())
        predictions = [await answer(shown.dispatcher, *values) for values in ([1.0], [2.0, -1.0], [3.0, 4.0, 5.0])]
        for prediction in predictions:
            shown.copier.answered(prediction.version, [prediction])
        return await shown.counted(6)

    assert in_time(scenario()) == ShadowCounts(shadow_rows=4, shadow_failed_rows=2)


def test_scores_of_the_wrong_shape_are_a_failure() -> None:
    async def scenario() -> ShadowCounts:
        shown = await gallery()
        double(shown, "v2").executor._engine = AddsAColumn()
        await shown.answer(1.0)
        return await shown.counted(1)

    assert in_time(scenario()) == ShadowCounts(shadow_failed_rows=1)


def test_a_copy_goes_to_the_shadow_of_the_moment_when_it_was_offered() -> None:
    third = OffBy()

    async def scenario() -> dict[Pair, ShadowCounts]:
        runners = await started(
            DoubleRunner("v1", Obliging()), DoubleRunner("v2", OffBy(offset=1.0)), DoubleRunner("v3", third)
        )
        shown = Gallery(routed(runners, shadow="v2"))
        await shown.answer(0.25)
        production = replace(shown.dispatcher.state.environments["production"], shadow="v3")
        environments = {**shown.dispatcher.state.environments, "production": production}
        shown.dispatcher.adopt(replace(shown.dispatcher.state, environments=environments), runners)
        await shown.answer(0.25)
        await shown.counted(1)
        await shown.counted(1, Pair("production", "v1", "v3"))
        return shown.counts

    counts = in_time(scenario())
    assert counts == {
        PAIR: ShadowCounts(1, 0, 1.0, 1.0),
        Pair("production", "v1", "v3"): ShadowCounts(1),
    }


def test_an_environment_that_is_gone_when_the_answer_is_given_has_no_shadow() -> None:
    async def scenario() -> None:
        shown = await gallery()
        prediction = await answer(shown.dispatcher, 0.0)
        shown.dispatcher.adopt(replace(shown.dispatcher.state, environments={}), shown.dispatcher.runners)
        shown.copier.answered(prediction.version, [prediction])
        assert shown.copier.flush() == {}

    in_time(scenario())


def test_stopping_forgets_the_copies_even_one_that_is_being_scored() -> None:
    async def scenario() -> None:
        shown = await gallery()
        shadow = double(shown, "v2")
        held: list[Any] = []
        run = shadow.executor.run
        shadow.executor.run = lambda *batch: held.append(batch)  # type: ignore[method-assign]
        await shown.answer(0.0)
        await eventually(lambda: held)
        await shown.answer(1.0)
        await shown.copier.stop()
        run(*held[0])
        await asyncio.sleep(0)
        assert len(held) == 1
        assert shown.copier.flush() == {}

    in_time(scenario())


def test_stopping_what_never_started() -> None:
    async def scenario() -> None:
        await (await gallery()).copier.stop()

    in_time(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("shadow", [Obliging, ChokesOnBadRows])
def test_nothing_of_a_copied_request_is_left_to_the_garbage_collector(shadow: type[Obliging]) -> None:
    async def scenario() -> int:
        runner = Overwhelmed("v2", shadow())
        runners = await started(DoubleRunner("v1", Obliging()), runner)
        shown = Gallery(routed(runners, shadow="v2"), max_waiting_rows=50)
        with uncollected():
            for times in range(1, 2001):
                runner.overwhelmed = times > 1800
                if times == 1900:
                    runner.state = VersionState.DRAINING
                await shown.answer(-1.0 if times % 10 == 0 else 1.0)
                if times % 60 == 0:
                    await shown.counted(times)
            await shown.counted(2000)
            await eventually(lambda: shown.copier._task is None or shown.copier._task.done())
            assert of_kinds(Job) == []
            return gc.collect()

    assert in_time(scenario()) < NOISE
