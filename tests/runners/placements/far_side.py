"""The far side of a hop: a real server on a unix socket that answers each request with the bytes that it was given."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from runners.artefacts.card import Card
from runners.engines.engine import Engine
from runners.placements.hop import answer_rows

Answer = Callable[[int, bytes], bytes]
"""(number of the request, its body) to the bytes of the response; the connection ends if they are not a whole one."""


def response(body: bytes, *, status: str = "200 OK", more: bytes = b"", length: int | None = None) -> bytes:
    """An HTTP response, with more lines of its head; `length` is what it claims of its body."""
    lines = [f"HTTP/1.1 {status}".encode(), f"content-length: {len(body) if length is None else length}".encode()]
    return b"\r\n".join(lines) + b"\r\n" + more + b"\r\n" + body


def scoring(engine: Engine, card: Card) -> Answer:
    """Answers as a version's own service does."""

    def answer(_number: int, body: bytes) -> bytes:
        scores, lines = answer_rows(engine, card, body)
        return response(scores, more=lines)

    return answer


class FarSide:
    """Counts requests, connections, and those still open."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.requests = self.connections = self.open_connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._serve_one(reader, writer):
                pass
        self.open_connections -= 1
        writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"post /rows ")
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        self.requests += 1
        answer = self._answer(self.requests, body)
        writer.write(answer)
        await writer.drain()
        claimed = answer.partition(b"content-length: ")[2].split(b"\r\n")[0]
        return answer.endswith(b"\r\n\r\n") or len(answer.partition(b"\r\n\r\n")[2]) >= int(claimed or -1) >= 0


@contextlib.asynccontextmanager
async def far_side(folder: Path, answer: Answer) -> AsyncIterator[tuple[str, FarSide]]:
    """Serve on a socket in `folder`; gives its address as BentoML's runner map has it, and the server."""
    side = FarSide(answer)
    path = folder / "far.sock"
    server = await asyncio.start_unix_server(side.serve, path)
    try:
        yield f"file://{path}", side
    finally:
        server.close()
