"""Loading and unloading over workers with real engines: all of them serve it, or the load is refused and none does."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression

from configuration.settings import EngineChoice, Settings, VersionSettings
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import FileKind
from runners.artefacts.repository import find_artefact
from runners.artefacts.scores import Scores
from runners.engines.engine import open_engine
from runners.inputs.rows import Rows
from runners.inputs.schema import Feature
from shokado.dispatch.change import (
    ChangeRefused,
    ConflictingChange,
    InvalidChange,
    KnownVersions,
    SplitChange,
    with_candidate,
    with_split,
)
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.state import Load, RoutingState, VersionReport
from shokado.lifecycle import datasets
from shokado.lifecycle.importing import registry
from shokado.stores.store import Action, WorkerReport
from shokado.worker.versions import fetching
from shokado.worker.versions.fleet import known_loads
from tests.conftest import HOME
from tests.support.clock import HandClock
from tests.support.imports import imports_under_way
from tests.support.shelf import Shelf, own_shelf
from tests.support.waiting import in_time, until
from tests.worker.versions.workers import MACHINE, Server, Worker, serving, settings


@pytest.fixture
def shelf(models: Path) -> Iterator[Shelf]:
    with own_shelf("loading") as own:
        yield own


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "routing.db"


@pytest.fixture(scope="module")
def rows() -> Rows:
    return datasets.load("customers").test.rows[:256]


@pytest.fixture(scope="module")
def expected(models: Path, rows: Rows) -> dict[str, Scores]:
    """By digest of the model file: the scores that it gives."""
    found = [find_artefact(version, f"customers:{version}") for version in ("v1", "v2")]
    engines = [open_engine(one.folder, one.card, EngineChoice.ONNXRUNTIME) for one in found]
    return {file_of(one): engine.predict(rows) for one, engine in zip(found, engines, strict=True)}


def file_of(artefact: Artefact) -> str:
    return artefact.card.files[FileKind.ONNX].sha256


def prepared(*workers: Worker) -> bool:
    """Whether all of them have v3 ready, aside."""
    return all("v3" in found and found["v3"].state == "ready" for found in [one.fleet.candidates() for one in workers])


async def give_traffic(worker: Worker, weights: Mapping[str, float]) -> None:
    def split(state: RoutingState) -> RoutingState:
        return with_split(state, None, SplitChange(weights=weights), KnownVersions(dict.fromkeys(weights, "ready"), {}))

    await worker.follower.change(split, by="ann", action=Action.SPLIT)


def own_settings(shelf: Shelf, **changes: Any) -> Settings:
    """Imports of this server get the shelf's name in the store."""
    return settings(
        **{"model": shelf.model, "versions": {"v1": {"tag": "customers:v1"}, "v2": {"tag": "customers:v2"}}} | changes
    )


def test_a_loaded_version_serves_in_every_worker(
    shelf: Shelf, database: Path, rows: Rows, expected: Mapping[str, Scores]
) -> None:
    artefact = shelf.put("new", "v2")

    async def scenario() -> None:
        async with serving(settings(), database, workers=3) as server:
            entry = await server[1].loader.load("v3", artefact.tag, by="ann", why="better")
            assert server.states() == [{"v1": "ready", "v2": "ready", "v3": "ready"}] * 3
            assert entry.state.loads == {"v3": Load(artefact.tag, artefact.digest, artefact.tag)}
            assert (entry.by, entry.why, entry.action) == ("ann", "better", Action.LOAD)
            assert await server.actions() == ["configured", "prepare", "load"]
            for worker in server.workers:
                prediction = await worker.predict(rows, "v3")
                assert prediction.scores is not None
                assert_allclose(prediction.scores, expected[file_of(artefact)], rtol=1e-4, atol=1e-5)

    in_time(scenario())


class Clients:
    """Clients of all workers that ask without end; each answer's scores must be those of the model that gave it."""

    def __init__(self, server: Server, rows: Rows, expected: Mapping[str, Scores]) -> None:
        self._server, self._rows, self._expected = server, rows, expected
        self.answers: list[tuple[int, str, str]] = []
        """Generation, version, and the digest of the model file that answered."""
        self._asking: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Clients":
        self._asking = [
            asyncio.get_running_loop().create_task(self._ask(worker, version))
            for worker in self._server.workers
            for version in (None, "v1", "v2")
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Every client must still be asking: none got an error."""
        asked = len(self.answers)
        await until(lambda: len(self.answers) > asked + 100)
        for task in self._asking:
            task.cancel()
        outcomes = await asyncio.gather(*self._asking, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}, outcomes

    async def _ask(self, worker: Worker, version: str | None) -> None:
        random = np.random.default_rng(1)
        while True:
            start, count = int(random.integers(0, 200)), int(random.choice([1, 5, 50]))
            prediction = await worker.predict(self._rows[start : start + count], version)
            file = prediction.card.files[FileKind.ONNX].sha256
            assert prediction.scores is not None
            assert_allclose(prediction.scores, self._expected[file][start : start + count], rtol=1e-4, atol=1e-5)
            self.answers.append((prediction.origin.generation, prediction.version, file))


def test_no_request_fails_or_gets_another_version_than_its_generation_names(
    shelf: Shelf, database: Path, rows: Rows, expected: Mapping[str, Scores]
) -> None:
    trees, net = shelf.put("trees", "v1"), shelf.put("net", "v2")
    configured = {version: find_artefact(version, f"customers:{version}") for version in ("v1", "v2")}
    files = {artefact.digest: file_of(artefact) for artefact in (trees, net, *configured.values())}

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            async with Clients(server, rows, expected) as clients:
                await give_traffic(server[0], {"v1": 1, "v2": 1})
                for version, artefact in (("v2", trees), ("v1", net), ("v3", net), ("v2", net)):
                    await server[0].loader.load(version, artefact.tag, by="ann")
            store = server[0].follower.store
            for generation, version, file in set(clients.answers):
                entry = await server[0].follower.ask(store.entry, generation)
                assert entry is not None
                assert files[known_loads(entry.state, configured, server.settings)[version].digest] == file
            assert {file for _, _, file in clients.answers} == set(expected)

    in_time(scenario())


def test_a_version_that_one_worker_cannot_serve_is_refused_with_its_reason(shelf: Shelf, database: Path) -> None:
    artefact = shelf.put("v3", "v2")
    only_xgboost = {"v1": {}, "v2": {}, "v3": {"engine": "xgboost", "tag": "customers:v1"}}

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            await server.join(settings(versions=only_xgboost))
            with pytest.raises(
                InvalidChange, match=r"worker \d+ on \S+ cannot serve it: .* has no model.ubj"
            ) as refused:
                await server[0].loader.load("v3", artefact.tag, by="ann")
            assert refused.value.code == "load_failed"
            assert await server.actions() == ["configured", "prepare", "abandon"]
            await until(lambda: not any(worker.fleet.candidates() for worker in server.workers))
            assert server.states()[:2] == [{"v1": "ready", "v2": "ready"}] * 2

    in_time(scenario())


def test_a_model_that_scores_otherwise_than_its_card_says_is_refused(shelf: Shelf, database: Path) -> None:
    examples = find_artefact("v1", "customers:v1").card.examples
    wrong = examples.model_copy(update={"scores": tuple(1 - float(str(score)) for score in examples.scores)})
    artefact = shelf.put("v3", examples=wrong)

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            with pytest.raises(InvalidChange, match="does not score the card's examples as the card says"):
                await server[0].loader.load("v3", artefact.tag, by="ann")
            assert not server.state.candidates
            assert not server.state.loads

    in_time(scenario())


@pytest.mark.parametrize(
    ("version", "uri", "code", "said"),
    [
        ("v3", "runs:/0a1b/model", "source_not_allowed", "'runs:/0a1b/model' cannot be loaded; these can: models:/"),
        ("v3", "/etc/passwd", "source_not_allowed", "<name>:<version> of the BentoML model store"),
        ("v3", "http://example.org/model.onnx", "source_not_allowed", "these can"),
        ("v3", "models:/customers/Production", "source_not_allowed", "these can"),
        ("v3", "models:/customers/1/2", "source_not_allowed", "these can"),
        ("v3", "../customers:v1", "source_not_allowed", "these can"),
        ("v3", "customers:v99", "unfit_artefact", "no model 'customers:v99' in the BentoML model store"),
        ("v3", "customers:v", "unfit_artefact", "no model 'customers:v' in the BentoML model store"),
        ("a", "customers:v2", "alias", "a is an alias of v1"),
        ("V3", "customers:v2", "invalid_name", "'V3' cannot be a version"),
        ("-", "customers:v2", "invalid_name", "'-' cannot be a version"),
    ],
)
def test_what_cannot_be_loaded_is_refused_before_anybody_hears_of_it(
    version: str, uri: str, code: str, said: str, models: Path, database: Path
) -> None:
    async def scenario() -> None:
        async with serving(settings(), database, workers=1) as server:
            with pytest.raises(InvalidChange) as refused:
                await server[0].loader.load(version, uri, by="ann")
            assert refused.value.code == code
            assert said in str(refused.value)
            assert server.state.generation == 1

    in_time(scenario())


def relabelled(shelf: Shelf) -> Artefact:
    return shelf.put("v3", classes=("no", "yes"))


def of_other_features(shelf: Shelf) -> Artefact:
    card = find_artefact("v1", "customers:v1").card
    return shelf.put("v3", features=tuple(Feature(name=f"another {feature.name}") for feature in card.features))


def truncated(shelf: Shelf) -> Artefact:
    artefact = shelf.put("v3")
    shelf.truncate(artefact)
    return artefact


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (relabelled, "cannot serve side by side: their classes differ"),
        (of_other_features, "cannot serve side by side: they have no feature in common"),
        (truncated, "model.onnx: not the file that its card describes"),
        (lambda shelf: shelf.without_card("v3"), "card.json: No such file"),
    ],
)
def test_an_unfit_artefact_is_refused_before_anybody_hears_of_it(
    make: Callable[[Shelf], Artefact], said: str, shelf: Shelf, database: Path
) -> None:
    artefact = make(shelf)

    async def scenario() -> None:
        async with serving(settings(), database, workers=1) as server:
            with pytest.raises(InvalidChange, match=said):
                await server[0].loader.load("v3", artefact.tag, by="ann")
            assert server.state.generation == 1

    in_time(scenario())


def test_a_version_that_is_too_large_is_refused_with_both_numbers(shelf: Shelf, database: Path) -> None:
    artefact = shelf.put("v3")
    size = artefact.card.size_bytes

    async def scenario() -> None:
        limited = settings(loading={"max_version_bytes": size - 1})
        async with serving(limited, database, workers=1) as server:
            with pytest.raises(InvalidChange, match=f"have {size} bytes; at most {size - 1} may be loaded"):
                await server[0].loader.load("v3", artefact.tag, by="ann")
            assert server.state.generation == 1

    in_time(scenario())


def test_a_version_with_a_service_of_its_own_is_neither_loaded_nor_unloaded(models: Path, database: Path) -> None:
    placed = settings(versions={"v1": {}, "v2": {}, "v3": {"placement": "service", "tag": "customers:v1"}})

    async def scenario() -> None:
        async with serving(settings(), database, workers=1) as server:
            loader = (await server.join(placed)).loader
            for attempt in (loader.load("v3", "customers:v2", by="ann"), loader.unload("v3", by="ann")):
                with pytest.raises(ConflictingChange, match="a service of its own"):
                    await attempt

    in_time(scenario())


def test_a_version_in_another_server_is_neither_loaded_nor_unloaded(models: Path, database: Path) -> None:
    elsewhere = {"placement": "remote", "remote": {"url": "http://127.0.0.1:9"}}
    placed = settings(versions={"v1": {}, "v2": {}, "v3": elsewhere})

    async def scenario() -> None:
        async with serving(settings(), database, workers=1) as server:
            worker = await server.join(placed)
            assert worker.fleet.versions()["v3"].state == "away"
            for attempt in (worker.loader.load("v3", "customers:v2", by="ann"), worker.loader.unload("v3", by="ann")):
                with pytest.raises(ConflictingChange, match=r"runs in another server \(placement: remote\)") as refused:
                    await attempt
                assert refused.value.code == "remote_placement"

    in_time(scenario())


def test_loading_what_serves_changes_nothing(shelf: Shelf, database: Path) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            assert (await server[0].loader.load("v1", "customers:v1", by="ann")).generation == 1
            assert (await server[0].loader.load("v2", None, by="ann")).generation == 1
            entry = await server[0].loader.load("v3", artefact.tag, by="ann")
            assert await server[1].loader.load("v3", artefact.tag, by="bob") == entry

    in_time(scenario())


def test_an_unloaded_version_is_known_and_comes_back_without_an_address(
    shelf: Shelf, database: Path, rows: Rows
) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            loader = server[0].loader
            await loader.load("v3", artefact.tag, by="ann")
            await give_traffic(server[0], {"v1": 1, "v3": 1})
            with pytest.raises(ConflictingChange, match="version v3 is needed by environment production"):
                await loader.unload("v3", by="ann")
            await give_traffic(server[0], {"v1": 1})
            for version in ("v3", "v2"):
                entry = await loader.unload(version, by="ann", why="rarely asked for")
                assert await server[1].loader.unload(version, by="bob") == entry
            assert server.states() == [{"v1": "ready", "v2": "unloaded", "v3": "unloaded"}] * 2
            for version in ("v3", "v2"):
                await server[1].loader.load(version, None, by="ann")
            assert server.states() == [{"v1": "ready", "v2": "ready", "v3": "ready"}] * 2
            assert server.state.loads["v3"].source == artefact.tag
            await server[0].predict(rows, "v3")

    in_time(scenario())


def test_a_version_that_nobody_knows_needs_an_address(models: Path, database: Path) -> None:
    async def scenario() -> None:
        async with serving(settings(), database, workers=1) as server:
            for attempt in (server[0].loader.load("v9", None, by="ann"), server[0].loader.unload("v9", by="ann")):
                with pytest.raises(UnknownVersion, match="unknown version 'v9'"):
                    await attempt

    in_time(scenario())


def test_the_least_recently_used_version_makes_room(shelf: Shelf, database: Path, rows: Rows) -> None:
    artefacts = {version: shelf.put(version, copied) for version, copied in (("v3", "v1"), ("v4", "v2"), ("v5", "v1"))}
    clock = HandClock(time.time())
    in_memory: list[int] = []

    async def watch(worker: Worker) -> None:
        while True:
            fleet = worker.fleet
            in_memory.append(len(fleet.runners) + len(fleet.candidates()))
            await asyncio.sleep(0.001)

    async def load(server: Server, version: str) -> None:
        clock.advance(1)
        await server[0].loader.load(version, artefacts[version].tag, by="ann")
        clock.advance(1)

    async def scenario() -> None:
        limited = settings(loading={"max_versions_in_memory": 3})
        async with serving(limited, database, clock=clock) as server:
            watching = asyncio.ensure_future(watch(server[1]))
            await load(server, "v3")
            await server[1].predict(rows, "v2")
            server[1].fleet.versions()
            await load(server, "v4")
            assert server.states() == [{"v1": "ready", "v2": "ready", "v3": "unloaded", "v4": "ready"}] * 2
            await load(server, "v5")
            assert server.states()[1]["v2"] == "unloaded"
            newest = server[0].follower.entry
            assert newest is not None
            assert (newest.action, newest.by, newest.why) == (Action.UNLOAD, "ann", "makes room for version v5")
            await give_traffic(server[0], {"v4": 1, "v5": 1})
            before = server.state.generation
            with pytest.raises(ConflictingChange, match="3 versions may be in memory, and an environment needs each"):
                await load(server, "v3")
            assert server.state.generation == before
            await server[0].loader.load("v4", artefacts["v3"].tag, by="ann")
            watching.cancel()
            assert max(in_memory) == 4

    in_time(scenario())


async def begin_and_die(server: Server, artefact: Artefact) -> None:
    """A load of v3 that every worker gets ready, and whose loader is no more; its time is over at 1030."""
    orphan = Load(artefact.tag, artefact.digest, artefact.tag, expires_at=1030.0)
    await server[1].follower.change(lambda state: with_candidate(state, "v3", orphan), by="ann", action=Action.PREPARE)
    await until(lambda: prepared(*server.workers))


def test_a_load_whose_loader_died_is_given_up_when_its_time_is_over(shelf: Shelf, database: Path) -> None:
    artefact = shelf.put("v3")
    clock = HandClock()

    async def scenario() -> None:
        async with serving(settings(), database, clock=clock) as server:
            await begin_and_die(server, artefact)
            await server[0].loader.drop_expired()
            assert server.state.candidates
            with pytest.raises(ConflictingChange, match="version v3 is being loaded"):
                await server[0].loader.load("v4", artefact.tag, by="bob")
            clock.now = 1030.0
            await asyncio.gather(*(worker.loader.drop_expired() for worker in server.workers))
            assert await server.actions() == ["configured", "prepare", "abandon"]
            await until(lambda: not any(worker.fleet.candidates() for worker in server.workers))
            await server[0].loader.load("v4", artefact.tag, by="bob")

    in_time(scenario())


def test_a_load_of_before_the_clock_was_set_back_is_given_up(shelf: Shelf, database: Path) -> None:
    """It would keep all others out until its time has come again."""
    artefact = shelf.put("v3")
    clock = HandClock()

    async def scenario() -> None:
        async with serving(settings(), database, clock=clock) as server:
            await begin_and_die(server, artefact)
            clock.advance(-86_400)
            await server[0].loader.load("v4", artefact.tag, by="bob")
            assert await server.actions() == ["configured", "prepare", "abandon", "prepare", "load"]

    in_time(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("step_s", [86_400, -86_400])
def test_a_clock_that_is_set_while_a_version_is_loaded_changes_nothing(
    step_s: float, shelf: Shelf, database: Path
) -> None:
    artefact = shelf.put("v3")
    clock = HandClock()

    async def scenario() -> None:
        async with serving(settings(), database, clock=clock) as server:
            loading = asyncio.ensure_future(server[0].loader.load("v3", artefact.tag, by="ann"))
            await until(lambda: server.state.candidates)
            clock.advance(step_s)
            await loading
            assert await server.actions() == ["configured", "prepare", "load"]

    in_time(scenario())


def test_a_load_waits_for_every_worker_that_lives(shelf: Shelf, database: Path) -> None:
    artefact = shelf.put("v3")

    def report(server: Server, generation: int, **found: VersionReport) -> WorkerReport:
        return WorkerReport("other", "elsewhere", 7, generation, time.time(), candidates=found, versions=found)

    async def say(server: Server, said: WorkerReport, keep_s: float) -> None:
        follower = server[0].follower
        await follower.ask(follower.store.report, said, keep_s)

    async def scenario() -> None:
        async with serving(settings(), database, workers=1) as server:
            await say(server, report(server, 1), 60)
            loading = asyncio.ensure_future(server[0].loader.load("v3", artefact.tag, by="ann"))
            await until(lambda: prepared(server[0]))
            ready = VersionReport(artefact.digest, "ready", None, 0.0)
            # One that has not heard of the load yet is not ready, whatever it had ready before.
            await say(server, report(server, 1, v3=ready), 60)
            await asyncio.wait([loading], timeout=0.4)
            assert await server.actions() == ["configured", "prepare"]
            await say(server, report(server, 2, v3=ready), 60)
            await until(lambda: server.state.generation == 3)
            await asyncio.wait([loading], timeout=0.4)
            assert not loading.done()
            # It dies: it is not waited for any longer.
            await say(server, report(server, 2), 0.1)
            assert (await loading).generation == 3

    in_time(scenario())


@pytest.mark.slow
def test_a_load_that_not_every_worker_makes_in_time_is_given_up(shelf: Shelf, database: Path) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with serving(settings(loading={"timeout_s": 10}), database, workers=1) as server:
            slow = WorkerReport("slow", "elsewhere", 7, 1, time.time())
            await server[0].follower.ask(server[0].follower.store.report, slow, 60)
            with pytest.raises(ConflictingChange, match=r"10 s were not enough: .* worker 7 on elsewhere"):
                await server[0].loader.load("v3", artefact.tag, by="ann")
            assert await server.actions() == ["configured", "prepare", "abandon"]

    in_time(scenario())


def test_a_load_goes_on_when_whoever_asked_for_it_hangs_up(shelf: Shelf, database: Path) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            asking = asyncio.ensure_future(server[0].loader.load("v3", artefact.tag, by="ann"))
            await until(lambda: server.state.candidates)
            asking.cancel()
            await until(lambda: "v3" in server.state.loads)

    in_time(scenario())


def test_stopping_gives_up_what_is_under_way(shelf: Shelf, database: Path) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            asking = asyncio.ensure_future(server[1].loader.load("v3", artefact.tag, by="ann"))
            await until(lambda: server.state.candidates)
            await server[1].loader.stop()
            with pytest.raises(ChangeRefused, match="the server is stopping"):
                await asking
            assert await server.actions() == ["configured", "prepare", "abandon"]

    in_time(scenario())


def test_a_restart_of_all_workers_brings_back_what_was_loaded(shelf: Shelf, database: Path, rows: Rows) -> None:
    artefact = shelf.put("v3")

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            await server[0].loader.load("v3", artefact.tag, by="ann")
            await give_traffic(server[0], {"v3": 1})
            await server[0].loader.unload("v2", by="ann")
        async with serving(settings(), database) as server:
            assert server.states() == [{"v1": "ready", "v2": "unloaded", "v3": "ready"}] * 2
            assert (await server[1].predict(rows)).version == "v3"

    in_time(scenario())


@pytest.mark.slow
def test_a_registered_version_is_imported_by_a_process_of_its_own_and_loaded(
    shelf: Shelf, database: Path, rows: Rows, expected: Mapping[str, Scores]
) -> None:
    shelf.put("v2", "v1")

    async def scenario() -> None:
        async with serving(own_settings(shelf), database) as server:
            entry = await server[0].loader.load("v2", "models:/customers@challenger", by="ann")
            load = entry.state.loads["v2"]
            # What lies under the label is another version, so this one got the registry's number behind it.
            assert (load.tag, load.source) == (f"{shelf.model}:v2-2", "models:/customers/2")
            prediction = await server[1].predict(rows, "v2")
            assert prediction.scores is not None
            net = find_artefact("v2", "customers:v2")
            assert_allclose(prediction.scores, expected[file_of(net)], rtol=1e-4, atol=1e-5)
            assert await server[1].loader.load("v2", "models:/customers/latest", by="bob") == entry

    in_time(scenario())


@pytest.mark.slow
def test_a_pickled_model_is_refused(
    shelf: Shelf, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A copy of the tests' registry, because making the tables of a new one takes long.
    shutil.copy(HOME.parent / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with registry.session() as client:
        experiment = registry.open_experiment(client, "pickled")
        with mlflow.start_run(experiment_id=experiment):
            arguments = {"serialization_format": "pickle", "pip_requirements": []}
            mlflow.sklearn.log_model(model, name="model", registered_model_name="pickled", **arguments)

    async def scenario() -> None:
        async with serving(own_settings(shelf), database, workers=1) as server:
            with pytest.raises(
                InvalidChange, match="could run code when it is read: it is stored as pickle"
            ) as refused:
                await server[0].loader.load("v3", "models:/pickled/1", by="ann")
            assert refused.value.code == "import_failed"
            assert "shokado models import models:/pickled/1" in str(refused.value)
            assert server.state.generation == 1

    in_time(scenario())


@pytest.mark.slow
def test_what_was_imported_for_a_refused_load_leaves_the_store_again(shelf: Shelf, database: Path) -> None:
    own = HOME / "models" / shelf.model
    relabelled(shelf)

    async def scenario() -> None:
        other_classes = own_settings(shelf).model_copy(
            update={"versions": {"v1": VersionSettings(tag=f"{shelf.model}:v3")}}
        )
        async with serving(other_classes, database, workers=1) as server:
            with pytest.raises(InvalidChange, match="cannot serve side by side"):
                await server[0].loader.load("v5", "models:/customers/1", by="ann")
        assert {path.name for path in own.iterdir()} == {"v3", "latest"}
        assert (own / "latest").read_text() == "v3"
        async with serving(own_settings(shelf), database) as server:
            # One of the workers wants an engine that the second version's model has not.
            await server.join(
                own_settings(
                    shelf, versions={"v1": {"tag": "customers:v1"}, "v4": {"engine": "xgboost", "tag": "customers:v1"}}
                )
            )
            with pytest.raises(InvalidChange, match=r"worker \d+ on \S+ cannot serve it: .* has no model.ubj"):
                await server[0].loader.load("v4", "models:/customers/2", by="ann")
        assert {path.name for path in own.iterdir()} == {"v3", "latest"}

    in_time(scenario())


def test_what_was_there_before_a_refused_load_stays(shelf: Shelf, database: Path) -> None:
    artefact = shelf.crashing("v3")

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            with pytest.raises(
                InvalidChange, match="v3 cannot be served: it kills the process that opens it"
            ) as refused:
                await server[0].loader.load("v3", artefact.tag, by="ann")
            assert refused.value.code == "load_failed"
            assert server.state.generation == 1
            assert artefact.folder.exists()

    in_time(scenario())


def test_of_loads_that_come_together_one_goes_one_waits_and_the_others_are_refused(
    shelf: Shelf, database: Path
) -> None:
    first, second = shelf.put("v3"), shelf.put("v4", "v2")

    async def scenario() -> None:
        async with serving(settings(), database) as server:
            with MACHINE.held("load"):
                waiting = asyncio.ensure_future(server[0].loader.load("v3", first.tag, by="ann"))
                await asyncio.sleep(0)
                for worker in server.workers:
                    with pytest.raises(ConflictingChange, match="another load waits for its turn") as refused:
                        await worker.loader.load("v4", second.tag, by="bob")
                    assert refused.value.code == "load_in_progress"
                assert not waiting.done()
            await until(lambda: server.state.candidates)
            await asyncio.gather(waiting, server[1].loader.load("v4", second.tag, by="bob"))
            assert server.states() == [{"v1": "ready", "v2": "ready", "v3": "ready", "v4": "ready"}] * 2

    in_time(scenario())


def test_an_import_that_takes_too_long_is_ended(shelf: Shelf, database: Path) -> None:
    async def scenario() -> None:
        quick = own_settings(shelf, loading={"timeout_s": 0.3})
        async with serving(quick, database, workers=1) as server:
            with pytest.raises(InvalidChange, match="the import of models:/customers/1 took longer than"):
                await server[0].loader.load("v3", "models:/customers/1", by="ann")
            assert not imports_under_way()
            assert not (HOME / "models" / shelf.model).exists()

    in_time(scenario())


def test_an_import_that_takes_too_much_memory_is_ended(shelf: Shelf, database: Path) -> None:
    async def scenario() -> None:
        small = own_settings(shelf, loading={"max_trial_bytes": 2**26})
        async with serving(small, database, workers=1) as server:
            with pytest.raises(InvalidChange, match="took more memory than it may, 64 MiB, at the step") as refused:
                await server[0].loader.load("v3", "models:/customers/1", by="ann")
            assert refused.value.code == "import_failed"
            assert not (HOME / "models" / shelf.model).exists()

    in_time(scenario())


def test_stopping_ends_an_import(shelf: Shelf, database: Path) -> None:
    async def scenario() -> None:
        async with serving(own_settings(shelf), database, workers=1) as server:
            asking = asyncio.ensure_future(server[0].loader.load("v3", "models:/customers/1", by="ann"))
            await until(imports_under_way)
            await server[0].loader.stop()
            with pytest.raises(ChangeRefused, match="the server is stopping"):
                await asking
            assert not imports_under_way()
            assert not (HOME / "models" / shelf.model).exists()

    in_time(scenario())


def test_where_nothing_can_be_imported_the_command_is_said(
    shelf: Shelf, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_NEEDED", ("shokado", "no_such_package"))

    async def scenario() -> None:
        async with serving(own_settings(shelf), database, workers=1) as server:
            with pytest.raises(ConflictingChange, match="where no_such_package are not installed") as refused:
                await server[0].loader.load("v3", "models:/customers/1", by="ann")
            assert f"shokado models import models:/customers/1 --as v3 --name {shelf.model}" in str(refused.value)

    in_time(scenario())


def test_the_registry_can_be_ruled_out(models: Path, database: Path) -> None:
    async def scenario() -> None:
        async with serving(settings(loading={"registry": False}), database, workers=1) as server:
            with pytest.raises(ChangeRefused, match="these can: <name>:<version> of the BentoML model store"):
                await server[0].loader.load("v3", "models:/customers/1", by="ann")

    in_time(scenario())
