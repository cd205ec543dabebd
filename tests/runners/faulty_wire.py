"""A wire to a real far side: it carries bytes, holds them up, cuts or garbles them, or is gone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

RUBBISH = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class FaultyWire:
    """Between a client and the server at `url`, `http://..` or `file://..`; its own `url` is of the same kind."""

    def __init__(self, url: str, folder: Path) -> None:
        self._far = urlsplit(url)
        self._path = folder / "wire.sock"
        self._used: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._crowd: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self._port = 0
        self.url = f"file://{self._path}"
        self.delay_s = 0.0
        """Before each part of an answer."""
        self.cuts = 0
        """How many of the next answers are cut off."""
        self.carries_once = False
        """Whether a connection that has carried an answer is cut at the next question."""
        self.garbles = False

    async def open(self) -> None:
        if self._far.scheme == "file":
            self._server = await asyncio.start_unix_server(self._carry, self._path)
        else:
            self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{self._port}"

    async def close(self) -> None:
        self._server.close()
        for crowd in self._crowd:
            crowd.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        """As SIGSTOP does: connections are made, and nothing comes."""
        self._flows.clear()

    def kill(self) -> None:
        """As SIGKILL does: all connections are cut. Where it is a service, its supervisor goes on listening."""
        for connection in self._connections:
            connection.transport.abort()
        if self._far.scheme == "file":
            self.stop()
        else:
            self._server.close()

    def vanish(self) -> None:
        """Nothing comes, and packets for new connections are dropped: those that wait have filled the queue."""
        self.stop()
        self._server.close()
        listener = socket.create_server(("127.0.0.1", self._port), backlog=0)
        self._crowd = [listener]
        for _ in range(4):
            crowding = socket.socket()
            crowding.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                crowding.connect(("127.0.0.1", self._port))
            self._crowd.append(crowding)

    async def mend(self) -> None:
        self._flows.set()
        self.delay_s, self.cuts, self.garbles = 0.0, 0, False
        for crowd in self._crowd:
            crowd.close()
        if not self._server.is_serving():
            await self.open()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        if self._far.scheme == "file":
            far_reader, far_writer = await asyncio.open_unix_connection(self._far.path)
        else:
            far_reader, far_writer = await asyncio.open_connection(self._far.hostname, self._far.port)
        for work in (self._ask(reader, far_writer, writer), self._answer(far_reader, writer)):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(far), contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                if self.carries_once and writer in self._used:
                    writer.transport.abort()
                    return
                await self._flows.wait()
                far.write(data)

    async def _answer(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await far.read(2**20):
                await asyncio.sleep(self.delay_s)
                await self._flows.wait()
                if self.cuts > 0:
                    self.cuts -= 1
                    break
                writer.write(RUBBISH if self.garbles else data)
                self._used.add(writer)
        self._connections.discard(writer)


@contextlib.asynccontextmanager
async def wired(url: str, folder: Path) -> AsyncIterator[FaultyWire]:
    """A wire to the server at `url` until the context is left; a socket of its own, if any, lies in `folder`."""
    wire = FaultyWire(url, folder)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()
