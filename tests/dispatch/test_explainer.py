"""The explainer over real runners: it adds up, keeps to its share, and refuses what is too much or too late."""

import asyncio
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.explanation_settings import ExplanationSettings
from runners.artefacts.artefact import Artefact
from runners.artefacts.scores import Scores
from runners.errors import DeadlineExceeded, ModelFailure, NotExplainable, NotReady, Overloaded
from runners.explanations.contributions import Contributions, ExplanationMethod, ExplanationScale
from runners.inputs.rows import Rows
from runners.placements.executor import Executor
from shokado.dispatch.explainer import Explainer, ExplanationJob
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from tests.dispatch.double_runners import DoubleRunner, LosableExecutor
from tests.runners.engine_doubles import ChokesOnBadRows, Obliging
from tests.support.backgrounds import with_rows
from tests.support.clock import HandClock
from tests.support.waiting import eventually, in_time

LIVE = 1000.0
"""First value of rows that are somebody's request."""


class Product(Obliging):
    """A row's score is the product of its values; `each` is told of every batch."""

    each: Callable[[Rows], None] = staticmethod(lambda _: None)

    def predict(self, rows: Rows) -> Scores:
        self.each(rows)
        self.sizes.append(len(rows))
        return np.asarray(rows.prod(axis=1), dtype=np.float32)


def background_rows(count: int = 10) -> Rows:
    return np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)


class Bench:
    """A runner, its artefact and the explainer over them. Time passes only in the engine, and while it rests."""

    def __init__(self, runner: DoubleRunner, artefact: Artefact, **settings: Any) -> None:
        self.runner, self.clock = runner, HandClock()
        self.artefacts = {"v1": artefact}
        self.runners = {"v1": runner}
        self.explainer = Explainer(
            ExplanationSettings(**settings), lambda: self.artefacts, lambda: self.runners, self.clock, self._rest
        )

    async def _rest(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def scored(self, *values: float) -> Prediction:
        """A prediction of a row for each value, whose second one is 0.5."""
        rows = np.array([[value, 0.5] for value in values], dtype=np.float32)
        answered = asyncio.Event()
        origin = Origin("v1", "production", 1, self.runner.card)
        prediction = Prediction(
            rows.tobytes(), len(values), lambda _: answered.set(), origin=origin, reason=Reason.SPLIT
        )
        self.runner.submit(prediction)
        await answered.wait()
        return prediction

    def submit(self, prediction: Prediction, deadline: float = inf) -> ExplanationJob:
        job = ExplanationJob(prediction, lambda _: None, deadline)
        self.explainer.submit(job)
        return job

    async def explained(self, *values: float) -> Contributions:
        job = self.submit(await self.scored(*values))
        await eventually(lambda: job.is_over)
        if job.error is not None:
            raise job.error
        assert job.found is not None
        return job.found


async def bench(folder: Path, engine: Obliging, rows: Rows | None, **settings: Any) -> Bench:
    runner = DoubleRunner("v1", engine)
    artefact = with_rows(folder, runner.card, rows)
    runner.card = artefact.card
    await runner.start(runner)
    return Bench(runner, artefact, **settings)


@pytest.mark.parametrize(("count", "method"), [(10, ExplanationMethod.ENUMERATED), (60, ExplanationMethod.SAMPLED)])
def test_contributions_and_base_add_up_to_the_score(count: int, method: ExplanationMethod, tmp_path: Path) -> None:
    rows = background_rows(count)

    async def scenario() -> Contributions:
        shown = await bench(tmp_path, Product(), rows, max_scored_rows=100)
        return await shown.explained(2.0, -3.0)

    found = in_time(scenario())
    used = rows[: found.background_rows].astype(np.float64)
    assert (found.method, found.scale) == (method, ExplanationScale.PROBABILITY)
    assert found.base == pytest.approx([used.prod(axis=1).mean()], abs=1e-6)
    assert found.explained == pytest.approx(np.array([[1.0], [-1.5]]))
    assert found.base + found.contributions.sum(axis=1) == pytest.approx(found.explained, abs=1e-9)
    # Of a product of two, half of what each changes first and half of what it changes second.
    by_hand = [((x - used[:, 0]) * (used[:, 1] + 0.5) / 2).mean() for x in (2.0, -3.0)]
    assert found.contributions[:, 0, 0] == pytest.approx(by_hand, abs=1e-6)
    assert (found.errors is None) == (method is ExplanationMethod.ENUMERATED)


@pytest.mark.parametrize("share", [0.05, 0.5, 1])
def test_whatever_is_asked_for_engines_have_no_more_than_the_share(share: float, tmp_path: Path) -> None:
    longest = 0.0

    async def scenario() -> tuple[float, float]:
        engine = Product()
        shown = await bench(tmp_path, engine, background_rows(100), share=share, max_queue_requests=20)

        def costs(rows: Rows) -> None:
            nonlocal longest
            longest = max(longest, 0.001 * len(rows))
            shown.clock.advance(0.001 * len(rows))

        predictions = [await shown.scored(float(at)) for at in range(20)]
        engine.each = costs
        engine.sizes.clear()
        started = shown.clock.now
        jobs = [shown.submit(prediction) for prediction in predictions]
        await eventually(lambda: all(job.is_over for job in jobs))
        (counts,) = shown.explainer.flush().values()
        assert counts.explained_rows == 20
        # The background once, and each row with one or the other value.
        assert counts.scored_rows == sum(engine.sizes) == 100 + 20 * 200
        assert counts.busy_s == pytest.approx(0.001 * sum(engine.sizes))
        return counts.busy_s, shown.clock.now - started

    busy_s, seconds = in_time(scenario())
    assert busy_s <= share * seconds + longest
    assert busy_s >= 0.9 * share * seconds
    assert longest <= 0.01, "pieces stay short"


def test_a_live_batch_meets_a_piece_and_not_the_queue(tmp_path: Path) -> None:
    """In a real thread, with the loop at work: beside is what runs between a live row's coming and its score."""
    beside_since, most, threads = 0, 0, set[str]()

    def note(rows: Rows) -> None:
        nonlocal beside_since
        if rows[0, 0] != LIVE:
            beside_since += 1
            threads.add(threading.current_thread().name)

    class Threaded(DoubleRunner):
        async def _open_executor(self) -> Executor:
            self.executor = LosableExecutor(self.double, self.card.scores_per_row, inline_s=-1)
            return self.executor

    async def scenario() -> None:
        nonlocal beside_since, most
        engine = Product()
        runner = Threaded("v1", engine)
        artefact = with_rows(tmp_path, runner.card, background_rows(100))
        runner.card = artefact.card
        await runner.start(runner)
        shown = Bench(runner, artefact, share=1, max_queue_requests=1000)
        prediction = await shown.scored(1.0)
        engine.each = note
        jobs = [shown.submit(prediction) for _ in range(50)]
        for _ in range(200):
            beside_since = 0
            await shown.scored(LIVE)
            most = max(most, beside_since)
        await eventually(lambda: all(job.is_over for job in jobs))
        assert all(job.found is not None for job in jobs)
        await runner.drain()

    in_time(scenario())
    assert threads == {"shokado-engine"}, "nothing is scored on the event loop"
    # The one that is under way, and one that may come before the turn of the loop in which the row is sent.
    assert most <= 2


def test_what_does_not_fit_into_the_queue_is_refused_with_when_to_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = Product()
        shown = await bench(tmp_path, engine, background_rows(), max_queue_requests=2)
        engine.each = lambda rows: shown.clock.advance(0.01 * len(rows))
        await shown.explained(1.0)
        prediction = await shown.scored(2.0)
        first, second = (shown.submit(prediction) for _ in range(2))
        with pytest.raises(Overloaded) as refused:
            shown.explainer.check()
        with pytest.raises(Overloaded):
            shown.submit(prediction)
        assert refused.value.retry_after_s > 2, "two rows of 20 scores, with their rests"
        assert (shown.explainer.take_refused(), shown.explainer.take_refused()) == (2, 0)
        await eventually(lambda: first.is_over and second.is_over)
        shown.explainer.check()

    in_time(scenario())


def test_what_would_be_too_late_is_refused_at_once_and_what_is_too_late_is_not_computed(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = Product()
        shown = await bench(tmp_path, engine, background_rows())
        engine.each = lambda rows: shown.clock.advance(0.01 * len(rows))
        await shown.explained(1.0)
        prediction = await shown.scored(2.0)
        began = shown.clock.now
        first = shown.submit(prediction)
        with pytest.raises(Overloaded):
            shown.submit(prediction, deadline=shown.clock.now + 0.1)
        assert shown.explainer.take_refused() == 1
        shown.explainer.flush()
        # Of the loop's own time next to nothing is left.
        late = shown.submit(prediction, deadline=shown.clock.now + 10)
        assert late.alarm is not None
        late.alarm._run()
        assert isinstance(late.error, DeadlineExceeded)
        await eventually(lambda: first.is_over)
        assert shown.explainer.flush()["v1"].waits_s == [0.0, pytest.approx(shown.clock.now - began)]
        engine.sizes.clear()
        await eventually(lambda: shown.explainer._under_way is None)
        assert not engine.sizes

    in_time(scenario())


def test_nothing_more_is_scored_for_a_client_that_has_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = Product()
        shown = await bench(tmp_path, engine, background_rows(100))
        job = shown.submit(await shown.scored(2.0))
        engine.sizes.clear()
        engine.each = lambda rows: shown.clock.advance(0.001 * len(rows))
        await eventually(lambda: engine.sizes)
        job.cancelled = True
        await eventually(lambda: shown.explainer._under_way is None)
        assert sum(engine.sizes) < 100
        assert job.found is None
        assert job.error is None
        assert (await shown.explained(3.0)).explained == pytest.approx(np.array([[1.5]]))

    in_time(scenario())


def test_a_row_that_the_model_cannot_score_with_other_values_fails_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        rows = np.abs(background_rows())
        shown = await bench(tmp_path, ChokesOnBadRows(), rows)
        await shown.explained(0.5)
        # The background is good, and so is what was asked; what is made of both is not.
        choking = Product()
        choking.each = lambda made: (_ for _ in ()).throw(ValueError("odd")) if (made[:, 0] == 3.0).any() else None
        prediction = await shown.scored(3.0)
        shown.runner.executor._engine = choking
        job = shown.submit(prediction)
        await eventually(lambda: job.is_over)
        assert isinstance(job.error, ModelFailure)
        assert (job.error.row, "odd" in job.error.reason) == (0, True)
        assert shown.explainer.flush()["v1"].failed_rows == 1

    in_time(scenario())


def test_a_version_without_background_says_what_gives_it_one_and_takes_it_as_it_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        shown = await bench(tmp_path, Product(), None)
        with pytest.raises(NotExplainable, match=r"shokado models reference paper:v1 <file of rows>"):
            await shown.explained(1.0)
        with_rows(tmp_path, shown.runner.card, background_rows())
        assert (await shown.explained(1.0)).background_rows == 10

    in_time(scenario())


def test_a_damaged_background_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        shown = await bench(tmp_path, Product(), background_rows())
        (tmp_path / "background.json").write_text("{}")
        with pytest.raises(NotExplainable, match="not the file that its card describes"):
            await shown.explained(1.0)

    in_time(scenario())


def test_what_was_replaced_meanwhile_is_not_explained_by_its_successor(tmp_path: Path) -> None:
    async def scenario() -> None:
        shown = await bench(tmp_path, Product(), background_rows())
        prediction = await shown.scored(1.0)
        shown.artefacts = {"v1": with_rows(tmp_path, shown.runner.card, background_rows())}
        job = shown.submit(prediction)
        await eventually(lambda: job.is_over)
        assert isinstance(job.error, NotReady)
        assert "replaced or unloaded" in str(job.error)

    in_time(scenario())


def test_a_share_of_nothing_explains_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        shown = await bench(tmp_path, Product(), background_rows(), share=0)
        with pytest.raises(NotExplainable, match=r"explanations.share is 0"):
            shown.explainer.check()

    in_time(scenario())


def test_who_waits_when_the_server_stops_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        shown = await bench(tmp_path, Product(), background_rows(100))
        prediction = await shown.scored(1.0)
        jobs = [shown.submit(prediction) for _ in range(3)]
        await asyncio.sleep(0)
        await shown.explainer.stop()
        assert all(isinstance(job.error, NotReady) for job in jobs)

    in_time(scenario())
