"""The hop: a batch over a real socket and back, past everything that a version's service may do to it."""

import asyncio
import gc
from pathlib import Path

import numpy as np
import pytest

from configuration.settings import ServiceSettings
from runners.artefacts.card import Card, Task
from runners.artefacts.scores import Scores
from runners.inputs.rows import Rows
from runners.placements.executor import BatchScores
from runners.placements.far_side import EndpointError
from runners.placements.hop import MAX_FAILURE_CHARACTERS, Hop, answer_rows
from runners.placements.remote import RemoteExecutor
from tests.runners.engine_doubles import (
    ChokesOnBadRows,
    ChokesOnEverything,
    GivesNoNumber,
    GivesNoNumberForBadRows,
    Obliging,
)
from tests.runners.placements.far_side import Answer, FarSide, far_side, response, scoring
from tests.support.cards import make_card

PATIENCE_S = 20
CARD = make_card()
CARDS = {1: CARD, 3: make_card(Task.MULTICLASS)}


def batch(*values: float) -> Rows:
    rows = np.zeros((len(values), 2), dtype=np.float32)
    rows[:, 0] = values
    return rows


def executor_at(url: str, card: Card = CARD) -> RemoteExecutor:
    """The executor of a version whose service has two workers."""
    settings = ServiceSettings()
    return RemoteExecutor(Hop(url, card, 2, settings), card, 2, settings, lambda _: None)


async def run(executor: RemoteExecutor, rows: Rows) -> BatchScores | Exception:
    """What the executor reports for a batch, which it must do in time."""
    future: asyncio.Future[BatchScores | Exception] = asyncio.get_running_loop().create_future()
    executor.run(rows, 0.0, future.set_result)
    return await asyncio.wait_for(future, PATIENCE_S)


def hop(
    folder: Path, answer: Answer, *batches: Rows, per_row: int = 1
) -> tuple[list[BatchScores | Exception], FarSide]:
    """What comes back for batches that are sent one after the other, and the server that answered them."""

    async def scenario() -> tuple[list[BatchScores | Exception], FarSide]:
        async with far_side(folder, answer) as (url, side):
            executor = executor_at(url, CARDS[per_row])
            outcomes = [await run(executor, rows) for rows in batches]
            await executor.close()
        return outcomes, side

    return asyncio.run(scenario())


@pytest.mark.parametrize("per_row", [1, 3])
def test_scores_come_back_in_the_order_of_their_rows(per_row: int, tmp_path: Path) -> None:
    engine = Obliging(per_row)
    (outcome,), _ = hop(tmp_path, scoring(engine, CARDS[per_row]), batch(3, 1, 2), per_row=per_row)
    assert isinstance(outcome, BatchScores)
    assert outcome.scores.tolist() == engine.predict(batch(3, 1, 2)).tolist()
    assert outcome.failures == {}


def test_a_batch_that_is_part_of_a_larger_array_arrives_whole(tmp_path: Path) -> None:
    (outcome,), _ = hop(tmp_path, scoring(Obliging(), CARD), batch(1, 2, 3, 4)[::2])
    assert isinstance(outcome, BatchScores)
    assert outcome.scores.tolist() == [1.5, 3.5]


def test_rows_of_float64_arrive_with_all_their_digits(tmp_path: Path) -> None:
    card = make_card(format=3, features=[{"name": "width", "precision": "float64"}, {"name": "count"}])
    rows, seen = np.array([[1_700_000_001.5, 3], [0.1, 2]]), []

    class Watching(Obliging):
        def predict(self, rows: Rows) -> Scores:
            seen.append(rows)
            return super().predict(rows).astype(np.float32)

    async def scenario() -> BatchScores | Exception:
        async with far_side(tmp_path, scoring(Watching(), card)) as (url, _):
            executor = executor_at(url, card)
            outcome = await run(executor, rows)
            await executor.close()
        return outcome

    assert isinstance(asyncio.run(scenario()), BatchScores)
    np.testing.assert_array_equal(seen[-1], rows)


def test_a_connection_is_used_again(tmp_path: Path) -> None:
    outcomes, side = hop(tmp_path, scoring(Obliging(), CARD), *(batch(number) for number in range(5)))
    assert [outcome.scores.tolist() for outcome in outcomes if isinstance(outcome, BatchScores)] == [
        [number + 0.5] for number in range(5)
    ]
    assert (side.requests, side.connections) == (5, 1)


@pytest.mark.parametrize("engine", [ChokesOnBadRows(), GivesNoNumberForBadRows()])
def test_bad_rows_fail_alone_across_the_hop(engine: Obliging, tmp_path: Path) -> None:
    (outcome,), _ = hop(tmp_path, scoring(engine, CARD), batch(1, -1, 3, -2))
    assert isinstance(outcome, BatchScores)
    assert (set(outcome.failures), outcome.broken) == ({1, 3}, False)
    assert outcome.scores[[0, 2]].tolist() == [1.5, 3.5]


@pytest.mark.parametrize(
    ("engine", "reason"), [(ChokesOnEverything(), "out of order"), (GivesNoNumber(), "is not a finite number")]
)
def test_a_wholly_broken_engine_fails_across_the_hop_as_a_whole(engine: Obliging, reason: str, tmp_path: Path) -> None:
    (outcome,), _ = hop(tmp_path, scoring(engine, CARD), batch(*range(4096)))
    assert isinstance(outcome, EndpointError)
    assert reason in str(outcome)


def test_it_crosses_the_hop_whether_rows_are_at_fault(tmp_path: Path) -> None:
    (few,), _ = hop(tmp_path, scoring(ChokesOnBadRows(), CARD), batch(-1, -2))
    (many,), _ = hop(tmp_path, scoring(ChokesOnBadRows(), CARD), batch(*[-1, 1] * 500))
    assert isinstance(few, BatchScores)
    assert isinstance(many, BatchScores)
    assert (set(few.failures), few.broken, many.broken) == ({0, 1}, False, True)


def test_a_reason_of_any_characters_crosses_the_hop(tmp_path: Path) -> None:
    class Rambles(Obliging):
        def predict(self, rows: Rows) -> Rows:
            raise ValueError('näh: "\r\n\0' + "x" * 1000)

    (outcome,), _ = hop(tmp_path, scoring(Rambles(), CARD), batch(1))
    assert isinstance(outcome, EndpointError)
    assert str(outcome).startswith('ValueError: näh: "\r\n\0xx')
    assert len(str(outcome)) == MAX_FAILURE_CHARACTERS


REFUSED: dict[str, bytes] = {
    "too few scores": response(np.zeros(2, dtype=np.float32).tobytes()),
    "too many scores": response(np.zeros(4, dtype=np.float32).tobytes()),
    "no scores": response(b""),
    "half a score": response(b"\0" * 11),
    "an error": response(b"out of memory", status="500 Internal Server Error"),
    "failures that are not JSON": response(b"\0" * 12, more=b"x-failures: {1:\r\n"),
    "failures of no row": response(b"\0" * 12, more=b'x-failures: {"x": "bad"}\r\n'),
    "something that is not HTTP": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED)
def test_an_answer_that_is_not_scores_is_reported(answer: bytes, tmp_path: Path) -> None:
    (outcome,), _ = hop(tmp_path, lambda _number, _body: answer, batch(1, 2, 3))
    assert isinstance(outcome, EndpointError)


def test_an_error_is_reported_with_its_status_and_words_and_not_tried_again(tmp_path: Path) -> None:
    (outcome,), side = hop(tmp_path, lambda _number, _body: REFUSED["an error"], batch(1))
    assert isinstance(outcome, EndpointError)
    assert str(outcome) == "it answered 500: out of memory"
    assert side.requests == 1


def test_a_place_works_again_after_it_failed(tmp_path: Path) -> None:
    score = scoring(Obliging(), CARD)
    outcomes, _ = hop(tmp_path, lambda n, body: REFUSED["half a score"] if n == 1 else score(n, body), *[batch(1)] * 2)
    assert isinstance(outcomes[0], Exception)
    assert isinstance(outcomes[1], BatchScores)


CUT: dict[str, bytes] = {
    "before the response": b"",
    "in the headers": b"HTTP/1.1 200 OK\r\ncontent-le",
    "before the body": response(b"", length=8)[:-1] + b"\n\0",
    "in the body": response(b"\0\0\0\0", length=8),
}


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_a_batch_whose_connection_is_cut_is_sent_once_more(cut: bytes, tmp_path: Path) -> None:
    score = scoring(Obliging(), CARD)
    (outcome,), side = hop(tmp_path, lambda n, body: cut if n == 1 else score(n, body), batch(1, 2))
    assert isinstance(outcome, BatchScores)
    assert outcome.scores.tolist() == [1.5, 2.5]
    assert side.requests == 2


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_a_batch_whose_connection_is_cut_twice_is_reported(cut: bytes, tmp_path: Path) -> None:
    (outcome,), side = hop(tmp_path, lambda _number, _body: cut, batch(1, 2))
    assert isinstance(outcome, EndpointError)
    assert side.requests == 2


def test_a_service_that_is_not_there_is_reported(tmp_path: Path) -> None:
    async def scenario() -> BatchScores | Exception:
        executor = executor_at(f"file://{tmp_path / 'nobody.sock'}")
        outcome = await run(executor, batch(1))
        await executor.close()
        return outcome

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, EndpointError)
    assert str(outcome) == "cannot connect: No such file or directory"


def test_a_batch_for_a_closed_place_is_reported(tmp_path: Path) -> None:
    async def scenario() -> BatchScores | Exception:
        async with far_side(tmp_path, scoring(Obliging(), CARD)) as (url, _):
            executor = executor_at(url)
            await executor.close()
            return await run(executor, batch(1))

    assert isinstance(asyncio.run(scenario()), Exception)


def test_a_closed_place_leaves_nothing_open(tmp_path: Path) -> None:
    complaints: list[str] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        async with far_side(tmp_path, scoring(Obliging(), CARD)) as (url, _):
            executor = executor_at(url)
            await run(executor, batch(1))
            await executor.close()
            del executor
            gc.collect()

    asyncio.run(scenario())
    assert complaints == []


def test_the_far_side_refuses_bytes_that_are_not_whole_rows() -> None:
    with pytest.raises(ValueError, match="reshape"):
        answer_rows(Obliging(), CARD, b"\0" * 12)
    with pytest.raises(ValueError, match="multiple of element size"):
        answer_rows(Obliging(), CARD, b"\0" * 9)


def test_the_far_side_packs_scores_of_every_shape() -> None:
    body, lines = answer_rows(Obliging(per_row=3), CARDS[3], batch(1, 2).tobytes())
    assert np.frombuffer(body, dtype=np.float32).tolist() == [1.5] * 3 + [2.5] * 3
    assert lines == b""
