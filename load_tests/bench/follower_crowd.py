"""`python -m load_tests.bench.follower_crowd`: a process of workers that do nothing but what a worker asks a store for.

Each follows the routing, reports on itself, tells what it counted, and asks for its roles, by the code of a server and
as often. Lines on the standard output tell the parent; it ends with its standard input:

    ready
    adopted GENERATION AT        all of them have that generation; AT on this machine's monotonic clock
"""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from configuration.settings import load_settings
from shokado.dispatch.state import VersionReport
from shokado.experiments.tallying import EVERY_S as TALLY_EVERY_S
from shokado.stores.follower import KEEP_REPORT_S, Follower
from shokado.stores.opening import open_store
from shokado.stores.store import Entry, StoreUnavailable, Tally, WorkerReport
from shokado.worker.worker import HOUSEKEEPING_EVERY_S

NAMES = ("requests", "rows", "failed", "labels", "correct", "rewards", "reward_sum", "fallbacks")
"""As many tallies of a version as feedback and shares make."""


class Crowd:
    """Workers of one process: how far all of them are, is told to the parent."""

    def __init__(self, url: str, model: str, names: Iterable[str], *, tallies: bool) -> None:
        settings = load_settings()
        self._generations: dict[str, int] = {}
        self._told = 0
        self._tallies = tallies
        self.followers = {
            name: Follower(
                open_store(url, model, Path("/")),
                settings,
                lambda entry, name=name: self._adopted(name, entry),  # type: ignore[misc]
                lambda name=name: self._report(name),  # type: ignore[misc]
            )
            for name in names
        }

    async def run(self, stopped: asyncio.Event) -> None:
        """Follow until stopped. The starts are spread over a second, as those of many machines are."""
        pause_s = 1 / len(self.followers)
        tasks = []
        for name, follower in self.followers.items():
            await follower.start()
            tasks += [asyncio.create_task(self._tally(follower)), asyncio.create_task(self._keep_house(name, follower))]
            await asyncio.sleep(pause_s)
        print("ready", flush=True)
        await stopped.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(follower.stop() for follower in self.followers.values()))

    def _adopted(self, name: str, entry: Entry) -> None:
        self._generations[name] = entry.generation
        if len(self._generations) < len(self.followers):
            return
        slowest = min(self._generations.values())
        if slowest > self._told:
            self._told = slowest
            print(f"adopted {slowest} {time.monotonic():.6f}", flush=True)

    def _report(self, name: str) -> WorkerReport:
        versions = {version: VersionReport("d" * 64, "ready", None, 0.0) for version in ("v1", "v2")}
        generation = self._generations.get(name, 0)
        return WorkerReport(name, f"machine-{name}", 1, generation, time.time(), versions, heard=("v1", "v2"))

    async def _tally(self, follower: Follower) -> None:
        counts = {Tally(version, "production", name): 1.0 for version in ("v1", "v2") for name in NAMES}
        while self._tallies:
            await asyncio.sleep(TALLY_EVERY_S)
            with contextlib.suppress(StoreUnavailable):
                await follower.ask(follower.store.add, counts, time.time())

    async def _keep_house(self, name: str, follower: Follower) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_EVERY_S)
            with contextlib.suppress(StoreUnavailable):
                for role in ("all", f"machine machine-{name}"):
                    await follower.ask(follower.store.take_role, role, name, KEEP_REPORT_S, time.time())


async def main(url: str, model: str, first: int, number: int, *, tallies: bool) -> None:
    """Be the workers `first` to `first + number - 1`."""
    stopped = asyncio.Event()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def listen() -> None:
        await reader.readline()
        stopped.set()

    listening = asyncio.create_task(listen())
    crowd = Crowd(url, model, [f"w{index:05}" for index in range(first, first + number)], tallies=tallies)
    await crowd.run(stopped)
    await listening


if __name__ == "__main__":
    _, given_url, given_model, given_first, given_number, given_tallies = sys.argv
    # All of them would say that Redis is away.
    logging.disable()
    asyncio.run(main(given_url, given_model, int(given_first), int(given_number), tallies=given_tallies == "tallies"))
