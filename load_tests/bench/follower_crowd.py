"""`python -m load_tests.bench.follower_crowd`: a process of workers that do nothing but what a worker asks a store for.

Each follows the routing, reports on itself, tells what it counted, and asks for its roles: by the store that a server
has, with its two connections, and as often. A *whole* one does so by a server's follower, with an event loop that hands
each call to a thread of the worker's own. *Lean* ones do without, as thousands of those are work for thousands of
processors; they hear of news by the code that a server has, and look when it would. *Deaf* ones are lean and hear of
none, as with a Redis that tells none, and look as often as a server does then. Lines on the standard output tell the
parent:

    ready                        all of them are there, and hear of news
    adopted GENERATION AT        all of them have that generation; AT on this machine's monotonic clock
"""

import asyncio
import contextlib
import heapq
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from configuration.settings import load_settings
from shokado.dispatch.state import VersionReport
from shokado.experiments.tallying import EVERY_S as TALLY_EVERY_S
from shokado.stores.follower import KEEP_REPORT_S, LOOK_EVERY_S, POLL_EVERY_S, REPORT_EVERY_S, SPREAD_S, Follower
from shokado.stores.opening import open_store
from shokado.stores.store import EMPTY, Entry, News, Position, Store, StoreUnavailable, Tally, WorkerReport
from shokado.worker.repeating import repeat
from shokado.worker.worker import HOUSEKEEPING_EVERY_S

THREADS = 8
"""How many a process has: a worker that waits for Redis's disk keeps only those of its own thread waiting."""
NAMES = ("requests", "rows", "failed", "labels", "correct", "rewards", "reward_sum", "fallbacks")
"""As many tallies of a version as feedback and shares make."""
_COUNTS = {Tally(version, "production", name): 1.0 for version in ("v1", "v2") for name in NAMES}
_VERSIONS = {version: VersionReport("d" * 64, "ready", None, 0.0) for version in ("v1", "v2")}


class WorkerKind(StrEnum):
    """How workers are simulated."""

    LEAN = "lean"
    WHOLE = "whole"
    DEAF = "deaf"


Adopted = Callable[[str, int], None]
"""Is told the name of a worker, and the generation that it has now."""


class Turns:
    """What is due of the workers of one thread."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None], Callable[[], float] | None]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()

    def at(self, when: float, job: Callable[[], None], every_s: Callable[[], float] | None = None) -> None:
        """Do it then, and every so many seconds from then on; None: once. From any thread."""
        with self._changed:
            heapq.heappush(self._due, (when, next(self._numbers), job, every_s))
            self._changed.notify()

    def run(self) -> None:
        """Work until this process is killed."""
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                _, _, job, every_s = heapq.heappop(self._due)
            # Redis is killed on purpose.
            with contextlib.suppress(StoreUnavailable):
                job()
            if every_s is not None:
                # A server waits this long after each round trip, too.
                self.at(time.monotonic() + every_s(), job, every_s)


class CrowdWorker:
    """What a worker asks its store for, each piece when it is due."""

    def __init__(self, store: Store, name: str, adopted: Adopted, turns: Turns, *, hears: bool) -> None:
        self.name = name
        self._store = store
        self._adopted = adopted
        self._turns = turns
        self._position: Position = EMPTY
        self._told: News | None = store.news() if hears else None
        self._is_to_look = False

    @property
    def is_told(self) -> bool:
        """Whether it hears of news."""
        return self._told is not None and self._told.listening

    async def follow(self, first_at: float) -> None:
        """Begin with everything at that time, and hear of news."""
        self._turns.at(first_at, self._look, lambda: LOOK_EVERY_S if self.is_told else POLL_EVERY_S)
        self._turns.at(first_at, self._report, lambda: REPORT_EVERY_S)
        self._turns.at(first_at, lambda: _tell(self._store), lambda: TALLY_EVERY_S)
        self._turns.at(first_at, lambda: _ask_for_roles(self._store, self.name), lambda: HOUSEKEEPING_EVERY_S)
        if self._told is not None:
            await self._told.listen(self._hear)

    def _hear(self) -> None:
        if not self._is_to_look:
            self._is_to_look = True
            self._turns.at(time.monotonic() + random.uniform(0, SPREAD_S), self._look_after_news)

    def _look_after_news(self) -> None:
        self._is_to_look = False
        self._look()

    def _look(self) -> None:
        position = self._store.position()
        if position.generation <= self._position.generation:
            return
        entry = self._store.read()
        if entry is not None:
            self._position = entry.position
            self._adopted(self.name, entry.generation)
            self._turns.at(time.monotonic() + random.uniform(0, POLL_EVERY_S), self._report)

    def _report(self) -> None:
        self._store.report(_report_of(self.name, self._position.generation), KEEP_REPORT_S)


class WholeWorker:
    """The same by a server's follower."""

    def __init__(self, store: Store, name: str, adopted: Adopted) -> None:
        self.name = name
        self._follower = Follower(store, load_settings(), self._adopt, self._report)
        self._adopted = adopted

    @property
    def is_told(self) -> bool:
        """Whether it hears of news."""
        return self._follower.is_told

    async def follow(self, first_at: float) -> None:
        """Begin with everything at that time."""
        await asyncio.sleep(first_at - time.monotonic())
        await self._follower.start()
        ask, store = self._follower.ask, self._follower.store
        await asyncio.gather(
            repeat(TALLY_EVERY_S, lambda: ask(_tell, store)),
            repeat(HOUSEKEEPING_EVERY_S, lambda: ask(_ask_for_roles, store, self.name)),
        )

    def _adopt(self, entry: Entry) -> None:
        self._adopted(self.name, entry.generation)

    def _report(self) -> WorkerReport:
        entry = self._follower.entry
        return _report_of(self.name, entry.generation if entry is not None else 0)


class Crowd:
    """The workers of a process; how far all of them are, is told to the parent."""

    def __init__(self, url: str, model: str, names: Sequence[str], kind: WorkerKind) -> None:
        is_whole = kind is WorkerKind.WHOLE
        self._turns = [] if is_whole else [Turns() for _ in range(min(THREADS, len(names)))]
        self._deaf = kind is WorkerKind.DEAF
        self._workers: list[CrowdWorker | WholeWorker] = []
        for number, name in enumerate(names):
            store = open_store(url, model, Path("/"))
            if is_whole:
                self._workers.append(WholeWorker(store, name, self._note))
            else:
                turns = self._turns[number % len(self._turns)]
                self._workers.append(CrowdWorker(store, name, self._note, turns, hears=not self._deaf))
        self._generations = dict.fromkeys(names, 0)
        self._told = 0
        self._turn = threading.Lock()

    async def run(self) -> None:
        """Work until this process is killed; begins spread over time, as workers of many machines do."""
        for turns in self._turns:
            threading.Thread(target=turns.run, daemon=True).start()
        began, each_s = time.monotonic(), TALLY_EVERY_S / len(self._workers)
        following = [
            asyncio.create_task(worker.follow(began + number * each_s)) for number, worker in enumerate(self._workers)
        ]
        while not self._deaf and not all(worker.is_told for worker in self._workers):
            await asyncio.sleep(0.1)
        print("ready", flush=True)
        await asyncio.gather(*following)
        # What deaf ones do is done by threads.
        await asyncio.Event().wait()

    def _note(self, name: str, generation: int) -> None:
        with self._turn:
            self._generations[name] = generation
            slowest = min(self._generations.values())
            if slowest > self._told:
                self._told = slowest
                print(f"adopted {slowest} {time.monotonic():.6f}", flush=True)


def _tell(store: Store) -> None:
    store.add(_COUNTS, time.time())


def _ask_for_roles(store: Store, name: str) -> None:
    for role in ("all", f"machine machine-{name}"):
        store.take_role(role, name, KEEP_REPORT_S, time.time())


def _report_of(name: str, generation: int) -> WorkerReport:
    return WorkerReport(name, f"machine-{name}", 1, generation, time.time(), _VERSIONS, heard=("v1", "v2"))


if __name__ == "__main__":
    _, given_url, given_model, given_first, given_number, given_kind = sys.argv
    given_names = [f"w{int(given_first) + index:05}" for index in range(int(given_number))]
    asyncio.run(Crowd(given_url, given_model, given_names, WorkerKind(given_kind)).run())
