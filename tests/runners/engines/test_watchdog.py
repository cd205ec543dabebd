"""The watch: engines that never end hold up neither the event loop nor other requests for long, and are told of."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.settings import BatchingSettings, EngineChoice, VersionSettings
from runners.artefacts.card import Card
from runners.artefacts.scores import Scores
from runners.batching.job import Job
from runners.engines.engine import Interrupted, OnnxEngine
from runners.engines.watchdog import Watchdog, Watched
from runners.errors import DeadlineExceeded, NotReady, Overran
from runners.inputs.rows import Rows
from runners.placements.executor import WARY_BATCHES, BatchScores, EmbeddedExecutor, Executor
from runners.runner import Runner
from runners.version_state import VersionState
from shokado.dialects.head import RequestHead
from shokado.transports.hop_handler import HopHandler
from tests.runners.engine_doubles import Obliging
from tests.runners.looping import FOREVER, looping_artefact, row
from tests.runners.other_server import card_of_doubles
from tests.support.quiet import Quiet
from tests.support.waiting import in_time, until, wait_until
from tests.transports.memory_exchange import MemoryExchange

TICK_S = 0.01
MAX_RUN_S = 0.3
SMALL = BatchingSettings(max_batch_rows=8, max_run_s=MAX_RUN_S, inline_ms=50)


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return looping_artefact(tmp_path)


@pytest.fixture
def looping(card: Card, tmp_path: Path) -> OnnxEngine:
    return OnnxEngine(tmp_path / "model.onnx", card)


@pytest.fixture
def ended() -> list[str]:
    """Why the process would have ended."""
    return []


@pytest.fixture
def watch(tmp_path: Path, ended: list[str]) -> Watchdog:
    return Watchdog(tmp_path, ended.append, TICK_S)


class Stuck(Obliging):
    """Comes back from a bad row when it is let go on, and heeds nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def predict(self, rows: Rows) -> Scores:
        if (rows[:, 0] < 0).any():
            self.go_on.wait(30)
        return super().predict(rows)


class OverStuck(Runner):
    """A runner over an engine that can be stuck."""

    def __init__(self, card: Card, watch: Watchdog, stuck: Stuck, batching: BatchingSettings = SMALL) -> None:
        self.lost: list[str] = []
        super().__init__("v1", card, Path("nowhere"), VersionSettings(), batching, watch, self.lost.append)
        self.stuck, self.watch = stuck, watch

    async def _open_executor(self) -> Executor:
        inline_s, max_run_s = self._batching.inline_ms / 1000, self._batching.max_run_s
        return EmbeddedExecutor(
            self.stuck, 1, inline_s, version="v1", max_run_s=max_run_s, watch=self.watch, holder=self
        )


def submit(runner: Runner, rows: Rows, deadline_s: float | None = None) -> "asyncio.Future[Job]":
    answered: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
    deadline = float("inf") if deadline_s is None else time.monotonic() + deadline_s
    runner.submit(Job(rows.tobytes(), len(rows), answered.set_result, deadline))
    return answered


async def longest_pause(done: "asyncio.Future[Any]") -> float:
    """For how long the event loop stood still until then."""
    longest, last = 0.0, time.monotonic()
    while not done.done():
        await asyncio.sleep(0)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


def test_onnx_runtime_is_interrupted_in_a_loop_without_end_and_works_again(looping: OnnxEngine) -> None:
    ended: list[type[BaseException]] = []

    def call() -> None:
        try:
            looping.predict(row(1, FOREVER))
        except BaseException as error:
            ended.append(type(error))

    calling = threading.Thread(target=call)
    calling.start()
    for still in (False, True):
        time.sleep(0.1)
        assert calling.is_alive(), "only the call that is meant ends"
        looping.interrupt(lambda still=still: still)  # type: ignore[misc]
    calling.join(20)
    assert ended == [Interrupted]
    assert looping.predict(row(7, 3)).tolist() == [7.5]


def test_the_event_loop_stands_still_for_a_moment_at_most_and_other_requests_are_answered(
    card: Card, tmp_path: Path, watch: Watchdog
) -> None:
    async def scenario() -> None:
        settings = VersionSettings(engine=EngineChoice.ONNXRUNTIME)
        runner = Runner("v1", card, tmp_path, settings, SMALL, watch)
        await runner.start(Quiet())
        assert (await submit(runner, row(1))).scores is not None
        endless = submit(runner, row(1, FOREVER))
        assert await longest_pause(endless) < 2.0
        job = await endless
        assert isinstance(job.error, Overran)
        await until(lambda: runner.ready)
        assert runner.failure is None
        job = await submit(runner, row(7, 3))
        assert job.scores is not None
        assert job.scores.tolist() == [7.5]
        # From now on in the thread, where the loop does not even notice.
        endless = submit(runner, row(1, FOREVER), deadline_s=0.1)
        assert await longest_pause(endless) < 0.2
        assert isinstance((await endless).error, DeadlineExceeded)
        await runner.drain()
        assert runner.take_overruns() in ({"moved": 1, "failed": 1}, {"moved": 1, "failed": 2})

    in_time(scenario())


def test_a_version_is_away_while_its_engine_is_stuck_and_back_when_it_is(watch: Watchdog) -> None:
    async def scenario() -> None:
        stuck = Stuck()
        runner = OverStuck(card_of_doubles(), watch, stuck, SMALL.model_copy(update={"inline_ms": 0.0}))
        await runner.start(Quiet())
        timely = submit(runner, row(-1), deadline_s=0.1)
        endless = submit(runner, row(1))
        assert isinstance((await timely).error, DeadlineExceeded)
        assert isinstance((await endless).error, Overran), "it travelled with the other"
        assert runner.state is VersionState.AWAY
        assert runner.failure == "a batch took longer than batching.max_run_s: 0.3 s"
        with pytest.raises(NotReady, match="v1 is away"):
            submit(runner, row(1))
        await until(lambda: runner.lost)
        assert runner.lost == ["a thread of this worker is lost: the engine of version v1 does not come back"]
        assert runner.failure.endswith("and its engine does not come back")
        stuck.go_on.set()
        await until(lambda: runner.ready)
        assert runner.failure is None
        assert (await submit(runner, row(1))).error is None
        assert runner.take_overruns() == {"failed": 1, "lost": 1}
        await runner.drain()

    in_time(scenario())


def test_a_stuck_engine_holds_up_no_stop_and_no_start(watch: Watchdog) -> None:
    async def scenario() -> None:
        runner = OverStuck(card_of_doubles(), watch, Stuck(), SMALL.model_copy(update={"inline_ms": 0.0}))
        await runner.start(Quiet())
        answers = [submit(runner, row(-1)), submit(runner, row(1))]
        await runner.drain()
        assert runner.state is VersionState.CLOSED
        assert [type((await answer).error) for answer in answers] == [Overran, Overran]
        examples = {"rows": [[-1.0, 0.0]], "scores": [-0.5]}
        runner = OverStuck(card_of_doubles(examples=examples), watch, Stuck())
        with pytest.raises(Overran):
            await runner.start(Quiet())
        assert runner.state is VersionState.FAILED
        assert runner.failure == "Overran: a batch took longer than batching.max_run_s: 0.3 s"

    in_time(scenario())


def test_an_event_loop_that_is_held_up_for_good_ends_its_process_and_the_next_one_knows(
    tmp_path: Path, watch: Watchdog, ended: list[str]
) -> None:
    async def scenario() -> None:
        stuck = Stuck()

        def let_go() -> None:
            wait_until(lambda: ended)
            stuck.go_on.set()

        letting_go = threading.Thread(target=let_go)
        letting_go.start()
        runner = OverStuck(card_of_doubles(), watch, stuck)
        await runner.start(Quiet())
        assert not watch.has_held_up("v1")
        await submit(runner, row(-1))
        letting_go.join()
        assert ended == ["the engine of version v1 holds up the event loop, and heeds no interruption"]
        await runner.drain()

        after = OverStuck(card_of_doubles(), Watchdog(tmp_path, ended.append, TICK_S), Stuck())
        await after.start(Quiet())
        endless = submit(after, row(-1))
        assert await longest_pause(endless) < 0.2
        assert isinstance((await endless).error, Overran)
        await after.drain()

    in_time(scenario())


def test_after_an_interruption_batches_go_to_the_thread_for_a_while_that_grows(
    watch: Watchdog, looping: OnnxEngine
) -> None:
    where: list[bool] = []
    heard: list[str] = []

    class Holder:
        def engine_interrupted(self) -> None:
            heard.append("interrupted")

        def engine_hangs(self, reason: str) -> None:
            heard.append("hangs")

        def engine_back(self) -> None:
            heard.append("back")

        def engine_lost(self) -> None:
            heard.append("lost")

    async def scenario() -> None:
        executor = EmbeddedExecutor(looping, 1, inline_s=1.0, max_run_s=MAX_RUN_S, watch=watch, holder=Holder())

        async def run(rows: Rows) -> None:
            future: asyncio.Future[BatchScores | Exception] = asyncio.get_running_loop().create_future()
            executor.run(rows, 0.0, future.set_result)
            where.append(future.done())
            await future

        for batches in (WARY_BATCHES, 2 * WARY_BATCHES):
            await run(row(1))
            await run(row(1, FOREVER))
            await until(lambda: heard[-3:] == ["interrupted", "hangs", "back"])
            for _ in range(batches):
                await run(row(1))
        await run(row(1))
        await executor.close()
        inline = [number for number, here in enumerate(where) if here]
        assert inline == [
            0, WARY_BATCHES + 1, WARY_BATCHES + 2, 3 * WARY_BATCHES + 3, 3 * WARY_BATCHES + 4,
        ]  # fmt: skip

    in_time(scenario())


def test_a_process_that_is_held_up_as_a_whole_is_no_engine_that_hangs() -> None:
    """Ticks that come late count as one."""
    interrupted: list[bool] = []

    class Notes(Obliging):
        def interrupt(self, still: Callable[[], bool]) -> None:
            interrupted.append(still())

    class Ticking(Watchdog):
        def __init__(self) -> None:
            self.tick_s = 0.1

    watched, watch = Watched("v1", Notes(), max_run_s=0.2), Ticking()
    watched.turn += 1
    for ticks, expected in ((1, []), (1, []), (1, [True]), (1, [True, True])):
        for _ in range(ticks):
            watched.look(watch)
        assert interrupted == expected
    watched.turn += 2
    watched.look(watch)
    assert interrupted == [True, True]


def test_a_service_of_its_own_answers_too_when_its_engine_does_not_end(
    card: Card, looping: OnnxEngine, watch: Watchdog
) -> None:
    rows = HopHandler(looping, card, "v1", MAX_RUN_S)
    watch.add(rows)
    endless, good = MemoryExchange(), MemoryExchange()
    rows.begin(RequestHead(), row(1, FOREVER).tobytes(), endless)
    assert endless.status == 500
    assert "max_run_s: 0.3 s" in endless.body.decode()
    rows.begin(RequestHead(), row(7, 3).tobytes(), good)
    assert (good.status, np.frombuffer(good.body, np.float32).tolist()) == (200, [7.5])


def test_a_watchdog_lives_as_long_as_who_is_watched(card: Card) -> None:
    before = set(threading.enumerate())
    rows = HopHandler(Obliging(), card, "v1", MAX_RUN_S)
    Watchdog(None, pytest.fail, TICK_S).add(rows)
    (thread,) = set(threading.enumerate()) - before
    thread.join(4 * TICK_S)
    assert thread.is_alive()
    del rows
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
