"""A site: workers of a server in one process, over one real store, with small models.

Each worker has the control app over its parts, and is asked through it. The event loop runs while a test waits.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import httpx

from configuration.settings import Settings
from runners.version_state import VersionState
from shokado.access.gate import Gate
from shokado.control.app import create_app
from shokado.worker.parts import Control
from shokado.worker.worker import Worker
from tests.support.cards import make_card
from tests.support.paper_models import put_model
from tests.support.settings import paper_settings
from tests.support.waiting import until

MAX_AGE_S = 168 * 3600.0
SECRET = bytes(range(32))
ACTOR = "10.0.0.7"
SETTLED = (VersionState.READY, VersionState.FAILED)

OwnCards = Mapping[str, Mapping[str, Any]]
"""What is otherwise in the card of a version."""
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


class SiteWorker:
    """One worker and a client of its control app."""

    def __init__(
        self, chosen: Settings, folder: Path, broken: frozenset[str], changes: Mapping[str, Any], own: OwnCards
    ) -> None:
        """The versions in `broken` have lost their files; `changes` is what is otherwise in all cards, and `own` in
        those of single versions.
        """
        self.control = Control(chosen)
        artefacts = {
            version: put_model(folder / version, make_card(**{"version": version, **changes, **own.get(version, {})}))
            for version in chosen.versions
        }
        self.cards = {version: artefact.card for version, artefact in artefacts.items()}
        for version in broken:
            shutil.rmtree(artefacts[version].folder)
        self.worker = Worker(chosen, artefacts, {}, Gate(chosen.access, chosen.model, folder), SECRET)
        # As if it had served for a while: whoever has a secret that seals ids has told it by now.
        self.worker.seals._troubled_at = -inf
        self.parts, self.ids = self.worker.parts, self.worker.ids
        self.dispatcher, self.fleet, self.follower = self.worker.dispatcher, self.worker.fleet, self.worker.follower
        transport = httpx.ASGITransport(create_app(self.control), client=(ACTOR, 50_000))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://site")

    async def start(self) -> None:
        await self.worker.start()
        self.control.parts = self.parts

    async def reported(self) -> None:
        """Return when the others can know how its versions are."""
        while True:
            reports = await self.follower.ask(self.follower.store.reports, time.time())
            own = next((report.versions for report in reports if report.worker == self.worker.name), {})
            if own.keys() == self.cards.keys() and all(found.state in SETTLED for found in own.values()):
                return
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.client.aclose()
        await self.worker.stop()


class Site:
    """Workers, and the store that they share."""

    def __init__(self, folder: Path, runner: asyncio.Runner, chosen: Settings) -> None:
        self.database = folder / "routing.db"
        self.settings = chosen
        self.workers: list[SiteWorker] = []
        self._folder = folder
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(asyncio.wait_for(work, 30))

    def join(
        self,
        *,
        broken: frozenset[str] = frozenset(),
        card: Mapping[str, Any] | None = None,
        own: OwnCards | None = None,
    ) -> SiteWorker:
        """One more worker; `card` is what the cards of its versions have otherwise, `own` by version."""
        worker = self.run(self._new_worker(broken, card or {}, own or {}))
        self.workers.append(worker)
        self.run(worker.start())
        if len(self.workers) > 1:
            self.run(worker.reported())
        return worker

    async def _new_worker(self, broken: frozenset[str], card: Mapping[str, Any], own: OwnCards) -> SiteWorker:
        # This process stands for the server, whose number the folder of its workers' metrics has.
        with patch.object(os, "getppid", os.getpid):
            return SiteWorker(self.settings, self._folder / f"worker-{len(self.workers) + 1}", broken, card, own)

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
    folder.mkdir(exist_ok=True)
    store = redis or f"sqlite:///{folder / 'routing.db'}"
    with patch.dict(os.environ, {"_SHOKADO_TEMPORARY": str(folder)}), asyncio.Runner() as runner:
        site = Site(folder, runner, (chosen or settings()).model_copy(update={"store": store}))
        try:
            yield site
        finally:
            site.stop()
