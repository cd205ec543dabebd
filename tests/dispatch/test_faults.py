"""What may happen to a version's placement, and what its requests are told: in time, and never a wrong score.

Placements that are not in this process behave alike, each over a real socket with a faulty wire in between. In this
process there is a real engine with a row that it never ends.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from configuration.settings import BatchingSettings, Placement, RemoteSettings, ServiceSettings, VersionSettings
from runners import remote_runner
from runners.engines.watchdog import Watchdog
from runners.errors import RunnerError
from runners.placements import remote
from runners.remote_runner import RemoteRunner
from runners.runner import Runner
from runners.version_state import VersionState
from shokado.dialects.problem import problem_of
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.request import Prediction, PredictionRequest
from shokado.dispatch.state import Environment, RoutingState
from tests.dispatch.double_runners import DoubleRunner, OffBy
from tests.runners.engine_doubles import Obliging
from tests.runners.faulty_wire import FaultyWire, wired
from tests.runners.looping import FOREVER, looping_artefact, row
from tests.runners.other_server import OtherServer, card_of_doubles, serving
from tests.runners.placements.far_side import far_side, scoring
from tests.support.quiet import Quiet
from tests.support.waiting import in_time

ELSEWHERE = [Placement.SERVICE, Placement.REMOTE]
TIMEOUT_S = 1.0
WITHIN_S = 3.0
"""A request without a deadline is answered: some probes and a time limit, and a slow machine."""
DEADLINE_S = 0.15
LATE_BY_S = 0.5
TOGETHER = 12
PATIENT_MS = 10_000
"""For connections where none is to fail: a busy machine may stop this process for longer than the default."""
CARD = card_of_doubles()
SMALL = BatchingSettings(max_batch_rows=4, max_queue_ms=60_000, standing_queue_ms=60_000)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes and pauses of a tenth of what they are."""
    for name in ("PROBE_EVERY_S", "PROBE_S", "SECOND_PROBE_S", "FIRST_PAUSE_S"):
        monkeypatch.setattr(remote_runner, name, getattr(remote_runner, name) / 10)
    monkeypatch.setattr(remote, "OVERDUE_S", remote.OVERDUE_S / 10)


class Scene:
    """v1 is active and answers in this process, half too high; v2 is elsewhere and has half of the traffic."""

    wire: FaultyWire

    def __init__(self, runners: dict[str, Runner]) -> None:
        production = Environment("production", "v1", {"v1": 0.5, "v2": 0.5})
        state = RoutingState(1, {"production": production}, "production")
        self.v2 = runners["v2"]
        self.dispatcher = Dispatcher(runners, {}, state)
        self._numbers = iter(range(1, 10_000))

    async def ask(
        self, *, version: str | None, deadline_s: float | None = None, rounds: float = 0.0
    ) -> tuple[int, Prediction | None, float]:
        """One row: the status that its client is told, the prediction with its scores, and the seconds it took."""
        number = next(self._numbers)
        asked_at = time.monotonic()
        request = PredictionRequest(row(number, rounds).tobytes(), 1, version=version)
        if deadline_s is not None:
            request.deadline = asked_at + deadline_s
        prediction: Prediction | None = None
        answered = asyncio.Event()

        def finish(_: Any) -> None:
            """As `shokado.transports.call` does."""
            nonlocal prediction
            assert prediction is not None
            with contextlib.suppress(RunnerError):
                if prediction.error is not None and (other := self.dispatcher.fall_back(prediction, finish)):
                    prediction = other
                    return
            answered.set()

        try:
            prediction = self.dispatcher.dispatch(request, finish)
            await answered.wait()
        except RunnerError as error:
            return problem_of(error).status, None, time.monotonic() - asked_at
        seconds = time.monotonic() - asked_at
        if prediction.error is not None:
            return problem_of(prediction.error).status, prediction, seconds
        off = 0.5 if prediction.version == "v1" else 0.0
        assert prediction.scores is not None
        assert prediction.scores.tolist() == [number + 0.5 + off]
        return 200, prediction, seconds

    async def ask_many(self, **how: Any) -> list[tuple[int, Prediction | None, float]]:
        return await asyncio.gather(*(self.ask(**how) for _ in range(TOGETHER)))


@contextlib.asynccontextmanager
async def scene(placement: Placement, folder: Path, **asked: Any) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        if placement is Placement.REMOTE:
            server = await stack.enter_async_context(serving(OtherServer(engine=Obliging())))
            wire = await stack.enter_async_context(wired(server.url, folder))
            far: Any = RemoteSettings.model_validate(
                {"url": wire.url, "model": "m", "version": "v2", "timeout_s": TIMEOUT_S, "eject_for_s": 0.1, **asked}
            )
            settings = VersionSettings(placement=placement, remote=far)
        else:
            url, _ = await stack.enter_async_context(far_side(folder, scoring(Obliging(), CARD)))
            wire = await stack.enter_async_context(wired(url, folder))
            far = wire.url
            service = ServiceSettings(timeout_s=TIMEOUT_S, eject_for_s=0.1, **asked)
            settings = VersionSettings(placement=placement, service=service, workers=4)
        v1 = DoubleRunner("v1", OffBy(offset=0.5))
        v2 = RemoteRunner("v2", CARD, settings, SMALL, far)
        await v1.start(v1)
        await v2.start(Quiet())
        # A busy machine may take longer for the first connection than one may take.
        while not v2.ready:
            await asyncio.sleep(0.01)
        try:
            at = Scene({"v1": v1, "v2": v2})
            at.wire = wire
            yield at
        finally:
            await v2.drain()
            await v1.drain()


def stop(wire: FaultyWire) -> None:
    wire.stop()


def kill(wire: FaultyWire) -> None:
    wire.kill()


def cut(wire: FaultyWire) -> None:
    """Every answer."""
    wire.cuts = 10**6


def garble(wire: FaultyWire) -> None:
    wire.garbles = True


def slow(wire: FaultyWire) -> None:
    """Slower than anybody waits for."""
    wire.delay_s = 2 * TIMEOUT_S


def vanish(wire: FaultyWire) -> None:
    wire.vanish()


FAULTS = [(placement, fault) for placement in ELSEWHERE for fault in (kill, stop, slow, cut, garble)]
FAULTS.append((Placement.REMOTE, vanish))


@pytest.mark.parametrize(("placement", "fault"), FAULTS, ids=lambda one: getattr(one, "__name__", str(one)))
def test_a_fault_is_answered_in_time_and_mended_when_it_is_over(
    placement: Placement, fault: Any, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with scene(placement, tmp_path) as at:
            assert {status for status, _, _ in await at.ask_many(version="v2")} == {200}
            fault(at.wire)
            pinned, split, timely = await asyncio.gather(
                at.ask_many(version="v2"), at.ask_many(version=None), at.ask_many(version="v2", deadline_s=DEADLINE_S)
            )
            assert {status for status, _, _ in pinned} == {503}
            assert {status for status, _, _ in split} == {200}
            assert {prediction.version for _, prediction, _ in split if prediction} == {"v1"}
            assert {status for status, _, _ in timely} <= {503, 504}
            assert max(seconds for _, _, seconds in timely) < DEADLINE_S + LATE_BY_S
            assert max(seconds for _, _, seconds in (*pinned, *split)) < WITHIN_S
            while at.v2.ready:
                await at.ask(version=None)
            assert at.v2.state is VersionState.AWAY
            assert at.v2.failure
            status, _, seconds = await at.ask(version=None)
            assert (status, seconds < DEADLINE_S + LATE_BY_S) == (200, True)
            await at.wire.mend()
            while not at.v2.ready:
                await asyncio.sleep(0.01)
            assert {status for status, _, _ in await at.ask_many(version="v2")} == {200}

    in_time(scenario())


@pytest.mark.parametrize(("placement", "fault"), FAULTS, ids=lambda one: getattr(one, "__name__", str(one)))
def test_a_stop_ends_in_time_whatever_the_other_side_does(placement: Placement, fault: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(placement, tmp_path) as at:
            fault(at.wire)
            asked = [asyncio.ensure_future(at.ask(version="v2")) for _ in range(TOGETHER)]
            await asyncio.sleep(0)
            began = time.monotonic()
            await at.v2.drain()
            assert time.monotonic() - began < WITHIN_S
            assert at.v2.state is VersionState.CLOSED
            assert {status for status, _, _ in await asyncio.gather(*asked)} == {503}

    in_time(scenario())


@pytest.mark.parametrize("placement", ELSEWHERE)
def test_connections_that_are_cut_all_at_once_cost_no_request(placement: Placement, tmp_path: Path) -> None:
    """Servers close connections after errors: a retry must not get the next one of those that are being closed."""

    async def scenario() -> None:
        async with scene(placement, tmp_path, connect_ms=PATIENT_MS) as at:
            at.wire.carries_once = True
            for _ in range(10):
                assert {status for status, _, _ in await at.ask_many(version="v2")} == {200}
                assert (await at.ask(version="v2"))[0] == 200
            assert at.v2.ready

    in_time(scenario())


@pytest.mark.parametrize("placement", ELSEWHERE)
def test_a_slow_one_is_waited_for_until_its_time_is_over(
    placement: Placement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_runner, "PROBE_S", 10.0)

    async def scenario() -> None:
        async with scene(placement, tmp_path, connect_ms=PATIENT_MS) as at:
            at.wire.delay_s = 2 * DEADLINE_S
            patient, hurried = await asyncio.gather(
                at.ask_many(version="v2"), at.ask_many(version="v2", deadline_s=DEADLINE_S)
            )
            assert {status for status, _, _ in patient} == {200}
            assert Counter(status for status, _, _ in hurried) == {504: TOGETHER}
            assert at.v2.ready

    in_time(scenario())


@pytest.mark.parametrize("deadline_s", [None, DEADLINE_S])
def test_a_row_that_an_engine_in_this_process_never_ends_is_answered_in_time(
    deadline_s: float | None, tmp_path: Path
) -> None:
    async def scenario() -> None:
        card = looping_artefact(tmp_path)
        batching = SMALL.model_copy(update={"max_run_s": TIMEOUT_S})
        v1 = DoubleRunner("v1", OffBy(offset=0.5))
        v2 = Runner("v2", card, tmp_path, VersionSettings(), batching, Watchdog(None, pytest.fail, 0.02))
        await v1.start(v1)
        await v2.start(Quiet())
        at = Scene({"v1": v1, "v2": v2})
        for _ in range(2):  # the first one still on the event loop
            endless = asyncio.ensure_future(at.ask(version="v2", deadline_s=deadline_s, rounds=FOREVER))
            await asyncio.sleep(0)
            beside = await at.ask_many(version="v1")
            assert {status for status, _, _ in beside} == {200}
            status, _, seconds = await endless
            assert status == (503 if deadline_s is None else 504)
            assert max(seconds, *(one for _, _, one in beside)) < (WITHIN_S if deadline_s is None else 1.0)
        assert {status for status, _, _ in await at.ask_many(version=None, rounds=FOREVER)} == {200}
        while not v2.ready:
            await asyncio.sleep(0.01)
        assert {status for status, _, _ in await at.ask_many(version="v2")} == {200}
        asked = asyncio.ensure_future(at.ask(version="v2", rounds=FOREVER))
        await asyncio.sleep(0)
        await v2.drain()
        assert (await asked)[0] == 503
        await v1.drain()

    in_time(scenario())
