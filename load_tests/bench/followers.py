"""`python -m load_tests.bench.followers`: what one Redis carries, by workers that only follow it.

A Redis of its own, which writes every change through to its disk and has a replica and a Sentinel, is followed by the
code of real workers, some hundreds a process. The split is changed again and again; how long after the confirmation the
last of all workers has it is the convergence. Then the master is killed. What single calls cost Redis is measured one
kind after the other, without the workers.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from redis import Redis
from rich.console import Console
from rich.table import Table

from configuration.settings import load_settings
from load_tests.bench.follower_crowd import NAMES, WorkerKind
from load_tests.bench.hardware import this_machine
from load_tests.bench.launch import ROOT
from load_tests.bench.process_tree import cpu_seconds
from shokado.dispatch.state import RoutingState, VersionReport
from shokado.stores.follower import KEEP_REPORT_S, POLL_EVERY_S, Follower
from shokado.stores.opening import open_store
from shokado.stores.store import Action, Entry, Settlement, StoreUnavailable, Tally, WorkerReport
from tests.support.redis_sentinel import WatchedRedis

MODEL = "crowd"
PATIENCE_S = 60.0
FEEDBACK_TOGETHER = 500

app = typer.Typer(add_completion=False, rich_markup_mode=None)
console = Console(highlight=False, width=max(Console().width, 100))


@dataclass(frozen=True)
class CallCost:
    """What a call of the store costs."""

    what: str
    redis_us: float
    """Processor time of Redis's thread, which is one."""
    client_us: float
    """Processor time of the worker."""
    takes_us: float
    """The time from the call to its answer: with the way, and with the disk where something is written."""


@dataclass(frozen=True)
class CrowdFigures:
    """What became of changes, in seconds, and how busy Redis was."""

    convergence_s: Sequence[float]
    busy: float
    """Part of a processor that Redis's thread took."""
    commands_per_second: float
    client_cpus: float
    """Processors that all workers together took."""
    failover_s: float
    """The time from the kill of the master to the first change that was confirmed again."""
    failover_convergence_s: float
    """The time from then on to the last worker that had it."""


class CrowdProcess:
    """A process of workers; see `load_tests.bench.follower_crowd`."""

    def __init__(self, url: str, first: int, number: int, kind: WorkerKind) -> None:
        program = [sys.executable, "-m", "load_tests.bench.follower_crowd"]
        command = [*program, url, MODEL, str(first), str(number), kind]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._adopted: dict[int, float] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Raises `RuntimeError` when it ended instead."""
        self._read(lambda words: words[0] == "ready")

    def adopted_at(self, generation: int) -> float:
        """When all of its workers had that generation or a later one, on the monotonic clock."""
        at = [when for known, when in self._adopted.items() if known >= generation]
        if at:
            return min(at)
        return float(self._read(lambda words: words[0] == "adopted" and int(words[1]) >= generation)[2])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self, is_wanted: Callable[[list[str]], bool]) -> list[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = line.split()
            if words[0] == "adopted":
                self._adopted.setdefault(int(words[1]), float(words[2]))
            if is_wanted(words):
                return words
        raise RuntimeError(f"the process of workers {self.pid} ended with {self._process.wait()}")


@app.command()
def main(
    followers: Annotated[int, typer.Option(min=1, max=100_000, help="Workers that follow.")] = 2000,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that they are in.")] = 4,
    changes: Annotated[int, typer.Option(min=1, max=1000, help="Of the split, one a second.")] = 20,
    calls: Annotated[int, typer.Option(min=1, max=1_000_000, help="Single calls of each kind.")] = 5000,
    kind: Annotated[
        WorkerKind, typer.Option(help="Lean ones; whole ones, which take more; deaf ones.")
    ] = WorkerKind.LEAN,
    goal_s: Annotated[float, typer.Option(min=0, help="Within which every worker has a change.")] = 1.0,
) -> None:
    """Measure what one Redis carries; exit code 0 when every change reached every worker within the goal."""
    with TemporaryDirectory() as folder, WatchedRedis(Path(folder)) as redis:
        costs = call_costs(redis, calls)
        figures = asyncio.run(crowd_figures(redis, followers, processes, changes, kind))
    show(followers, costs, figures)
    slowest = max(figures.convergence_s)
    if slowest > goal_s:
        console.print(f"followers: not reached: {slowest:.2f} s until the last worker had a change")
        raise typer.Exit(1)


def call_costs(redis: WatchedRedis, calls: int) -> list[CallCost]:
    """What each kind of call costs, many of them one after the other."""
    store, now = open_store(redis.url, MODEL, Path("/")), time.time()
    versions = {version: VersionReport("d" * 64, "ready", None, 0.0) for version in ("v1", "v2")}
    report = WorkerReport("w", "machine", 1, 1, now, versions, heard=("v1", "v2"))
    tallies = {Tally(version, "production", name): 1.0 for version in ("v1", "v2") for name in NAMES}
    said = {Tally("v1", "production", name): 1.0 for name in ("labels", "correct")}

    def settle(number: int, together: int) -> None:
        keys = range(number * together, (number + 1) * together)
        store.settle([Settlement(f"{together}-{key}", now + 3600, said) for key in keys], now)

    kinds: list[tuple[str, Callable[[int], object], int]] = [
        ("asking for the newest generation", lambda _: store.position(), calls),
        ("a worker's report", lambda _: store.report(report, KEEP_REPORT_S), calls),
        ("asking for a role", lambda _: store.take_role("all", "w", KEEP_REPORT_S, now), calls),
        (f"an addition of {len(tallies)} tallies", lambda _: store.add(tallies, now), calls),
        ("a piece of feedback alone", lambda number: settle(number, 1), calls),
    ]
    with redis.master.client() as client:
        costs = [cost_of(client, what, call, times) for what, call, times in kinds]
        together = cost_of(client, "", lambda number: settle(number, FEEDBACK_TOGETHER), max(1, calls // 50))
    what, each = f"a piece of feedback of {FEEDBACK_TOGETHER}", 1 / FEEDBACK_TOGETHER
    store.close()
    return [*costs, CallCost(what, together.redis_us * each, together.client_us * each, together.takes_us * each)]


def cost_of(client: Redis, what: str, call: Callable[[int], object], times: int) -> CallCost:
    call(times)  # connects, and teaches Redis the script
    busy_us, began, began_at = busy(client), time.process_time(), time.monotonic()
    for number in range(times):
        call(number)
    client_us = (time.process_time() - began) * 1e6
    takes_us = (time.monotonic() - began_at) * 1e6
    return CallCost(what, (busy(client) - busy_us) / times, client_us / times, takes_us / times)


def busy(client: Redis) -> float:
    """The processor time of Redis's thread up to now, in microseconds."""
    found = _info(client, "cpu")
    return float(found["used_cpu_user_main_thread"] + found["used_cpu_sys_main_thread"]) * 1e6


def _info(client: Redis, section: str) -> dict[str, Any]:
    return client.info(section)


async def crowd_figures(
    redis: WatchedRedis, followers: int, processes: int, changes: int, kind: WorkerKind
) -> CrowdFigures:
    """Change the split again and again while so many workers follow; then kill the master."""
    share, more = divmod(followers, processes)
    sizes = [share + (index < more) for index in range(processes)]
    firsts = [sum(sizes[:index]) for index in range(processes)]
    settings = load_settings()
    changer = Follower(open_store(redis.url, MODEL, Path("/")), settings, lambda _: None, _nobody)
    await changer.start()
    crowd = [CrowdProcess(redis.url, first, size, kind) for first, size in zip(firsts, sizes, strict=True) if size]
    try:
        console.print(f"followers: starting {followers:,} {kind} workers in {len(crowd)} processes")
        for process in crowd:
            await asyncio.to_thread(process.wait_until_ready)
        pids = [process.pid for process in crowd]
        with redis.master.client() as client:
            before = (time.monotonic(), busy(client), _info(client, "stats"), cpu_seconds(pids))
            convergence = [await _one_change(changer, crowd, number) for number in range(changes)]
            after = (time.monotonic(), busy(client), _info(client, "stats"), cpu_seconds(pids))
        console.print("followers: killing the master")
        killed_at = time.monotonic()
        await asyncio.to_thread(redis.fail_over)
        entry = await _insist(changer)
        confirmed_at = time.monotonic()
        last = max([await asyncio.to_thread(process.adopted_at, entry.generation) for process in crowd])
    finally:
        for process in crowd:
            process.stop()
        await changer.stop()
    elapsed = after[0] - before[0]
    commands = after[2]["total_commands_processed"] - before[2]["total_commands_processed"]
    return CrowdFigures(
        convergence_s=convergence,
        busy=(after[1] - before[1]) / 1e6 / elapsed,
        commands_per_second=commands / elapsed,
        client_cpus=(after[3] - before[3]) / elapsed,
        failover_s=confirmed_at - killed_at,
        failover_convergence_s=max(0.0, last - confirmed_at),
    )


async def _one_change(changer: Follower, crowd: Sequence[CrowdProcess], number: int) -> float:
    """How long after the confirmation the last worker had it. Begins at any time between two looks of the workers."""
    await asyncio.sleep(1 + number % 7 * POLL_EVERY_S / 7)
    entry = await _change(changer)
    confirmed_at = time.monotonic()
    adopted = [await asyncio.to_thread(process.adopted_at, entry.generation) for process in crowd]
    return max(0.0, max(adopted) - confirmed_at)


async def _change(changer: Follower) -> Entry:
    def make(state: RoutingState) -> RoutingState:
        return replace(state, generation=state.generation + 1)

    return await changer.change(make, by="followers", action=Action.SPLIT)


async def _insist(changer: Follower) -> Entry:
    """The first change that the store takes again."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await _change(changer)
        except StoreUnavailable:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)


def _nobody() -> WorkerReport:
    return WorkerReport("changer", "changer", 1, 0, time.time())


def show(followers: int, costs: Sequence[CallCost], figures: CrowdFigures) -> None:
    """Print the tables."""
    console.print(f"\n{this_machine()}\n")
    table = Table("call", "Redis us", "worker us", "takes us")
    for cost in costs:
        table.add_row(cost.what, f"{cost.redis_us:.1f}", f"{cost.client_us:.1f}", f"{cost.takes_us:.1f}")
    console.print(table)
    told = Table("figure", "value")
    spread = sorted(figures.convergence_s)
    told.add_row("workers", f"{followers:,}")
    told.add_row("changes", f"{len(spread)}")
    told.add_row("last worker has a change after, median", f"{statistics.median(spread):.2f} s")
    told.add_row("last worker has a change after, slowest", f"{spread[-1]:.2f} s")
    told.add_row("commands of Redis a second", f"{figures.commands_per_second:,.0f}")
    told.add_row("processors that Redis takes", f"{figures.busy:.2f}")
    told.add_row("Redis, for each worker", f"{figures.busy / followers * 1e6:.0f} us/s")
    told.add_row("processors that all workers take", f"{figures.client_cpus:.2f}")
    told.add_row("master killed, next change confirmed after", f"{figures.failover_s:.1f} s")
    told.add_row("which the last worker has after another", f"{figures.failover_convergence_s:.2f} s")
    console.print(told)


if __name__ == "__main__":
    app()
