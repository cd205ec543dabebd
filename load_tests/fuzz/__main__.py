"""`python -m load_tests.fuzz`: does any request body, however broken, bring a server with two workers out of step?

Every prediction route gets so many mutated bodies over pipelined keep-alive connections, and then requests whose
framing is broken. Exit code 0 when no answer was a 5xx, late, missing, no HTTP or an error without JSON, every good
request in between got its right answer, no worker was restarted, no traceback was logged and memory did not grow;
else 1. The same seed sends the same requests. What failed is kept as a file; `--replay` sends one again.
"""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import uvloop

from load_tests.bench.contender_process import HOST, Server, ServerError
from load_tests.bench.lineup import contender_named
from load_tests.bench.measure import site_for
from load_tests.bench.reference_model import ModelMissing, find_model
from load_tests.bench.soak import CONTENDER, GROWTH_LIMIT, SAMPLES, MemorySample, growth
from load_tests.fuzz.mutating_client import CONNECTIONS, Findings, Hostile, good_answers, send_frames, send_mutated
from load_tests.fuzz.sample import Route, routes_of

JUDGED_FROM = 300_000
"""Requests below which growth is shown but not judged: caches and allocators are still filling."""
FRAMES_SHARE = 0.1
"""Part of the bodies whose framing is broken; each of them costs a connection."""
REPLAY_S = 10.0
"""How long a replay waits for more of an answer."""


async def fuzz(server: Server, bodies: int, seed: int, findings: Findings) -> list[MemorySample]:
    """Send it all; returns the memory after each tenth of the mutated bodies."""
    routes = routes_of(json.loads(await asyncio.to_thread(_description, server)))
    port = server.launch.port
    good = await good_answers(port, routes)
    print(f"{len(routes)} routes, {sum(map(len, good.values()))} examples, all answered", flush=True)
    total = bodies * len(routes)
    samples = []
    for tenth in range(SAMPLES):
        numbers = range(total * tenth // SAMPLES, total * (tenth + 1) // SAMPLES)
        await _side_by_side(lambda own: send_mutated(port, own, seed, routes, good, findings), numbers)
        samples.append(MemorySample(numbers.stop, server.pss_megabytes()))
        statuses = "  ".join(f"{status}: {count:,}" for status, count in sorted(findings.statuses.items()))
        print(f"{numbers.stop:>12,} bodies  {samples[-1].megabytes:8.1f} MB PSS  {statuses}", flush=True)
    await _fuzz_frames(port, range(int(total * FRAMES_SHARE)), seed, routes, findings)
    await good_answers(port, routes)
    return samples


async def _fuzz_frames(port: int, numbers: range, seed: int, routes: list[Route], findings: Findings) -> None:
    await _side_by_side(lambda own: send_frames(port, own, seed, routes, findings), numbers)
    print(f"{len(numbers):>12,} broken frames", flush=True)


async def _side_by_side(send: Callable[[range], Coroutine[Any, Any, None]], numbers: range) -> None:
    async with asyncio.TaskGroup() as group:
        for connection in range(CONNECTIONS):
            group.create_task(send(numbers[connection::CONNECTIONS]))


def _description(server: Server) -> bytes:
    return httpx.get(f"{server.url}/openapi.json", timeout=30).content


async def _replay(server: Server, path: Path) -> None:
    """Send a kept request, and print what comes back until the server is silent."""
    reader, writer = await asyncio.open_connection(HOST, server.launch.port)
    writer.write(path.read_bytes())
    try:
        while part := await asyncio.wait_for(reader.read(65_536), REPLAY_S):
            print(part.decode(errors="replace"), flush=True)
        print("-- closed by the server")
    except TimeoutError:
        print(f"-- nothing more within {REPLAY_S:.0f} s")
    writer.close()


def main(
    bodies: Annotated[int, typer.Option(min=100, max=100_000_000, help="Mutated bodies for each route.")] = 100_000,
    seed: Annotated[int, typer.Option(help="The same seed sends the same requests.")] = 1,
    replay: Annotated[Path | None, typer.Option(exists=True, help="Send this file's request instead.")] = None,
    model_dir: Annotated[Path | None, typer.Option(help="Folder with model.ubj and model.onnx.")] = None,
) -> None:
    """Send mutated requests to every prediction route of a server with two workers, and check every answer."""
    contender = contender_named(CONTENDER)
    try:
        site = site_for(contender, find_model(model_dir))
        with Server(contender.launch(site), site.folder / "fuzz.log") as server:
            if replay is not None:
                uvloop.run(_replay(server, replay))
                return
            failures = _run(server, bodies, seed, site.folder / "fuzz")
    except (ServerError, ModelMissing, Hostile) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    for failure in failures:
        print(f"  {failure}")
    print(f"{len(failures)} failures")
    if failures:
        raise typer.Exit(1)


def _run(server: Server, bodies: int, seed: int, folder: Path) -> list[str]:
    """Fuzz the server, and return all failures in words."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    findings = Findings(folder)
    processes, began = server.processes(), time.monotonic()
    samples = uvloop.run(fuzz(server, bodies, seed, findings))
    failures = findings.failures
    grown = growth(samples)
    print(f"{findings.answers:,} answers in {time.monotonic() - began:.0f} s; memory from 20 % on: {grown:+.2%}")
    if grown > GROWTH_LIMIT and samples[-1].requests >= JUDGED_FROM:
        failures.append(f"memory grew by {grown:.1%}, limit {GROWTH_LIMIT:.0%}")
    if not processes <= server.processes():
        failures.append("a process of the server ended or was restarted")
    if "Traceback" in server.log.read_text(errors="replace"):
        failures.append(f"a traceback was logged: {server.log}")
    return failures


if __name__ == "__main__":
    typer.run(main)
