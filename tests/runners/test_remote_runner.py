"""The runner of a remote version, over real servers on loopback: ready while they are, away while not, and back."""

import asyncio
import gc
import time
import weakref
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from configuration.settings import BatchingSettings, Placement, RemoteSettings, VersionSettings
from runners import remote_runner
from runners.artefacts.card import Card
from runners.artefacts.scores import Scores
from runners.batching.job import Job
from runners.errors import NotReady, Unreachable
from runners.inputs.rows import Rows
from runners.placements import endpoint as endpoints
from runners.placements.remote import RemoteCounts
from runners.remote_runner import RemoteRunner
from runners.version_state import VersionState
from tests.runners.engine_doubles import Obliging
from tests.runners.other_server import OtherServer, answers, card_of_doubles, cut, first, hang, serving
from tests.runners.placements.far_side import far_side, response, scoring
from tests.support.quiet import Quiet
from tests.support.server import free_port
from tests.support.waiting import in_time, until

SMALL = BatchingSettings(max_batch_rows=64, max_queue_ms=60_000, standing_queue_ms=60_000)
CARD = card_of_doubles()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes and pauses of milliseconds."""
    for name, seconds in {"PROBE_EVERY_S": 0.02, "SECOND_PROBE_S": 0.01, "FIRST_PAUSE_S": 0.01}.items():
        monkeypatch.setattr(remote_runner, name, seconds)
    monkeypatch.setattr(endpoints, "TRUST_S", 0.0)


def runner_of(url: str, card: Card = CARD, **settings: Any) -> RemoteRunner:
    remote = RemoteSettings.model_validate({"url": url, "model": "m", "version": "v1", "eject_for_s": 0.05, **settings})
    placed = VersionSettings(placement=Placement.REMOTE, remote=remote)
    return RemoteRunner("v1", card, placed, SMALL, remote)


@asynccontextmanager
async def started(url: str, card: Card = CARD, **settings: Any) -> Any:
    runner = runner_of(url, card, **settings)
    await runner.start(Quiet())
    try:
        yield runner
    finally:
        await runner.drain()
        assert runner.state is VersionState.CLOSED


def submit(runner: RemoteRunner, *values: float, deadline: float = float("inf")) -> "asyncio.Future[Job]":
    rows = np.zeros((len(values), 2), dtype=np.float32)
    rows[:, 0] = values
    answered: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
    runner.submit(Job(rows.tobytes(), len(rows), answered.set_result, deadline))
    return answered


def test_it_is_ready_when_the_other_server_is_and_scores_rightly() -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server, started(server.url) as runner:
            assert (runner.state, runner.failure) == (VersionState.READY, None)
            jobs = [submit(runner, number, number + 1) for number in range(50)]
            scores = [(await job).scores for job in jobs]
            assert [one.tolist() for one in scores if one is not None] == [[n + 0.5, n + 1.5] for n in range(50)]
            assert (runner.placement, runner.engine) == (Placement.REMOTE, "remote")
            assert runner.address == f"{server.url}/v2/models/m/versions/v1"

    in_time(scenario())


def test_a_service_that_cannot_serve_the_version_has_failed_until_another_one_can(tmp_path: Path) -> None:
    mended, right = False, scoring(Obliging(), CARD)

    def answer(number: int, body: bytes) -> bytes:
        return right(number, body) if mended else response(b"it kills its process", status="501 Not Implemented")

    async def scenario() -> None:
        nonlocal mended
        async with far_side(tmp_path, answer) as (url, _):
            runner = RemoteRunner("v1", CARD, VersionSettings(placement=Placement.SERVICE), SMALL, url)
            await runner.start(Quiet())
            assert (runner.state, runner.failure) == (VersionState.FAILED, "it kills its process")
            mended = True
            await until(lambda: runner.ready)
            assert runner.failure is None
            mended = False
            await until(lambda: runner.state is VersionState.FAILED)
            await runner.drain()
            assert runner.state is VersionState.CLOSED

    in_time(scenario())


def test_requests_that_wait_travel_together() -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server, started(server.url) as runner:
            warmed = len(server.sizes)
            await asyncio.gather(*(submit(runner, number) for number in range(30)))
            assert server.sizes[warmed:] == [30]

    in_time(scenario())


def test_batches_are_no_larger_than_the_other_server_takes() -> None:
    async def small(server: OtherServer, request: Any, rows: Rows) -> Any:
        return await (answers(413)(server, request, rows) if len(rows) > 20 else server.answer(rows))

    async def scenario() -> None:
        async with serving(OtherServer(trouble=small)) as server, started(server.url) as runner:
            warmed = len(server.sizes)
            job = await submit(runner, *range(60))
            assert (job.error, job.filled) == (None, 60)
            assert server.sizes[warmed:] == [16, 16, 16, 12]

    in_time(scenario())


def test_the_latest_deadline_of_a_batch_is_passed_on() -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server, started(server.url) as runner:
            now = time.monotonic()
            await asyncio.gather(*(submit(runner, 1, deadline=now + seconds) for seconds in (2, 4, 3)))
            assert 3000 < int(server.headers[-1]["X-Request-Deadline-Ms"]) <= 4000

    in_time(scenario())


def test_it_starts_before_the_other_server_and_becomes_ready_with_it() -> None:
    async def scenario() -> None:
        port = free_port()
        async with started(f"http://127.0.0.1:{port}") as runner:
            assert (runner.state, runner.failure) == (VersionState.AWAY, "cannot connect: Connection refused")
            with pytest.raises(NotReady, match="v1 is away"):
                submit(runner, 1)
            async with serving(OtherServer(ready=False), port) as server:
                await until(lambda: runner.failure.startswith("not ready: it answered 503"))
                server.ready = True
                await until(lambda: runner.ready)
                assert (await submit(runner, 1)).error is None

    in_time(scenario())


def test_it_stops_while_the_other_server_is_away() -> None:
    async def scenario() -> None:
        async with started(f"http://127.0.0.1:{free_port()}") as runner:
            assert runner.state is VersionState.AWAY
            assert runner.flush() == RemoteCounts()

    in_time(scenario())


def test_it_stops_while_it_waits_for_the_other_server() -> None:
    async def scenario() -> None:
        async with serving(OtherServer(trouble=hang)) as server:
            runner = runner_of(server.url)
            starting = asyncio.ensure_future(runner.start(Quiet()))
            await until(lambda: server.sizes)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await runner.drain()
            assert runner.state is VersionState.CLOSED

    in_time(scenario())


def test_wrong_scores_of_the_examples_keep_it_away() -> None:
    class OffByOne(Obliging):
        def predict(self, rows: Rows) -> Scores:
            return super().predict(rows) + np.float32(1)

    async def scenario() -> None:
        async with serving(OtherServer(engine=OffByOne())) as server:
            async with started(server.url) as runner:
                assert runner.failure == "it does not score the examples as the version's card says"
                server.engine = Obliging()
                await until(lambda: runner.ready)
            unverified = CARD.model_copy(update={"verification": {}, "files": {}})
            server.engine = OffByOne()
            async with started(server.url, unverified) as runner:
                scores = (await submit(runner, 1)).scores
                assert scores is not None
                assert scores.tolist() == [2.5]

    in_time(scenario())


def test_a_server_that_fails_is_ejected_its_jobs_say_so_and_it_comes_back() -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server, started(server.url, eject_after_failures=3) as runner:
            server.trouble = answers(500, "out of order")
            errors = []
            while runner.ready:
                errors.append((await submit(runner, 1)).error)
            causes = [error.cause for error in errors if isinstance(error, Unreachable)]
            assert causes == ["it answered 500: out of order"] * 3
            assert (runner.state, runner.failure) == (VersionState.AWAY, "ejected: it answered 500: out of order")
            server.trouble = None
            await until(lambda: runner.ready)
            assert runner.failure is None
            assert (await submit(runner, 1)).error is None
            counts = runner.flush()
            assert (counts.failed, counts.ejections, counts.scored) == (3, 1, 1)

    in_time(scenario())


def test_while_it_fails_its_trial_it_stays_away() -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server, started(server.url, eject_after_failures=1) as runner:
            failing = len(server.sizes) + 7
            server.trouble = first(failing, answers(500))
            await submit(runner, 1)
            while len(server.sizes) < failing:
                assert runner.state is VersionState.AWAY
                await asyncio.sleep(0.001)
            await until(lambda: runner.ready)

    in_time(scenario())


def test_what_waits_when_it_is_ejected_fails_without_being_sent() -> None:
    async def scenario() -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        async def hold_and_cut(server: OtherServer, request: Any, rows: Rows) -> Any:
            arrived.set()
            await go.wait()
            return await cut(server, request, rows)

        settings: dict[str, Any] = {"eject_after_failures": 1, "connections": 1, "eject_for_s": 5}
        async with serving(OtherServer()) as server, started(server.url, **settings) as runner:
            warmed = len(server.sizes)
            server.trouble = hold_and_cut
            sent = submit(runner, 1)
            await arrived.wait()
            waiting = [submit(runner, *[1.0] * 40) for _ in range(10)]
            go.set()
            for job in await asyncio.gather(sent, *waiting):
                assert isinstance(job.error, Unreachable)
            assert len(server.sizes) - warmed <= 2

    in_time(scenario())


def test_a_server_that_stops_being_ready_is_noticed_without_any_traffic() -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server, started(server.url) as runner:
            server.ready = False
            await until(lambda: runner.state is VersionState.AWAY)
            assert runner.failure == "it does not say that it is ready" or runner.failure.startswith("not ready")
            server.ready = True
            await until(lambda: runner.ready)

    in_time(scenario())


def test_one_probe_that_fails_is_no_reason_to_leave() -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server, started(server.url) as runner:
            for _ in range(5):
                await until(server.answers_probes(1, ready=False))
                await until(server.answers_probes(2, ready=True))
                assert runner.ready

    in_time(scenario())


def test_draining_answers_what_is_there() -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server:
            runner = runner_of(server.url)
            await runner.start(Quiet())
            jobs = [submit(runner, number) for number in range(10)]
            await runner.drain()
            assert [(await job).error for job in jobs] == [None] * 10
            with pytest.raises(NotReady, match="v1 is closed"):
                submit(runner, 1)

    in_time(scenario())


def test_a_closed_runner_leaves_nothing_behind() -> None:
    complaints: list[str] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        async with serving(OtherServer()) as server:
            runner = runner_of(server.url)
            await runner.start(Quiet())
            await submit(runner, 1)
            await runner.drain()
            gone = weakref.ref(runner)
            del runner
            await asyncio.sleep(0)  # the loop's turn in which the drain ended still knows it
            gc.collect()
            assert gone() is None

    in_time(scenario())
    assert complaints == []


@pytest.mark.parametrize("trouble", [None, answers(404), answers(503)], ids=["scores", "404", "503"])
def test_batches_leave_no_cycles_behind(trouble: Any) -> None:
    async def scenario() -> None:
        async with serving(OtherServer()) as server, started(server.url, eject_after_failures=1000) as runner:
            server.trouble = trouble
            await submit(runner, 1)
            gc.collect()
            gc.disable()
            try:
                for _ in range(15):
                    assert ((await submit(runner, 1)).error is None) == (trouble is None)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                left = Counter(type(one).__name__ for one in gc.garbage)
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            # The test's own jobs and futures know each other.
            known = {"Job", "Future", "Unreachable", "builtin_function_or_method", "tuple"}
            assert {name for name, count in left.items() if count >= 15} <= known

    # As workers have it: connections of asyncio's own loop know themselves.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(asyncio.wait_for(scenario(), 30))
