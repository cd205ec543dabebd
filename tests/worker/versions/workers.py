"""Workers of a server in one process: each with a follower, a fleet, a dispatcher and a loader of its own, over one
store, and with real engines.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from configuration.settings import Settings
from runners.artefacts.configured import find_artefacts
from runners.inputs.rows import Rows
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.request import Prediction, PredictionRequest
from shokado.dispatch.state import RoutingState
from shokado.stores.follower import Follower
from shokado.stores.machine import Machine
from shokado.stores.sqlite_store import SqliteStore
from shokado.stores.store import Entry, WorkerReport
from shokado.worker.versions.fleet import Fleet
from shokado.worker.versions.loading import Loader
from shokado.worker.versions.trials import Trials
from tests.support.quiet import Quiet

_numbers = itertools.count(1)
MACHINE = Machine.of("the tests of loading", str(os.getpid()))


def settings(**changes: Any) -> Settings:
    """Two versions of `customers`, v1 active with all of the traffic; v2 with none."""
    content: dict[str, Any] = {
        "model": "customers",
        "versions": {"v1": {"aliases": ["a"]}, "v2": {}},
        "environments": {"production": {"active": "v1", "weights": {"v1": 1}}},
        "batching": {"max_batch_rows": 64, "max_queue_ms": 60_000},
    }
    return Settings.model_validate(content | changes)


class Worker:
    """One worker; `clock` gives the time of day."""

    def __init__(self, chosen: Settings, database: Path, clock: Callable[[], float]) -> None:
        artefacts = find_artefacts(chosen)
        self._number = next(_numbers)
        self._clock = clock
        trials = Trials(chosen, MACHINE, clock)
        self.fleet = Fleet(chosen, artefacts, Quiet(), {}, self._route, trials, clock)
        self.dispatcher = Dispatcher({}, {}, RoutingState(0, {}, "production"))
        self.follower = Follower(
            SqliteStore(database), chosen, self._adopt, self._report, clock=clock, poll_every_s=0.05
        )
        self.loader = Loader(chosen, artefacts, self.follower, trials, clock)

    async def start(self) -> None:
        await self.follower.start()
        assert self.follower.state is not None
        await self.fleet.start(self.follower.state)
        self._route()

    async def stop(self) -> None:
        await self.loader.stop()
        await self.fleet.stop()
        await self.follower.stop()

    def _adopt(self, entry: Entry) -> None:
        self.fleet.adopt(entry.state)
        self.dispatcher.adopt(entry.state, self.fleet.runners)

    def _route(self) -> None:
        if self.follower.state is not None:
            self.dispatcher.adopt(self.follower.state, self.fleet.runners)

    def _report(self) -> WorkerReport:
        entry = self.follower.entry
        generation = entry.generation if entry is not None else 0
        name, now = f"worker-{self._number}", self._clock()
        return WorkerReport(name, "here", self._number, generation, now, self.fleet.versions(), self.fleet.candidates())

    async def predict(self, rows: Rows, version: str | None = None) -> Prediction:
        """A prediction, which must not have failed."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        request = PredictionRequest(rows.tobytes(), len(rows), version)
        self.dispatcher.dispatch(request, answered.set_result)
        prediction: Prediction = await answered
        assert prediction.error is None, prediction.error
        return prediction


class Server:
    """Workers over one store, the file `database`; more may join."""

    def __init__(self, chosen: Settings, database: Path, clock: Callable[[], float]) -> None:
        self.settings, self.clock = chosen, clock
        self._database = database
        self.workers: list[Worker] = []

    async def join(self, chosen: Settings | None = None) -> Worker:
        """One more worker; `chosen` where it is set up in another way."""
        worker = Worker(chosen or self.settings, self._database, self.clock)
        self.workers.append(worker)
        await worker.start()
        return worker

    def __getitem__(self, index: int) -> Worker:
        return self.workers[index]

    @property
    def state(self) -> RoutingState:
        """The first worker's."""
        state = self[0].follower.state
        assert state is not None
        return state

    def states(self) -> list[dict[str, str]]:
        """The state of each version, by worker."""
        return [
            {version: str(report.state) for version, report in worker.fleet.versions().items()}
            for worker in self.workers
        ]

    async def actions(self) -> list[str]:
        """What was done to the routing so far."""
        follower = self[0].follower
        entries = await follower.ask(follower.store.history, 100)
        return [str(entry.action) for entry in reversed(entries)]


@asynccontextmanager
async def serving(
    chosen: Settings, database: Path, workers: int = 2, clock: Callable[[], float] = time.time
) -> AsyncIterator[Server]:
    server = Server(chosen, database, clock)
    try:
        for _ in range(workers):
            await server.join()
        yield server
    finally:
        for worker in server.workers:
            await worker.stop()
