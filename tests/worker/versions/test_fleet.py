"""The fleet with real engines: versions come, are replaced and go, while every job gets the score of its version."""

import asyncio
import contextlib
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from configuration.settings import EngineChoice, Placement, RemoteSettings, Settings, VersionSettings
from runners import runner as runner_module
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import FileKind, write_card
from runners.artefacts.configured import find_artefacts
from runners.artefacts.repository import find_artefact
from runners.artefacts.scores import Scores
from runners.batching.job import Job
from runners.engines.engine import open_engine
from runners.inputs.rows import Rows
from runners.runner import Runner
from runners.version_state import VersionState
from shokado.dispatch.change import with_candidate, with_load, with_unloaded, without_candidate
from shokado.dispatch.state import Load, RoutingState, initial_state
from shokado.lifecycle import datasets
from shokado.stores.machine import Machine
from shokado.worker.versions import fleet as fleet_module
from shokado.worker.versions.fleet import Fleet, known_loads
from shokado.worker.versions.trials import Trials
from tests.conftest import HOME
from tests.support.clock import HandClock
from tests.support.garbage import uncollected
from tests.support.imports import imports_under_way
from tests.support.quiet import Quiet
from tests.support.shelf import Shelf, own_shelf
from tests.support.waiting import in_time

SETTINGS = Settings.model_validate(
    {
        "model": "customers",
        "versions": {"v1": {}, "v2": {}},
        "environments": {"production": {"active": "v1", "weights": {"v1": 1}}},
        "batching": {"max_batch_rows": 64, "max_queue_ms": 60_000, "standing_queue_ms": 60_000},
    }
)
MACHINE = Machine.of("the tests of the fleet", str(os.getpid()))


class Kitchen:
    """A fleet of the configured versions, and the state that it has adopted."""

    def __init__(
        self,
        state: RoutingState | None = None,
        clock: Callable[[], float] = lambda: 50.0,
        lost: Callable[[str], None] = pytest.fail,
    ) -> None:
        self.artefacts = find_artefacts(SETTINGS)
        self.changes = asyncio.Event()
        trials = Trials(SETTINGS, MACHINE, clock)
        self.fleet = Fleet(SETTINGS, self.artefacts, Quiet(), {}, self.changes.set, trials, clock, lost=lost)
        self.state = state or initial_state(SETTINGS)

    async def __aenter__(self) -> "Kitchen":
        await self.fleet.start(self.state)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.fleet.stop()

    def adopt(self, state: RoutingState) -> None:
        self.state = state
        self.fleet.adopt(state)

    def prepare(self, version: str, load: Load) -> None:
        self.adopt(with_candidate(self.state, version, load))

    def load(self, version: str) -> None:
        self.adopt(with_load(self.state, version))

    def unload(self, version: str) -> None:
        self.adopt(with_unloaded(self.state, version, known_loads(self.state, self.artefacts, SETTINGS)[version]))

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changes.clear()
            await self.changes.wait()

    async def closed(self, runner: Runner) -> None:
        await self.until(lambda: runner.state is VersionState.CLOSED)

    async def candidate(self, version: str, load: Load) -> tuple[str, str | None]:
        """Let it be prepared, and tell its state and failure in the end."""
        self.prepare(version, load)
        assert self.fleet.candidates()[version].state == "starting"
        await self.until(lambda: self.fleet.candidates()[version].state != "starting")
        report = self.fleet.candidates()[version]
        assert report.digest == load.digest
        return report.state, report.failure

    async def loaded(self, version: str, load: Load) -> None:
        assert await self.candidate(version, load) == ("ready", None)
        self.load(version)

    def states(self) -> dict[str, str]:
        return {version: str(report.state) for version, report in self.fleet.versions().items()}


def load_of(artefact: Artefact, source: str | None = None) -> Load:
    return Load(artefact.tag, artefact.digest, source or artefact.tag, expires_at=200.0)


@pytest.fixture
def shelf(models: Path) -> Iterator[Shelf]:
    with own_shelf("fleet") as own:
        yield own


@pytest.fixture(scope="module")
def rows() -> Rows:
    return datasets.load("customers").test.rows[:512]


@pytest.fixture(scope="module")
def expected(models: Path, rows: Rows) -> dict[str, Scores]:
    """By digest of the model file: the scores that it gives."""
    found = [find_artefact(version, f"customers:{version}") for version in ("v1", "v2")]
    engines = [open_engine(one.folder, one.card, EngineChoice.ONNXRUNTIME) for one in found]
    return {
        one.card.files[FileKind.ONNX].sha256: engine.predict(rows) for one, engine in zip(found, engines, strict=True)
    }


class Traffic:
    """Requests for a version, one after the other and without end, each checked against the model that took it."""

    def __init__(self, fleet: Fleet, rows: Rows, expected: Mapping[str, Scores]) -> None:
        self._fleet, self._rows, self._expected = fleet, rows, expected
        self.files: list[str] = []

    async def run(self, version: str) -> None:
        random = np.random.default_rng(1)
        while True:
            start, count = int(random.integers(0, 400)), int(random.choice([1, 3, 100]))
            answered: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
            runner = self._fleet.runners[version]
            runner.submit(Job(self._rows[start : start + count].tobytes(), count, answered.set_result))
            job = await answered
            file = runner.card.files[FileKind.ONNX].sha256
            assert job.error is None
            assert job.scores is not None
            assert_allclose(job.scores, self._expected[file][start : start + count], rtol=1e-4, atol=1e-5)
            self.files.append(file)


def test_what_is_loaded_lies_over_what_is_configured_except_where_a_service_serves_it(models: Path) -> None:
    artefacts = find_artefacts(SETTINGS)
    load = Load("customers:v9", "0" * 64, "customers:v9")
    state = replace(initial_state(SETTINGS), loads={"v2": load, "v3": load})
    configured = {version: Load(one.tag, one.digest, one.tag) for version, one in artefacts.items()}
    assert known_loads(state, artefacts, SETTINGS) == {"v1": configured["v1"], "v2": load, "v3": load}
    placed = VersionSettings(placement=Placement.SERVICE)
    with_service = SETTINGS.model_copy(update={"versions": {"v1": VersionSettings(), "v2": placed}})
    assert known_loads(state, artefacts, with_service) == configured | {"v3": load}


def test_the_configured_versions_start(models: Path) -> None:
    async def scenario() -> None:
        async with Kitchen() as kitchen:
            assert kitchen.states() == {"v1": "ready", "v2": "ready"}
            assert set(kitchen.fleet.runners) == {"v1", "v2"}
            assert kitchen.fleet.artefacts == kitchen.artefacts

    in_time(scenario())


def test_a_remote_version_is_reported_as_it_is_and_stays_what_is_configured(models: Path) -> None:
    placed = VersionSettings(placement=Placement.REMOTE, remote=RemoteSettings(url="http://127.0.0.1:9"))
    settings = SETTINGS.model_copy(update={"versions": {"v1": VersionSettings(), "v2": placed}})
    artefacts = find_artefacts(settings)
    state = replace(initial_state(settings), loads={"v2": Load("customers:v1", "0" * 64, "customers:v1")})

    async def scenario() -> None:
        fleet = Fleet(settings, artefacts, Quiet(), {}, lambda: None, Trials(settings, MACHINE))
        await fleet.start(state)
        report = fleet.versions()["v2"]
        assert (report.state, report.failure) == ("away", "cannot connect: Connection refused")
        assert report.digest == artefacts["v2"].digest
        runner = fleet.runners["v2"]
        await fleet.stop()
        assert runner.state is VersionState.CLOSED

    in_time(scenario())


def test_a_candidate_gets_ready_aside_and_serves_when_it_is_loaded(shelf: Shelf) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            assert await kitchen.candidate("v3", load_of(artefact)) == ("ready", None)
            assert set(kitchen.fleet.runners) == {"v1", "v2"}
            assert "v3" not in kitchen.states()
            kitchen.load("v3")
            assert kitchen.fleet.runners["v3"].ready
            assert kitchen.states()["v3"] == "ready"
            assert not kitchen.fleet.candidates()
            assert kitchen.fleet.artefacts["v3"] == artefact

    in_time(scenario())


def test_no_request_notices_that_its_version_is_replaced(
    shelf: Shelf, rows: Rows, expected: Mapping[str, Scores]
) -> None:
    trees, net = shelf.put("trees", "v1"), shelf.put("net", "v2")

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            traffic = Traffic(kitchen.fleet, rows, expected)
            clients = [asyncio.ensure_future(traffic.run("v2")) for _ in range(8)]
            for artefact in (trees, net, trees):
                old = kitchen.fleet.runners["v2"]
                await kitchen.loaded("v2", load_of(artefact))
                assert kitchen.fleet.runners["v2"] is not old
                await kitchen.closed(old)
            for client in clients:
                assert not client.done()
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            assert set(traffic.files) == set(expected)

    in_time(scenario())


def wrong_scores(artefact: Artefact) -> Artefact:
    examples = artefact.card.examples
    wrong = examples.model_copy(update={"scores": tuple(1 - float(str(score)) for score in examples.scores)})
    write_card(artefact.card.model_copy(update={"examples": wrong}), artefact.folder)
    return find_artefact("v3", artefact.tag)


def test_a_model_that_scores_otherwise_than_its_card_says_fails(shelf: Shelf) -> None:
    artefact = wrong_scores(shelf.put("v3"))

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            state, failure = await kitchen.candidate("v3", load_of(artefact))
            assert state == "failed"
            assert failure is not None
            assert "does not score the card's examples" in failure
            assert kitchen.states() == {"v1": "ready", "v2": "ready"}

    in_time(scenario())


@pytest.mark.parametrize("kind", [FileKind.ONNX, FileKind.UBJ])
def test_a_truncated_model_fails(kind: FileKind, shelf: Shelf) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        # Else the verdict of the trial would be that of whichever file was tried first under this digest.
        await Trials(SETTINGS, MACHINE, lambda: 50.0).passed("v3", artefact, 50.0, 60.0)
        shelf.truncate(artefact, kind)
        async with Kitchen() as kitchen:
            state, failure = await kitchen.candidate("v3", load_of(artefact))
            assert state == "failed"
            assert failure is not None
            assert kind.file_name in failure

    in_time(scenario())


def test_another_artefact_under_the_same_tag_fails(shelf: Shelf) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            state, failure = await kitchen.candidate("v3", replace(load_of(artefact), digest="0" * 64))
            assert state == "failed"
            assert failure is not None
            assert f"{artefact.tag} in the BentoML model store of this machine is another model" in failure

    in_time(scenario())


def test_a_candidate_that_is_given_up_is_dropped_at_any_time(shelf: Shelf) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            for turns in (0, 1, 3, 10):
                kitchen.prepare("v3", load_of(artefact))
                for _ in range(turns):
                    await asyncio.sleep(0)
                kitchen.adopt(without_candidate(kitchen.state, "v3"))
                assert not kitchen.fleet.candidates()
            await kitchen.loaded("v3", load_of(artefact))
            assert kitchen.states()["v3"] == "ready"

    in_time(scenario())


def test_a_second_attempt_is_prepared_anew(shelf: Shelf) -> None:
    artefact = shelf.put("v3")
    moved = artefact.folder.with_name("moved")
    artefact.folder.rename(moved)

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            state, failure = await kitchen.candidate("v3", load_of(artefact))
            assert (state, failure) == ("failed", f"no model '{artefact.tag}' in the BentoML model store")
            moved.rename(artefact.folder)
            # This worker did not see the generation between the attempts.
            second = replace(load_of(artefact), expires_at=300.0)
            kitchen.state = without_candidate(kitchen.state, "v3")
            assert await kitchen.candidate("v3", second) == ("ready", None)

    in_time(scenario())


def test_a_version_that_was_not_prepared_here_is_starting_until_it_is_ready(
    shelf: Shelf, rows: Rows, expected: Mapping[str, Scores]
) -> None:
    artefact = shelf.put("net", "v2")

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            kitchen.adopt(with_load(with_candidate(kitchen.state, "v1", load_of(artefact)), "v1"))
            assert kitchen.states()["v1"] == "starting"
            # What was there is not what the generation names, so it must not answer.
            assert "v1" not in kitchen.fleet.runners
            await kitchen.until(lambda: kitchen.states()["v1"] == "ready")
            assert kitchen.fleet.runners["v1"].card.files == artefact.card.files

    in_time(scenario())


def test_unloading_answers_what_is_queued_and_frees_the_engine(shelf: Shelf, rows: Rows) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            await kitchen.loaded("v3", load_of(artefact))
            runner = kitchen.fleet.runners["v3"]
            jobs: list[Job] = []
            for _ in range(5):
                runner.submit(Job(rows.tobytes(), len(rows), jobs.append))
            gone = weakref.ref(runner)
            del runner
            kitchen.unload("v3")
            assert "v3" not in kitchen.fleet.runners
            assert kitchen.states()["v3"] == "draining"
            assert not jobs
            await kitchen.until(lambda: kitchen.states()["v3"] == "unloaded")
            assert [job.error for job in jobs] == [None] * 5
            assert kitchen.fleet.artefacts["v3"] == artefact
            assert gone() is None

    # A server freezes its garbage collector's oldest generation, so what forms a cycle would stay for good.
    with uncollected():
        in_time(scenario())


def test_an_unloaded_version_comes_back(models: Path) -> None:
    async def scenario() -> None:
        async with Kitchen() as kitchen:
            kitchen.unload("v2")
            await kitchen.until(lambda: kitchen.states()["v2"] == "unloaded")
            await kitchen.loaded("v2", load_of(kitchen.artefacts["v2"]))
            assert kitchen.states() == {"v1": "ready", "v2": "ready"}

    in_time(scenario())


def test_loading_what_is_configured_changes_nothing(models: Path) -> None:
    async def scenario() -> None:
        async with Kitchen() as kitchen:
            before = kitchen.fleet.runners["v2"]
            await kitchen.loaded("v2", load_of(kitchen.artefacts["v2"]))
            assert kitchen.fleet.runners["v2"] is before
            assert before.ready

    in_time(scenario())


def test_a_restart_brings_back_what_was_loaded_and_leaves_out_what_was_unloaded(shelf: Shelf) -> None:
    artefact, other = shelf.put("v3", "v2"), shelf.put("v4")
    loads = {
        "v1": load_of(artefact),
        "v2": replace(load_of(find_artefact("v2", "customers:v2")), in_memory=False),
        "v3": load_of(artefact),
        "v4": replace(load_of(other), in_memory=False),
    }

    async def scenario() -> None:
        async with Kitchen(replace(initial_state(SETTINGS), loads=loads)) as kitchen:
            assert kitchen.states() == {"v1": "ready", "v2": "unloaded", "v3": "ready", "v4": "unloaded"}
            assert set(kitchen.fleet.runners) == {"v1", "v3"}
            assert kitchen.fleet.runners["v1"].card.files == artefact.card.files
            assert {version: found.tag for version, found in kitchen.fleet.artefacts.items()} == {
                "v1": artefact.tag,
                "v2": "customers:v2",
                "v3": artefact.tag,
                "v4": other.tag,
            }

    in_time(scenario())


def test_a_restart_without_the_artefact_says_what_to_run_and_a_later_load_mends_it(shelf: Shelf) -> None:
    artefact = shelf.put("v3")
    load = load_of(artefact, "models:/customers/7")
    moved = artefact.folder.with_name("moved")
    artefact.folder.rename(moved)

    async def scenario() -> None:
        state = replace(initial_state(SETTINGS), loads={"v3": replace(load, expires_at=None)})
        async with Kitchen(state) as kitchen:
            report = kitchen.fleet.versions()["v3"]
            assert report.state == "failed"
            assert report.failure is not None
            command = f"shokado models import models:/customers/7 --as v3 --name {shelf.model}"
            assert report.failure.endswith(f"of this machine; bring it back with: {command}")
            assert kitchen.states() | {"v3": "failed"} == {"v1": "ready", "v2": "ready", "v3": "failed"}
            moved.rename(artefact.folder)
            await kitchen.loaded("v3", load)
            assert kitchen.states()["v3"] == "ready"

    in_time(scenario())


@pytest.mark.slow
def test_a_candidate_that_this_machine_lacks_is_fetched_and_is_the_same(models: Path) -> None:
    """The label is new here; the address in the registry is the one of `customers:v1`."""
    label = f"fetched-{os.getpid()}"
    here = find_artefact("v1", "customers:v1")
    load = Load(f"customers:{label}", here.digest, here.card.source.uri, expires_at=200.0)

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            assert await kitchen.candidate("v3", load) == ("ready", None)
            assert kitchen.fleet.candidates()["v3"].digest == here.digest

    newest = HOME / "models" / "customers" / "latest"
    before = newest.read_text()
    try:
        in_time(scenario())
    finally:
        shutil.rmtree(HOME / "models" / "customers" / label, ignore_errors=True)
        newest.write_text(before)


@pytest.mark.slow
def test_a_candidate_that_the_registry_does_not_have_fails(models: Path) -> None:
    load = Load("customers:nowhere", "0" * 64, "models:/customers/4711", expires_at=200.0)

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            state, failure = await kitchen.candidate("v3", load)
            assert state == "failed"
            assert failure is not None
            assert "models:/customers/4711" in failure

    in_time(scenario())


def test_the_import_for_a_candidate_that_is_given_up_is_ended(shelf: Shelf) -> None:
    load = Load(f"{shelf.model}:v3", "0" * 64, "models:/customers/1", expires_at=200.0)

    async def scenario() -> None:
        async with Kitchen() as kitchen:
            kitchen.prepare("v3", load)
            while not imports_under_way():
                await asyncio.sleep(0.01)
            kitchen.adopt(without_candidate(kitchen.state, "v3"))
            await kitchen.until(lambda: not imports_under_way())
            assert not (HOME / "models" / shelf.model).exists()

    in_time(scenario())


def test_a_report_says_when_a_version_was_last_used(models: Path, rows: Rows) -> None:
    clock = HandClock(100.0)

    async def scenario() -> None:
        async with Kitchen(clock=clock) as kitchen:
            answered: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
            kitchen.fleet.runners["v2"].submit(Job(rows.tobytes(), len(rows), answered.set_result))
            await answered
            used = {version: report.last_used_at for version, report in kitchen.fleet.versions().items()}
            assert used == {"v1": 0.0, "v2": 100.0}
            clock.advance(10)
            assert kitchen.fleet.versions()["v2"].last_used_at == 100.0

    in_time(scenario())


def test_engines_are_opened_and_warmed_up_beside_the_event_loop(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[threading.Thread] = set()

    def opened(*arguments: Any) -> Any:
        threads.add(threading.current_thread())
        engine = open_engine(*arguments)
        predict = engine.predict

        def recorded(batch: Rows) -> Scores:
            threads.add(threading.current_thread())
            return predict(batch)

        engine.predict = recorded  # type: ignore[method-assign,assignment]
        return engine

    async def scenario() -> None:
        async with Kitchen():
            assert len(threads) > 1
            assert threading.current_thread() not in threads

    monkeypatch.setattr(runner_module, "open_engine", opened)
    in_time(scenario())


def leave_deaths(version: str, load: Load, deaths: int = 1) -> None:
    """As so many workers in a row would that died while they opened it."""
    with contextlib.suppress(TimeoutError), Trials(SETTINGS, MACHINE).opening(version, load, deaths - 1):
        raise TimeoutError


def test_what_a_worker_died_of_is_tried_while_the_others_serve(shelf: Shelf) -> None:
    deadly = replace(load_of(shelf.crashing("v3")), expires_at=None)
    good = Load("customers:v2", find_artefact("v2", "customers:v2").digest, "customers:v2")
    leave_deaths("v3", deadly)
    leave_deaths("v2", good)

    async def scenario() -> None:
        async with Kitchen(replace(initial_state(SETTINGS), loads={"v3": deadly})) as kitchen:
            assert kitchen.states() == {"v1": "ready", "v2": "starting", "v3": "starting"}
            await kitchen.until(lambda: "starting" not in kitchen.states().values())
            # Whatever killed the other worker: in a process of its own it did not.
            assert kitchen.states() == {"v1": "ready", "v2": "ready", "v3": "failed"}
            assert "it kills the process that opens it: SIGSEGV" in str(kitchen.fleet.versions()["v3"].failure)
        trials = Trials(SETTINGS, MACHINE)
        assert (trials.deaths("v2", good), trials.deaths("v3", deadly)) == (0, 1)

    in_time(scenario())


def test_a_second_death_gives_it_up_until_it_is_loaded_again(shelf: Shelf) -> None:
    artefact = shelf.put("v3")
    load = load_of(artefact)
    configured = replace(load, expires_at=None)
    leave_deaths("v3", configured, deaths=2)

    async def scenario() -> None:
        async with Kitchen(replace(initial_state(SETTINGS), loads={"v3": configured})) as kitchen:
            await kitchen.until(lambda: kitchen.states()["v3"] == "failed")
            assert "2 workers in a row died while they opened it" in str(kitchen.fleet.versions()["v3"].failure)
            await kitchen.loaded("v3", load)
            assert kitchen.states()["v3"] == "ready"

    in_time(scenario())
    leave_deaths("v3", load, deaths=2)

    async def again() -> None:
        async with Kitchen() as kitchen:
            state, failure = await kitchen.candidate("v3", load)
            assert (state, "2 workers in a row died" in str(failure)) == ("failed", True)

    in_time(again())


def test_a_candidate_whose_time_is_over_is_not_begun(shelf: Shelf) -> None:
    expired = replace(load_of(shelf.crashing("v3")), expires_at=50.0)

    async def scenario() -> None:
        async with Kitchen(with_candidate(initial_state(SETTINGS), "v3", expired)) as kitchen:
            await kitchen.until(lambda: kitchen.fleet.candidates()["v3"].state == "failed")
            assert kitchen.fleet.candidates()["v3"].failure == "its time was over before this worker began"

    in_time(scenario())


def test_an_engine_that_never_opens_is_left_behind_with_its_thread(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact, next_one = shelf.put("v3"), shelf.put("v4", "v2")
    released, lost = threading.Event(), list[str]()

    def opened(folder: Path, *others: Any) -> Any:
        if folder == artefact.folder:
            released.wait()
        return open_engine(folder, *others)

    monkeypatch.setattr(runner_module, "open_engine", opened)
    monkeypatch.setattr(fleet_module, "_LOST_AFTER_S", 0.0)

    async def scenario() -> None:
        async with Kitchen(lost=lost.append) as kitchen:
            await Trials(SETTINGS, MACHINE, lambda: 50.0).passed("v3", artefact, 50.0, 60.0)
            state, failure = await kitchen.candidate("v3", replace(load_of(artefact), expires_at=50.2))
            assert (state, failure) == ("failed", "its engine was not ready within 0 s")
            while not lost:
                await asyncio.sleep(0)
            assert "the engine of version v3 does not come back" in lost[0]
            await kitchen.loaded("v4", load_of(next_one))
            assert kitchen.states()["v4"] == "ready"
        # Stopping does not wait for the thread either.
        assert {thread.name for thread in threading.enumerate()} >= {"shokado-opened"}
        released.set()

    in_time(scenario())
