"""`python -m load_tests.bench.follower_crowd`: a process of workers that do nothing but what a worker asks a store for.

Each follows the routing, reports on itself, tells what it counted, and asks for its roles: by the store that a server
has, with a connection of its own, and as often. What a server does around it, an event loop that hands each call to a
thread, is left out, as thousands of those are work for thousands of processors. Lines on the standard output tell the
parent:

    ready
    adopted GENERATION AT        all of them have that generation; AT on this machine's monotonic clock
"""

import contextlib
import heapq
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from shokado.dispatch.state import VersionReport
from shokado.experiments.tallying import EVERY_S as TALLY_EVERY_S
from shokado.stores.follower import KEEP_REPORT_S, POLL_EVERY_S, REPORT_EVERY_S
from shokado.stores.opening import open_store
from shokado.stores.store import EMPTY, Position, StoreUnavailable, Tally, WorkerReport
from shokado.worker.worker import HOUSEKEEPING_EVERY_S

THREADS = 8
"""How many a process has: a worker that waits for Redis's disk keeps only those of its own thread waiting."""
NAMES = ("requests", "rows", "failed", "labels", "correct", "rewards", "reward_sum", "fallbacks")
"""As many tallies of a version as feedback and shares make."""


class CrowdWorker:
    """What a worker asks its store for, each piece when it is due."""

    def __init__(self, url: str, model: str, name: str, adopted: Callable[[str, int], None]) -> None:
        self.name = name
        self._store = open_store(url, model, Path("/"))
        self._adopted = adopted
        self._position: Position = EMPTY
        self._counts = {Tally(version, "production", name): 1.0 for version in ("v1", "v2") for name in NAMES}
        self._versions = {version: VersionReport("d" * 64, "ready", None, 0.0) for version in ("v1", "v2")}

    @property
    def jobs(self) -> list[tuple[Callable[[], None], float]]:
        """What is to be done, and every how many seconds."""
        return [
            (self._follow, POLL_EVERY_S),
            (self._report, REPORT_EVERY_S),
            (self._tell, TALLY_EVERY_S),
            (self._ask_for_roles, HOUSEKEEPING_EVERY_S),
        ]

    def _follow(self) -> None:
        position = self._store.position()
        if position.generation <= self._position.generation:
            return
        entry = self._store.read()
        if entry is not None:
            self._position = entry.position
            self._adopted(self.name, entry.generation)
            self._report()

    def _report(self) -> None:
        generation, now = self._position.generation, time.time()
        machine = f"machine-{self.name}"
        report = WorkerReport(self.name, machine, 1, generation, now, self._versions, heard=("v1", "v2"))
        self._store.report(report, KEEP_REPORT_S)

    def _tell(self) -> None:
        self._store.add(self._counts, time.time())

    def _ask_for_roles(self) -> None:
        for role in ("all", f"machine machine-{self.name}"):
            self._store.take_role(role, self.name, KEEP_REPORT_S, time.time())


class Crowd:
    """The workers of a process; how far all of them are, is told to the parent."""

    def __init__(self, url: str, model: str, names: Iterable[str]) -> None:
        self._workers = [CrowdWorker(url, model, name, self._note) for name in names]
        self._generations = dict.fromkeys((worker.name for worker in self._workers), 0)
        self._told = 0
        self._turn = threading.Lock()

    def run(self) -> None:
        """Work until this process is killed."""
        threads = [
            threading.Thread(target=_work, args=(self._workers[number::THREADS],), daemon=True)
            for number in range(min(THREADS, len(self._workers)))
        ]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        threads[0].join()

    def _note(self, name: str, generation: int) -> None:
        with self._turn:
            self._generations[name] = generation
            slowest = min(self._generations.values())
            if slowest > self._told:
                self._told = slowest
                print(f"adopted {slowest} {time.monotonic():.6f}", flush=True)


def _work(workers: Sequence[CrowdWorker]) -> None:
    """Do what is due, of all of them; begins spread over the time of a round, as workers of many machines do."""
    began, due = time.monotonic(), []
    for worker_number, worker in enumerate(workers):
        for job_number, (job, every_s) in enumerate(worker.jobs):
            first_at = began + every_s * worker_number / len(workers)
            due.append((first_at, worker_number, job_number, job, every_s))
    heapq.heapify(due)
    while True:
        at, worker_number, job_number, job, every_s = due[0]
        time.sleep(max(0.0, at - time.monotonic()))
        # Redis is killed on purpose.
        with contextlib.suppress(StoreUnavailable):
            job()
        # A server waits this long after each round trip, too.
        heapq.heapreplace(due, (time.monotonic() + every_s, worker_number, job_number, job, every_s))


if __name__ == "__main__":
    _, given_url, given_model, given_first, given_number = sys.argv
    Crowd(given_url, given_model, [f"w{int(given_first) + index:05}" for index in range(int(given_number))]).run()
