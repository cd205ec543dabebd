"""`python -m load_tests.bench.rerouting`: is every request answered rightly while the split changes all the time?

64 connections ask without a pause while the split of the same server is changed every 100 ms. Every answer must be a
200 by a version that has weight in the generation that the answer names. Exit code 0 when that held, else 1. Prints how
long it took at most until no worker answered under an older generation (convergence).
"""

import asyncio
import itertools
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from load_tests.bench.contender import Contender
from load_tests.bench.contender_process import HOST, Server, ServerError
from load_tests.bench.lineup import contender_named
from load_tests.bench.measure import site_for
from load_tests.bench.reference_model import ModelMissing, draw_rows, find_model

CONTENDER = "shokado-split"
CONNECTIONS = 64
DIFFERENT_REQUESTS = 64
SPLITS: tuple[dict[str, Any], ...] = (
    {"weights": {"v1": 1, "v2": 0}, "strategy": "random"},
    {"weights": {"v1": 0, "v2": 1}, "strategy": "random"},
    {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"},
    {"weights": {"v1": 0, "v2": 1}, "strategy": "hash"},
    {"weights": {"v1": 90, "v2": 10}, "strategy": "random"},
    {"weights": {"v1": 1, "v2": 0}, "strategy": "hash"},
)
_STATUS = re.compile(rb"HTTP/1.1 (\d+)")
_VERSION = re.compile(rb"x-model-version: ([^\r]+)")
_GENERATION = re.compile(rb"x-generation: (\d+)")
_LENGTH = re.compile(rb"content-length: (\d+)")


@dataclass
class Seen:
    """What the clients saw, and when each generation was confirmed."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    shares: dict[int, dict[str, float]] = field(default_factory=dict)
    confirmed_at: dict[int, float] = field(default_factory=dict)
    pairs: set[tuple[int, str]] = field(default_factory=set)
    """(generation, version) of all answers."""
    last_sent_at: dict[int, float] = field(default_factory=dict)
    """When the last request was sent that each generation answered."""

    def note(self, head: bytes, sent_at: float) -> None:
        status, version, generation = _STATUS.search(head), _VERSION.search(head), _GENERATION.search(head)
        if not (status and version and generation) or status[1] != b"200":
            self.failures.append(head.decode(errors="replace")[:200])
            return
        self.answers += 1
        number = int(generation[1])
        self.pairs.add((number, version[1].decode()))
        self.last_sent_at[number] = max(sent_at, self.last_sent_at.get(number, 0.0))

    @property
    def wrong(self) -> list[tuple[int, str]]:
        """Answers by a version that had no weight in the generation they name."""
        return [(number, version) for number, version in self.pairs if not self.shares.get(number, {}).get(version)]

    def convergence_s(self) -> list[float]:
        """How long after each generation was confirmed a request was sent that an older one answered."""
        times = []
        latest_older = 0.0
        for number in sorted(self.shares):
            confirmed = self.confirmed_at.get(number)
            if confirmed is not None:
                times.append(max(0.0, latest_older - confirmed))
            latest_older = max(latest_older, self.last_sent_at.get(number, 0.0))
        return times


async def _read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return head, await reader.readexactly(int(length[1])) if length else b""


def _request(port: int, method: str, path: str, content: Any) -> bytes:
    body = json.dumps(content).encode() if content is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _ask(port: int, number: int, requests: list[bytes], seen: Seen, end: float) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        for data in itertools.islice(itertools.cycle(requests), number, None):
            sent_at = time.monotonic()
            if sent_at >= end:
                return
            writer.write(data)
            head, _ = await _read_answer(reader)
            seen.note(head, sent_at)
    except (OSError, asyncio.IncompleteReadError) as error:
        seen.failures.append(f"connection {number}: {error!r}")
    finally:
        writer.close()


async def _change(port: int, every_s: float, seen: Seen, end: float) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    for number, split in enumerate(itertools.cycle(SPLITS)):
        due = time.monotonic() + every_s
        if due >= end:
            break
        writer.write(_request(port, "POST", "/v1/traffic-split", split | {"why": f"change {number}"}))
        head, body = await _read_answer(reader)
        answer = json.loads(body)
        if not head.startswith(b"HTTP/1.1 200"):
            seen.failures.append(f"change {number}: {answer}")
        else:
            seen.shares[answer["generation"]] = answer["shares"]
            seen.confirmed_at[answer["generation"]] = time.monotonic()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    writer.close()


async def reroute(port: int, seconds: float, every_s: float) -> Seen:
    """Ask for predictions and change the split at the same time, for so long."""
    rows = draw_rows(DIFFERENT_REQUESTS, seed=7).tolist()
    requests = [
        _request(port, "POST", "/v1/models/predict", {"instances": [row], "unit": f"user-{number}"})
        for number, row in enumerate(rows)
    ]
    seen = Seen()
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(_request(port, "GET", "/v1/traffic-split", None))
    _, body = await _read_answer(reader)
    writer.close()
    first = json.loads(body)
    seen.shares[first["generation"]] = first["shares"]
    end = time.monotonic() + seconds
    clients = [_ask(port, number, requests, seen, end) for number in range(CONNECTIONS)]
    await asyncio.gather(_change(port, every_s, seen, end), *clients)
    return seen


def serve_and_reroute(contender: Contender, seconds: float, every_s: float, model_dir: Path | None) -> Seen:
    """Start the server with two workers and a store of its own, and do all that."""
    site = site_for(contender, find_model(model_dir))
    with Server(contender.launch(site), site.folder / "rerouting.log") as server:
        return uvloop.run(reroute(server.launch.port, seconds, every_s))


def main(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long to keep changing the split.")] = 60,
    every_ms: Annotated[float, typer.Option(min=1, max=10_000, help="Time between two changes.")] = 100,
    model_dir: Annotated[Path | None, typer.Option(help="Folder with model.ubj and model.onnx.")] = None,
) -> None:
    """Change the split every 100 ms for a minute under 64 connections, and check every answer."""
    contender = contender_named(CONTENDER)
    try:
        seen = serve_and_reroute(contender, seconds, every_ms / 1000, model_dir)
    except (ServerError, ModelMissing) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    times = sorted(seen.convergence_s())
    print(f"{seen.answers:,} answers over {CONNECTIONS} connections, {len(times):,} changes of the split")
    print(f"failed: {len(seen.failures)}; answered by a version without weight: {len(seen.wrong)}")
    if times:
        print(f"convergence: median {times[len(times) // 2] * 1000:.0f} ms, maximum {times[-1] * 1000:.0f} ms")
    for failure in seen.failures[:5]:
        print(f"  {failure}")
    if seen.failures or seen.wrong or not times:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
