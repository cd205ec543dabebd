"""The runner with the real engine: what may be asked of it in each state, and that every answer is the right one."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.testing import assert_allclose

from configuration.settings import BatchingSettings, EngineChoice, VersionSettings
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import CardError, FileKind
from runners.batching.job import Job
from runners.batching.observer import EndedBatch
from runners.engines.engine import open_engine
from runners.errors import DeadlineExceeded, NotReady
from runners.inputs.rows import Rows
from runners.runner import Runner
from runners.version_state import VersionState
from shokado.lifecycle import datasets
from tests.runners.conftest import FindArtefact
from tests.support.waiting import in_time

# Warming up with batches of thousands of rows takes a while and teaches these tests nothing.
SMALL = BatchingSettings(max_batch_rows=64, max_queue_ms=60_000, standing_queue_ms=60_000)


@dataclass
class BatchLog:
    """An observer that keeps the size of each batch."""

    rows: list[int] = field(default_factory=list)

    def batch(self, batch: EndedBatch) -> None:
        self.rows.append(len(batch.rows))


def runner_of(
    artefact: Artefact,
    engine: EngineChoice = EngineChoice.AUTO,
    batching: BatchingSettings = SMALL,
) -> Runner:
    return Runner(artefact.version, artefact.card, artefact.folder, VersionSettings(engine=engine), batching)


async def started(runner: Runner) -> Runner:
    await runner.start(BatchLog())
    return runner


def submit(runner: Runner, rows: Rows, deadline: float = float("inf")) -> asyncio.Future[Job]:
    """Hand in rows; the future has the job when it is answered, and cannot be answered twice."""
    answered: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
    runner.submit(Job(rows.tobytes(), len(rows), answered.set_result, deadline))
    return answered


def customers(count: int) -> Rows:
    return datasets.load("customers").test.rows[:count]


def test_a_runner_goes_from_new_to_closed_and_takes_jobs_only_when_it_is_ready(trees: Artefact) -> None:
    async def scenario() -> None:
        runner = runner_of(trees)
        seen = [runner.state]
        with pytest.raises(NotReady, match="v1 is starting"):
            submit(runner, customers(1))
        starting = asyncio.ensure_future(started(runner))
        await starting
        seen.append(runner.state)
        assert runner.ready
        answered = submit(runner, customers(1))
        draining = asyncio.ensure_future(runner.drain())
        await asyncio.sleep(0)
        seen.append(runner.state)
        assert not runner.ready
        with pytest.raises(NotReady, match="v1 is draining"):
            submit(runner, customers(1))
        await draining
        seen.append(runner.state)
        with pytest.raises(NotReady, match="v1 is closed"):
            submit(runner, customers(1))
        assert (await answered).error is None
        assert seen == [VersionState.STARTING, VersionState.READY, VersionState.DRAINING, VersionState.CLOSED]

    in_time(scenario())


@pytest.mark.parametrize(("dataset", "version"), [("customers", "v1"), ("customers", "v2"), ("iris", "v1")])
def test_every_job_gets_the_scores_of_its_own_rows(dataset: str, version: str, artefact_of: FindArtefact) -> None:
    artefact = artefact_of(dataset, version)
    rows = np.resize(datasets.load(dataset).test.rows, (2000, len(artefact.card.features)))
    expected = open_engine(artefact.folder, artefact.card, EngineChoice.ONNXRUNTIME).predict(rows)
    random = np.random.default_rng(5)
    sizes = random.choice([1, 1, 1, 2, 7, 64, 65, 300], size=60)
    starts = [int(random.integers(0, len(rows) - size)) for size in sizes]

    async def scenario() -> list[Job]:
        runner = await started(runner_of(artefact))
        answers = []
        for start, size in zip(starts, sizes, strict=True):
            answers.append(submit(runner, rows[start : start + size]))
            if start % 3 == 0:
                await asyncio.sleep(0)
        jobs = await asyncio.gather(*answers)
        await runner.drain()
        return jobs

    for job, start, size in zip(in_time(scenario()), starts, sizes, strict=True):
        assert job.error is None
        assert job.scores is not None
        assert_allclose(job.scores, expected[start : start + size], rtol=1e-5, atol=1e-6)


def test_jobs_that_arrive_together_travel_in_one_batch(trees: Artefact) -> None:
    async def scenario() -> list[int]:
        runner, log = runner_of(trees), BatchLog()
        await runner.start(log)
        await asyncio.gather(*(submit(runner, customers(2)) for _ in range(5)))
        await runner.drain()
        return log.rows

    assert in_time(scenario()) == [10]


def test_a_runner_computes_long_batches_beside_the_event_loop(trees: Artefact) -> None:
    batching = BatchingSettings(max_batch_rows=64, inline_ms=0)

    async def scenario() -> Job:
        runner = await started(runner_of(trees, batching=batching))
        answered = submit(runner, customers(64))
        await asyncio.sleep(0)  # the batch is sent; what comes back from beside the loop takes another turn of it
        assert not answered.done()
        job = await answered
        await runner.drain()
        return job

    assert in_time(scenario()).error is None


def test_a_job_whose_deadline_is_over_is_refused(trees: Artefact) -> None:
    async def scenario() -> None:
        runner = await started(runner_of(trees))
        with pytest.raises(DeadlineExceeded):
            await submit(runner, customers(1), deadline=0.0)
        await runner.drain()

    in_time(scenario())


def test_draining_answers_all_that_is_queued(trees: Artefact) -> None:
    async def scenario() -> None:
        runner = await started(runner_of(trees))
        answers = [submit(runner, customers(500)) for _ in range(10)]
        assert runner.waiting_rows == 5000
        await runner.drain()
        assert runner.waiting_rows == 0
        assert all(answer.done() and answer.result().error is None for answer in answers)

    in_time(scenario())


def test_draining_a_runner_that_is_not_ready_does_nothing(trees: Artefact) -> None:
    async def scenario() -> None:
        runner = runner_of(trees)
        await runner.drain()
        states = [runner.state]
        await started(runner)
        await runner.drain()
        await runner.drain()
        states.append(runner.state)
        assert states == [VersionState.STARTING, VersionState.CLOSED]

    in_time(scenario())


def failed_start(runner: Runner) -> Exception:
    """Why the runner did not start, which it must remember."""
    with pytest.raises(Exception) as refused:
        in_time(started(runner))
    assert runner.state is VersionState.FAILED
    assert runner.failure == f"{type(refused.value).__name__}: {refused.value}"
    assert runner.waiting_rows == 0
    with pytest.raises(NotReady, match="v1 is failed"):
        runner.submit(Job(b"", 1, lambda job: None))
    return refused.value


def test_a_runner_of_a_damaged_file_remembers_why_it_did_not_start(own_trees: Artefact) -> None:
    path = own_trees.folder / FileKind.ONNX.file_name
    path.write_bytes(path.read_bytes()[:-1])
    error = failed_start(runner_of(own_trees))
    assert isinstance(error, CardError)
    assert str(path) in str(error)


def test_a_runner_of_an_engine_that_the_artefact_lacks_does_not_start(artefact_of: FindArtefact) -> None:
    net = artefact_of("customers", "v2")
    artefact = Artefact("v1", net.tag, net.folder, net.card)
    assert isinstance(failed_start(runner_of(artefact, EngineChoice.XGBOOST)), CardError)


def test_a_card_whose_examples_score_differently_is_refused(trees: Artefact) -> None:
    examples = trees.card.examples
    wrong = examples.model_copy(update={"scores": tuple(1 - float(str(score)) for score in examples.scores)})
    artefact = Artefact("v1", trees.tag, trees.folder, trees.card.model_copy(update={"examples": wrong}))
    error = failed_start(runner_of(artefact))
    assert isinstance(error, CardError)
    assert str(trees.folder) in str(error)


def test_a_card_that_claims_another_number_of_classes_is_refused(trees: Artefact, artefact_of: FindArtefact) -> None:
    iris = artefact_of("iris", "v1").card
    card = trees.card.model_copy(update={"task": iris.task, "classes": iris.classes})
    assert failed_start(runner_of(Artefact("v1", trees.tag, trees.folder, card)))
