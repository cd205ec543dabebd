"""`python -m load_tests.bench.overload`: what becomes of three times as many requests as the server can answer?

By turns, one worker is loaded to its top by 64 clients that wait for their answers, and then gets three times as much
on a schedule that waits for nobody. Goals: accepted requests keep the p99 that they have at the top, the others are
refused in under 20 ms, and no fewer are answered than at the top. One worker, so that the load has a core of its own.

Of one-row requests no schedule could send that many from one core. There, eight times the clients wait for answers.

Prints medians over the turns. Exit code 1 when anything but 200, 429 and 503 was answered or a connection broke:
times depend on the machine, that does not.
"""

import http.client
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from load_tests.bench import launch, open_loop
from load_tests.bench.check import WrongScores, check
from load_tests.bench.contender_api import ContenderApi
from load_tests.bench.contender_process import HOST, Server, ServerError
from load_tests.bench.hardware import this_machine
from load_tests.bench.lineup import contender_named
from load_tests.bench.measure import site_for
from load_tests.bench.open_loop import OpenLoopCounts
from load_tests.bench.reference_model import ModelMissing, draw_rows, find_model

TOP_CONNECTIONS = 64
CONNECTIONS = 512
"""Clients in overload: many times those that reach the top."""
BODIES = 16
"""Different bodies, so that no contender can answer from a cache."""
REFUSAL_GOAL_MS = 20
REFUSALS = (429, 503)
PROBED = ("/livez", "/readyz", "/metrics", "/v1/traffic-split")
PROBE_EVERY_S = 0.5
"""How often control routes are asked for meanwhile."""


@dataclass(frozen=True)
class OverloadCase:
    """What is asked: `rows` a request, in the API of a contender of the benchmark.

    `factor` times the top is scheduled; 0: clients ask again as soon as they have their answer.
    """

    name: str
    contender: str
    rows: int
    factor: float

    @property
    def load(self) -> str:
        return f"{self.factor:g} x the top" if self.factor else "all ask again at once"


WORKLOADS = (
    OverloadCase("1,000 rows, float32", "shokado-binary", 1000, factor=3),
    OverloadCase("one row, JSON", "shokado", 1, factor=0),
)


@dataclass(frozen=True)
class Turn:
    """One turn of the top and one of the overload."""

    top: OpenLoopCounts
    overload: OpenLoopCounts
    probes_s: Mapping[str, Sequence[float]]


def percentile_ms(latencies_s: Sequence[float], percent: float) -> float:
    """The percentile in milliseconds of latencies in seconds; NaN where there are none."""
    return float(np.percentile(latencies_s, percent)) * 1000 if latencies_s else float("nan")


def requests_of(api: ContenderApi, rows: int) -> list[bytes]:
    """Whole requests, each with other rows."""
    found = []
    for seed in range(BODIES):
        body = api.encode(draw_rows(rows, seed))
        headers = {"Host": HOST, **api.headers, "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        found.append(f"POST {api.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    return found


@contextmanager
def probing(port: int) -> Iterator[Mapping[str, list[float]]]:
    """Ask the routes that are no predictions, one after the other, and note how long each takes."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    ended = threading.Event()

    def probe() -> None:
        while not ended.is_set():
            for path in PROBED:
                connection = http.client.HTTPConnection(HOST, port, timeout=30)
                started = time.monotonic()
                connection.request("GET", path)
                connection.getresponse().read()
                found[path].append(time.monotonic() - started)
                connection.close()
            ended.wait(PROBE_EVERY_S)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def take_turns(
    workload: OverloadCase,
    turns: int,
    seconds: float,
    standing_queue_ms: float,
    model_dir: Path | None,
    generator: ProcessPoolExecutor,
) -> Iterator[Turn]:
    """Start the server, check its answers, and load it by turns."""
    contender = contender_named(workload.contender)
    contender = replace(
        contender, launch=launch.shokado(workers="1", batching__standing_queue_ms=f"{standing_queue_ms:g}")
    )
    model = find_model(model_dir)
    site = site_for(contender, model)
    with Server(contender.launch(site), site.folder / "overload.log") as server:
        check(server, contender, model)
        requests = requests_of(contender.api, workload.rows)
        address = (HOST, server.launch.port)

        def loaded(connections: int, rate: float, seconds: float) -> OpenLoopCounts:
            return generator.submit(open_loop.run, address, requests, connections, rate, seconds).result()

        loaded(TOP_CONNECTIONS, 0, 2)
        for _ in range(turns):
            top = loaded(TOP_CONNECTIONS, 0, seconds)
            with probing(server.launch.port) as probes:
                overload = loaded(CONNECTIONS, workload.factor * top.per_second(200), seconds)
            yield Turn(top, overload, probes)


def refusals(seen: OpenLoopCounts) -> list[float]:
    return [latency for status in REFUSALS for latency in seen.latencies_s[status]]


def failures(turn: Turn) -> int:
    """Answers that are neither predictions nor refusals, and requests without one."""
    odd = [
        latency
        for seen in (turn.top, turn.overload)
        for status, latencies in seen.latencies_s.items()
        if status not in (200, *REFUSALS)
        for latency in latencies
    ]
    return len(odd) + turn.top.broken + turn.overload.broken


def report(workload: OverloadCase, turns: Sequence[Turn]) -> str:
    """Medians over the turns, as lines. Raises `ServerError` when the top has no answers."""

    def row(name: str, latencies: Callable[[Turn], Sequence[float]], seconds: float) -> str:
        rate = median(len(latencies(turn)) / seconds for turn in turns)
        p50, p99 = (median(percentile_ms(latencies(turn), percent) for turn in turns) for percent in (50, 99))
        return f"  {name:<18} {rate:9,.0f}/s   p50 {p50:8.2f} ms   p99 {p99:8.2f} ms"

    def probes(path: str) -> Callable[[Turn], Sequence[float]]:
        return lambda turn: turn.probes_s[path]

    shares = [turn.overload.per_second(200) / top for turn in turns if (top := turn.top.per_second(200))]
    if not shares:
        raise ServerError("nothing was answered at the top")
    seconds = turns[0].top.seconds
    lines = [
        f"{workload.name}: {CONNECTIONS} connections, {workload.load}; medians of {len(turns)} turns of {seconds:g} s",
        row("top", lambda turn: turn.top.latencies_s[200], seconds),
        row("accepted", lambda turn: turn.overload.latencies_s[200], seconds),
        row("refused", lambda turn: refusals(turn.overload), seconds),
        *(row(path, probes(path), seconds) for path in PROBED),
        f"  answered: {median(shares):.0%} of the top (goal: 100 %); refusals' goal: p99 under {REFUSAL_GOAL_MS} ms",
        f"  neither answered nor refused: {sum(map(failures, turns))}",
        f"  not sent, as no connection was free: {sum(turn.overload.unsent for turn in turns)}",
    ]
    return "\n".join(lines)


def main(
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Of each half of a turn.")] = 10,
    turns: Annotated[int, typer.Option(min=1, max=100, help="How often top and overload alternate.")] = 3,
    standing_queue_ms: Annotated[float, typer.Option(help="The server's `batching.standing_queue_ms`.")] = 100,
    quick: Annotated[bool, typer.Option(help="One short turn: to see that it works.")] = False,
    model_dir: Annotated[Path | None, typer.Option(help="Folder with model.ubj and model.onnx.")] = None,
) -> None:
    """Load a server with three times what it can answer, and see who is answered, who is refused, and when."""
    if quick:
        seconds, turns = 2, 1
    print(this_machine())
    failed = 0
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as generator:
            for workload in WORKLOADS:
                taken = list(take_turns(workload, turns, seconds, standing_queue_ms, model_dir, generator))
                print(report(workload, taken), flush=True)
                failed += sum(map(failures, taken))
    except (ServerError, ModelMissing, WrongScores) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
