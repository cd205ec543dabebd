"""A site: workers of a server in one process, over one real store, with paper models behind real runners.

Each worker has the control app over its own parts, and is asked through it. The event loop runs while a test waits.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from configuration.settings import Settings
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card
from runners.runner import Runner
from shokado.control.app import create_app
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.state import RoutingState
from shokado.experiments.feedback_collector import FeedbackCollector
from shokado.experiments.prediction_id import PredictionIds
from shokado.monitoring.process_identity import own_name
from shokado.monitoring.statistics import Statistics
from shokado.stores.follower import Follower
from shokado.stores.machine import Machine
from shokado.stores.redis_store import RedisStore
from shokado.stores.sqlite_store import SqliteStore
from shokado.stores.store import Entry, Store, WorkerReport
from shokado.worker.parts import Control, WorkerParts
from shokado.worker.versions.fleet import Fleet
from shokado.worker.versions.loading import Loader
from shokado.worker.versions.trials import Trials
from tests.dispatch.double_runners import DoubleRunner
from tests.experiments.following import all_known
from tests.runners.engine_doubles import ChokesOnEverything, Obliging
from tests.support.cards import make_card
from tests.support.settings import paper_settings
from tests.support.waiting import until

MAX_AGE_S = 3600.0
SECRET = bytes(range(32))
ACTOR = "10.0.0.7"

Result = TypeVar("Result")


def settings(**changes: Any) -> Settings:
    content: dict[str, Any] = {
        "versions": {"v1": {"aliases": ["a"]}, "v2": {"aliases": ["b"]}, "v3": {}},
        "environments": {
            "production": {"active": "v1", "weights": {"v1": 80, "v2": 20}},
            "staging": {"active": "v2", "weights": {"v2": 1}},
        },
        "limits": {"max_body_bytes": 4096},
        "feedback": {"max_entries": 100},
    }
    return paper_settings(**content | changes)


class Choking(ChokesOnEverything):
    """Scores the rows that its card is made of, and nothing after them."""

    def predict(self, rows: Any) -> Any:
        return Obliging.predict(self, rows) if not self.sizes else super().predict(rows)


class PaperTrials(Trials):
    """Of artefacts that have no files: there is nothing to try."""

    async def passed(self, *_: object) -> None:
        return


class PaperFleet(Fleet):
    """Its runners have engine doubles; those of the versions in `broken` cannot be started."""

    broken: frozenset[str] = frozenset()

    def _new_runner(self, version: str, artefact: Artefact) -> Runner:
        return DoubleRunner(version, Choking() if version in self.broken else Obliging())

    def batch(self, *_: object) -> None:
        """It is its own observer, and does not listen."""


class SiteWorker:
    """One worker and a client of its control app."""

    def __init__(
        self,
        number: int,
        chosen: Settings,
        store: Store,
        folder: Path,
        broken: frozenset[str],
        card: Mapping[str, Any],
    ) -> None:
        self.number = number
        self.control = Control(chosen)
        self.cards: dict[str, Card] = {
            version: make_card(**{"version": version, **card}) for version in chosen.versions
        }
        artefacts = {
            version: Artefact(version, f"paper:{version}", Path("nowhere"), card)
            for version, card in self.cards.items()
        }
        trials = PaperTrials(chosen, Machine(folder))
        self.fleet = PaperFleet(chosen, artefacts, self, {}, self._route, trials)
        self.fleet.broken = broken
        self.dispatcher = Dispatcher({}, chosen.aliases, RoutingState(0, {}, chosen.default_environment))
        self.follower = Follower(store, chosen, self._adopt, self.report, poll_every_s=0.02)
        self.ids = PredictionIds(SECRET, MAX_AGE_S)
        self.parts = WorkerParts(
            self.dispatcher,
            self.follower,
            self.fleet,
            Loader(chosen, artefacts, self.follower, trials),
            FeedbackCollector(self.follower, self.ids, lambda: self.cards, MAX_AGE_S, all_known),
            Statistics(folder),
            folder,
        )
        transport = httpx.ASGITransport(create_app(self.control), client=(ACTOR, 50_000))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://site")

    def batch(self, *_: object) -> None:
        """The fleet's observer, which does not listen."""

    async def start(self) -> None:
        await self.follower.start()
        await self.fleet.start(self.follower.state or RoutingState(0, {}, "production"))
        self._route()
        self.control.parts = self.parts
        # As the first poll would.
        await self.follower.ask(self.follower.store.report, self.report(), 10.0)

    async def stop(self) -> None:
        await self.client.aclose()
        await self.parts.loader.stop()
        await self.fleet.stop()
        await self.follower.stop()

    def report(self) -> WorkerReport:
        entry = self.follower.entry
        versions, candidates = self.fleet.versions(), self.fleet.candidates()
        generation = entry.generation if entry is not None else 0
        return WorkerReport(f"worker-{self.number}", "here", self.number, generation, time.time(), versions, candidates)

    def _adopt(self, entry: Entry) -> None:
        self.fleet.adopt(entry.state)
        self._route()

    def _route(self) -> None:
        if self.follower.state is not None:
            self.dispatcher.adopt(self.follower.state, self.fleet.runners)


class Site:
    """Workers, and the store file that they share."""

    def __init__(self, folder: Path, runner: asyncio.Runner, chosen: Settings, redis: str | None) -> None:
        self.database = folder / "routing.db"
        self.redis = redis
        self.folder = folder / f"shokado-metrics-{os.getuid()}-{own_name()}"
        """Of the metrics, named as `shokado.monitoring.metrics.folder.prepare_folder` would."""
        self.folder.mkdir(exist_ok=True)
        self.settings = chosen
        self.workers: list[SiteWorker] = []
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(asyncio.wait_for(work, 30))

    def join(self, *, broken: frozenset[str] = frozenset(), card: Mapping[str, Any] | None = None) -> SiteWorker:
        """One more worker; `card` is what the cards of its versions have otherwise."""
        number = len(self.workers) + 1
        worker = self.run(self._new_worker(number, broken, card or {}))
        self.workers.append(worker)
        self.run(worker.start())
        return worker

    async def _new_worker(self, number: int, broken: frozenset[str], card: Mapping[str, Any]) -> SiteWorker:
        store = RedisStore(self.redis, self.settings.model) if self.redis else SqliteStore(self.database)
        return SiteWorker(number, self.settings, store, self.folder, broken, card)

    def ask(self, method: str, path: str, worker: int = 0, **how: Any) -> httpx.Response:
        return self.run(self.workers[worker].client.request(method, path, **how))

    def get(self, path: str, worker: int = 0, **how: Any) -> Any:
        """What a GET that succeeds answers."""
        answer = self.ask("GET", path, worker, **how)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **how: Any) -> httpx.Response:
        return self.ask("POST", path, json=body, headers=headers, **how)

    def until(self, condition: Callable[[], object]) -> None:
        self.run(until(condition))

    def break_store(self) -> None:
        """Put something in the way of the file that cannot be opened."""
        for file in self.database.parent.glob(f"{self.database.name}*"):
            file.unlink()
        self.database.mkdir()

    def stop(self) -> None:
        for worker in self.workers:
            self.run(worker.stop())


@contextmanager
def open_site(folder: Path, chosen: Settings | None = None, redis: str | None = None) -> Iterator[Site]:
    """A site without workers; `redis` is the address of its store, which is a file where there is none."""
    with asyncio.Runner() as runner:
        site = Site(folder, runner, chosen or settings(), redis)
        try:
            yield site
        finally:
            site.stop()


def code_of(answer: httpx.Response) -> str:
    """The code of an answer that is an error of the common shape."""
    content = answer.json()
    assert set(content) == {"error", "request_id"}, content
    assert {"code", "message"} <= set(content["error"]) <= {"code", "message", "detail"}, content
    assert content["error"]["message"]
    assert content["request_id"] == answer.headers["x-request-id"]
    return str(content["error"]["code"])


def message_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])
