"""Clients of gRPC that send as much as they are allowed to, on many streams at once, and read no answers: raw HTTP/2.

A client of grpc's own would have all of it in memory itself.
"""

import asyncio
import contextlib
import struct
from collections import Counter

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES = 16_384
WINDOW_BYTES = 65_535
"""Of a stream and of a connection, until the server says otherwise."""
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACKNOWLEDGED, END_STREAM, END_HEADERS = 1, 1, 4
_PADDING = bytes(FRAME_BYTES)


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def head(method: str, metadata: dict[str, str]) -> bytes:
    """A header block without any compression."""
    fields = {":method": "POST", ":scheme": "http", ":path": f"/{method}", ":authority": "flood"}
    fields |= {"content-type": "application/grpc", "te": "trailers", **metadata}
    texts = ([name.encode(), value.encode()] for name, value in fields.items())
    return b"".join(b"\0" + b"".join(bytes([len(text)]) + text for text in pair) for pair in texts)


class Flood:
    """Connections that each have so many streams open, of one message of `message_bytes` each."""

    def __init__(
        self,
        port: int,
        method: str,
        message_bytes: int,
        connections: int,
        streams: int,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self._port = port
        self._head = head(method, metadata or {})
        self._prefix = struct.pack(">BI", 0, message_bytes)
        self._length = message_bytes + len(self._prefix)
        self._connections = connections
        self._streams = streams
        self.ended: Counter[str] = Counter()
        """Streams by how the server has ended them."""
        self.sent_bytes = 0

    async def run(self, seconds: float) -> None:
        """Send for as long; a connection that the server closes is opened again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(self._go_on() for _ in range(self._connections)))

    async def _go_on(self) -> None:
        while True:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await _Connection(self, reader, writer).run()
                finally:
                    writer.close()
            await asyncio.sleep(0.01)


class _Connection:
    def __init__(self, flood: Flood, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._flood = flood
        self._reader = reader
        self._writer = writer
        self._window = WINDOW_BYTES
        self._initial = WINDOW_BYTES
        self._most_streams = 100
        self._windows: dict[int, int] = {}
        """By stream: how much more it may send."""
        self._left: dict[int, int] = {}
        """By stream: how much of its message is to be sent."""
        self._next_stream = 1

    async def run(self) -> None:
        self._writer.write(PREFACE + frame(SETTINGS, 0, 0))
        while True:
            kind, flags, stream, content = await self._read()
            if kind == SETTINGS and not flags & ACKNOWLEDGED:
                self._set(content)
                self._writer.write(frame(SETTINGS, ACKNOWLEDGED, 0))
            elif kind == PING and not flags & ACKNOWLEDGED:
                self._writer.write(frame(PING, ACKNOWLEDGED, 0, content))
            elif kind == WINDOW_UPDATE:
                (more,) = struct.unpack(">I", content)
                if stream == 0:
                    self._window += more
                elif stream in self._windows:
                    self._windows[stream] += more
            elif kind == RESET or (kind in (HEADERS, DATA) and flags & END_STREAM):
                self._flood.ended["reset" if kind == RESET else "answered"] += 1
                self._windows.pop(stream, None)
                self._left.pop(stream, None)
            elif kind == GOAWAY:
                return
            await self._send()

    async def _read(self) -> tuple[int, int, int, bytes]:
        first = await self._reader.readexactly(9)
        length = int.from_bytes(first[:3])
        kind, flags, stream = struct.unpack(">BBI", first[3:])
        return kind, flags, stream, await self._reader.readexactly(length)

    def _set(self, content: bytes) -> None:
        for start in range(0, len(content), 6):
            name, value = struct.unpack(">HI", content[start : start + 6])
            if name == 3:
                self._most_streams = value
            elif name == 4:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial
                self._initial = value

    async def _send(self) -> None:
        flood = self._flood
        while len(self._left) < min(flood._streams, self._most_streams):
            stream, self._next_stream = self._next_stream, self._next_stream + 2
            self._writer.write(frame(HEADERS, END_HEADERS, stream, flood._head))
            self._windows[stream], self._left[stream] = self._initial, flood._length
        for stream in list(self._left):
            left = self._left[stream]
            while (count := min(left, self._windows[stream], self._window, FRAME_BYTES)) > 0:
                first = flood._prefix if left == flood._length else b""
                count = max(count, len(first))
                content = first + _PADDING[: count - len(first)]
                self._writer.write(frame(DATA, END_STREAM if count == left else 0, stream, content))
                left -= count
                self._left[stream] = left
                self._windows[stream] -= count
                self._window -= count
                flood.sent_bytes += count
                await self._writer.drain()
