"""Executors: a batch that fails is cut in halves until only its bad rows fail, at a bounded price."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.engines.engine import Engine
from runners.inputs.rows import Rows
from runners.placements.executor import MAX_FAILING_CALLS, BatchScores, EmbeddedExecutor, score
from tests.runners.engine_doubles import (
    AddsAColumn,
    ChokesOnBadRows,
    ChokesOnEverything,
    GivesNoNumber,
    GivesNoNumberForBadRows,
    LosesARow,
    Obliging,
)

MOST_CALLS = 2 * (MAX_FAILING_CALLS + 1) + 1


def batch(size: int, bad: set[int] | None = None) -> Rows:
    """Rows numbered from 0 on, the bad ones with a minus."""
    rows = np.zeros((size, 2), dtype=np.float32)
    rows[:, 0] = np.arange(size)
    for row in bad or set():
        rows[row, 0] = -row - 1
    return rows


def assert_only_bad_rows_fail(outcome: BatchScores, size: int, bad: set[int], per_row: int) -> None:
    assert set(outcome.failures) == bad
    assert outcome.scores.shape == ((size,) if per_row == 1 else (size, per_row))
    for row in set(range(size)) - bad:
        assert np.all(outcome.scores[row] == row + 0.5)


@pytest.mark.parametrize("per_row", [1, 3])
def test_a_good_batch_is_computed_in_one_call(per_row: int) -> None:
    engine = Obliging(per_row)
    assert_only_bad_rows_fail(score(engine, batch(100), per_row), 100, set(), per_row)
    assert engine.sizes == [100]


@given(data=st.data(), size=st.integers(1, 300), per_row=st.sampled_from([1, 3]))
def test_rows_that_an_engine_chokes_on_fail_alone(data: st.DataObject, size: int, per_row: int) -> None:
    bad = data.draw(st.sets(st.integers(0, size - 1), max_size=6))
    outcome = score(ChokesOnBadRows(per_row), batch(size, bad), per_row)
    assert_only_bad_rows_fail(outcome, size, bad, per_row)
    assert set(outcome.failures.values()) <= {"ValueError: 1 bad rows"}


@given(data=st.data(), size=st.integers(1, 300), per_row=st.sampled_from([1, 3]))
def test_rows_without_a_finite_score_fail_alone_however_many(data: st.DataObject, size: int, per_row: int) -> None:
    bad = data.draw(st.sets(st.integers(0, size - 1)))
    engine = GivesNoNumberForBadRows(per_row)
    outcome = score(engine, batch(size, bad), per_row)
    assert_only_bad_rows_fail(outcome, size, bad, per_row)
    assert all("not a finite number" in reason for reason in outcome.failures.values())
    assert len(engine.sizes) == 1


@pytest.mark.parametrize("engine", [ChokesOnBadRows(), GivesNoNumberForBadRows()])
@pytest.mark.parametrize("size", [1, 2, 20])
def test_rows_are_at_fault_where_a_good_one_is_scored(engine: Engine, size: int) -> None:
    outcome = score(engine, batch(size, set(range(size))), 1, batch(1))
    assert (set(outcome.failures), outcome.broken) == (set(range(size)), False)


@pytest.mark.parametrize("engine", [ChokesOnEverything(), LosesARow(), GivesNoNumber()])
@pytest.mark.parametrize("size", [1, 2, 4096])
def test_a_model_is_at_fault_that_does_not_score_the_good_one_either(engine: Engine, size: int) -> None:
    outcome = score(engine, batch(size), 1, batch(1))
    assert (len(outcome.failures), outcome.broken) == (size, True)


def test_rows_that_were_never_tried_alone_are_not_said_to_be_at_fault() -> None:
    outcome = score(ChokesOnBadRows(), batch(1000, set(range(0, 1000, 2))), 1, batch(1))
    assert outcome.broken
    assert len(outcome.failures) > 500


def test_a_good_row_is_asked_for_only_where_all_others_failed() -> None:
    engine = GivesNoNumberForBadRows()
    score(engine, batch(10, {3}), 1, batch(1))
    assert engine.sizes == [10]


def test_a_huge_score_is_a_score() -> None:
    rows = np.full((5, 2), 3e38, dtype=np.float32)
    outcome = score(Obliging(), rows, 1)
    assert outcome.failures == {}
    assert (outcome.scores == np.float32(3e38)).all()


@pytest.mark.parametrize("per_row", [1, 3])
def test_rows_of_both_kinds_fail_in_one_batch(per_row: int) -> None:
    class ChokesOnRowFive(GivesNoNumberForBadRows):
        def predict(self, rows: Rows) -> Rows:
            if (rows[:, 0] == 5).any():
                raise ValueError("row five")
            return super().predict(rows)

    outcome = score(ChokesOnRowFive(per_row), batch(16, {2, 9}), per_row)
    assert_only_bad_rows_fail(outcome, 16, {2, 5, 9}, per_row)
    assert outcome.failures[5] == "ValueError: row five"


def test_one_bad_row_among_thousands_costs_two_calls_for_each_halving() -> None:
    engine = ChokesOnBadRows()
    assert set(score(engine, batch(4096, {1234}), 1).failures) == {1234}
    assert len(engine.sizes) == 1 + 2 * 12


@pytest.mark.parametrize("size", [1, 2, 3, 63, 64, 65, 4096])
def test_a_wholly_broken_engine_fails_every_row_in_a_bounded_number_of_calls(size: int) -> None:
    engine = ChokesOnEverything()
    outcome = score(engine, batch(size), 1)
    assert outcome.failures == dict.fromkeys(range(size), "RuntimeError: out of order")
    assert len(engine.sizes) <= MOST_CALLS


@pytest.mark.parametrize("engine", [LosesARow(), AddsAColumn(), Obliging(per_row=2)])
def test_scores_of_a_wrong_shape_are_refused(engine: Engine) -> None:
    outcome = score(engine, batch(3), 1)
    assert set(outcome.failures) == {0, 1, 2}
    assert all("shape" in reason for reason in outcome.failures.values())


def test_one_column_is_refused_where_there_are_several() -> None:
    assert set(score(Obliging(per_row=1), batch(2), 3).failures) == {0, 1}


def run_in_executor(engine: Engine, expected_s: float, inline_s: float) -> tuple[BatchScores | Exception, bool]:
    """What the executor gave back, and whether it did so before `run` returned."""

    async def scenario() -> tuple[BatchScores | Exception, bool]:
        executor = EmbeddedExecutor(engine, 1, inline_s)
        future = asyncio.get_running_loop().create_future()
        executor.run(batch(3), expected_s, future.set_result)
        at_once = future.done()
        outcome = await future
        await executor.close()
        return outcome, at_once

    return asyncio.run(scenario())


class KnowsItsThread(Obliging):
    thread: threading.Thread

    def predict(self, rows: Rows) -> Rows:
        self.thread = threading.current_thread()
        return super().predict(rows)


@pytest.mark.parametrize("expected_s", [0.0, 0.001, 0.002])
def test_a_short_batch_is_computed_on_the_event_loop(expected_s: float) -> None:
    engine = KnowsItsThread()
    outcome, at_once = run_in_executor(engine, expected_s, inline_s=0.002)
    assert at_once
    assert engine.thread is threading.main_thread()
    assert isinstance(outcome, BatchScores)
    assert outcome.scores.tolist() == [0.5, 1.5, 2.5]


def test_a_long_batch_is_computed_beside_the_event_loop() -> None:
    engine = KnowsItsThread()
    outcome, at_once = run_in_executor(engine, 0.003, inline_s=0.002)
    assert not at_once
    assert engine.thread is not threading.main_thread()
    assert isinstance(outcome, BatchScores)
    assert outcome.scores.tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize("expected_s", [0.0, 1.0])
def test_an_embedded_place_reports_failures_wherever_it_computes(expected_s: float) -> None:
    outcome, _ = run_in_executor(ChokesOnEverything(), expected_s, inline_s=0.5)
    assert isinstance(outcome, BatchScores)
    assert set(outcome.failures) == {0, 1, 2}
