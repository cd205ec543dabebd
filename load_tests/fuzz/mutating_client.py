"""Connections that send mutated requests and hold every answer against what an answer must be."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from load_tests.bench.contender_process import HOST
from load_tests.fuzz.answer_rules import AnswerHead, content_of, fault_of, is_same, read_answer_head
from load_tests.fuzz.mutation import broken_frame, mutated
from load_tests.fuzz.sample import Route, Sample, good_request

CONNECTIONS = 8
PIPELINED = 16
"""Requests that leave a connection at once; their answers must come in the same order."""
GOOD_EVERY = 50
"""One in so many requests of a route is good, and its answer must be the same as before."""
PATIENCE_S = 10.0
"""Seconds after which a missing answer is a hang."""
MAX_FAILURES = 20
"""Failures after which the run ends: more say no more."""


class Hostile(Exception):
    """The server's side of the connection is not what it must be; the message says how."""


@dataclass(frozen=True)
class Good:
    """A request that must be answered well, and its answer."""

    data: bytes
    content: Any


@dataclass
class Findings:
    """What was seen so far. Requests that failed lie in `folder`, as they were sent."""

    folder: Path
    answers: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def note(self, status: int) -> None:
        self.answers += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def fail(self, what: str, sent: bytes) -> None:
        """Keep a failure, and the bytes that bring it about in a file of their own."""
        path = self.folder / f"{len(self.failures) + 1}.http"
        path.write_bytes(sent)
        self.failures.append(f'{what}: make fuzz ARGS="--replay {path}"')

    @property
    def enough(self) -> bool:
        return len(self.failures) >= MAX_FAILURES


class Connection:
    """A keep-alive connection, opened anew when the server has said that it closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, data: bytes) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        self._writer.write(data)

    async def read(self) -> tuple[AnswerHead, bytes]:
        """The next answer. Raises `Hostile`."""
        assert self._reader is not None
        try:
            raw = await self._reader.readuntil(b"\r\n\r\n")
            head = read_answer_head(raw)
            if head is None or head.body_bytes < 0:
                raise Hostile(f"an answer that is no HTTP: {raw[:200]!r}")
            return head, await self._reader.readexactly(head.body_bytes)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Hostile("the connection was closed where an answer was due") from error

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def good_answers(port: int, routes: list[Route]) -> dict[str, list[Good]]:
    """Each route's good request that is pinned to one version, and its answer. Raises `Hostile`."""
    connection = Connection(port)
    found: dict[str, list[Good]] = {}
    for route in routes:
        found[route.path] = [await _good_answer(connection, sample) for sample in route.samples]
    connection.close()
    return found


async def _good_answer(connection: Connection, sample: Sample) -> Good:
    """The answer of the version, which the header names unless the sample does: both would be two."""
    for pinned in (True, False):
        data = good_request(sample, pinned)
        await connection.send(data)
        head, body = await asyncio.wait_for(connection.read(), PATIENCE_S)
        if head.status == 200:
            return Good(data, content_of(head, body))
    raise Hostile(f"an example of the description gets no answer: {data[:300]!r}: {body[:300]!r}")


def request_number(number: int, seed: int, routes: list[Route], good: dict[str, list[Good]]) -> bytes | Good:
    """The request of that number and seed, whatever was sent before."""
    route = routes[number % len(routes)]
    turn = number // len(routes)
    if turn % GOOD_EVERY == GOOD_EVERY - 1:
        return good[route.path][turn // GOOD_EVERY % len(good[route.path])]
    return mutated(Random(f"{seed} {number}"), route)


async def send_mutated(
    port: int, numbers: range, seed: int, routes: list[Route], good: dict[str, list[Good]], findings: Findings
) -> None:
    """Send one connection's share of the requests."""
    connection = Connection(port)
    for start in range(0, len(numbers), PIPELINED):
        batch = numbers[start : start + PIPELINED]
        requests = [request_number(number, seed, routes, good) for number in batch]
        while requests and not findings.enough:
            requests = await _send_batch(connection, requests, findings)
        if findings.enough:
            break
    connection.close()


async def _send_batch(connection: Connection, requests: list[bytes | Good], findings: Findings) -> list[bytes | Good]:
    """Send them at once and read their answers; returns those behind an answer that closed the connection."""
    sent = [request.data if isinstance(request, Good) else request for request in requests]
    for at, request in enumerate(requests):
        try:
            if at == 0:
                await asyncio.wait_for(connection.send(b"".join(sent)), PATIENCE_S)
            head, body = await asyncio.wait_for(connection.read(), PATIENCE_S)
        except (Hostile, TimeoutError, OSError) as error:
            what = str(error) if isinstance(error, Hostile) else f"no answer within {PATIENCE_S:.0f} s ({error!r})"
            # Those before it on the connection may have part in it.
            findings.fail(what, b"".join(sent[: at + 1]))
            connection.close()
            return requests[at + 1 :]
        findings.note(head.status)
        fault = _wrong_good(request, head, body) if isinstance(request, Good) else fault_of(head, body)
        if fault is None and head.closes and head.status < 400:
            fault = "a good answer closed the connection"
        if fault is not None:
            findings.fail(fault, sent[at])
        if head.closes:
            connection.close()
            return requests[at + 1 :]
    return []


def _wrong_good(request: Good, head: AnswerHead, body: bytes) -> str | None:
    if head.status == 200 and is_same(request.content, content_of(head, body)):
        return None
    return f"a good request among bad ones got status {head.status} and {body[:200]!r}"


async def send_frames(port: int, numbers: range, seed: int, routes: list[Route], findings: Findings) -> None:
    """Requests whose framing is broken, each on a connection of its own that ends after it."""
    for number in numbers:
        if findings.enough:
            return
        data = broken_frame(Random(f"{seed} frame {number}"), routes[number % len(routes)])
        try:
            answers = await asyncio.wait_for(_ask_once(port, data), PATIENCE_S)
        except TimeoutError:
            findings.fail(f"a broken frame kept its connection for {PATIENCE_S:.0f} s", data)
            continue
        if answers:
            status = read_status(answers)
            findings.note(status)
            if not 200 <= status < 500:
                findings.fail(f"a broken frame got status {status}", data)


def read_status(answers: bytes) -> int:
    """The first answer's status; 0 when it is no HTTP."""
    words = answers[:15].split(b" ")
    return int(words[1]) if words[0] == b"HTTP/1.1" and len(words) > 1 and words[1].isdigit() else 0


async def _ask_once(port: int, data: bytes) -> bytes:
    """Everything that comes back until the server closes; empty when it resets the connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    answers = b""
    try:
        writer.write(data)
        writer.write_eof()
        while part := await reader.read(65_536):
            answers += part
    except OSError:
        pass  # reset: what came before it still counts
    finally:
        writer.close()
    return answers
