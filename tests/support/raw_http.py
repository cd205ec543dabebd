"""HTTP/1.1 by hand: exact bytes go out, and answers are read strictly, so that a server cannot be forgiven anything.

An answer must have one status line, one way to tell its length, and nothing left over after it.
"""

import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import pytest

from tests.support.problems import code_in
from tests.support.server import ROW

NATIVE = "/v1/models/predict"
SINGLE = "/predict"
PIN = "v1"

_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*\r\n").fullmatch
_HEADER_LINE = re.compile(rb"([a-z0-9-]+): ([ -~]*)\r\n").fullmatch


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `headers` in their order, names in lower case as the server writes them."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for other, value in self.headers if other == name]
        assert len(values) <= 1, f"{name} repeats: {values}"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        assert self.header("content-type") == "application/json", self
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an answer that is an error of the common shape."""
        return code_in(self.json, self.header("x-request-id"))


class Closed(Exception):
    """The server closed the connection where an answer could have begun."""


class Listening(Protocol):
    """What can be connected to."""

    def connect(self) -> socket.socket: ...


class Connection:
    """A raw connection to a server."""

    def __init__(self, server: Listening) -> None:
        self.socket = server.connect()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *segments: bytes) -> None:
        for segment in segments:
            self.socket.sendall(segment)

    def end_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish: the server gets a reset, as from a client that crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._file.close()
        self.socket.close()

    def read(self, *, to_head: bool = False) -> Answer:
        """The next answer. Raises `Closed`. `to_head`: it answers a HEAD request and has no body."""
        status_line = self._file.readline(4096)
        if not status_line:
            raise Closed
        status = _STATUS_LINE(status_line)
        assert status, status_line
        headers: list[tuple[str, str]] = []
        while (line := self._file.readline(65_536)) != b"\r\n":
            match = _HEADER_LINE(line)
            assert match, line
            headers.append((match[1].decode(), match[2].decode()))
        answer = Answer(int(status[1]), tuple(headers), b"")
        if to_head or answer.status in (100, 204):
            return answer
        return Answer(answer.status, answer.headers, self._read_body(answer))

    def read_all(self, count: int) -> list[Answer]:
        return [self.read() for _ in range(count)]

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.read()

    def is_closed(self) -> bool:
        """Waits for the server to close or reset; false when it sends anything instead."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True

    def _read_body(self, answer: Answer) -> bytes:
        length, coding = answer.header("content-length"), answer.header("transfer-encoding")
        assert (length is None) != (coding is None), answer
        if length is not None:
            return self._read_exactly(int(length))
        assert coding == "chunked", answer
        parts = []
        while size := int(self._file.readline(100), 16):
            parts.append(self._read_exactly(size))
            assert self._read_exactly(2) == b"\r\n"
        assert self._read_exactly(2) == b"\r\n"
        return b"".join(parts)

    def _read_exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        assert len(data) == size, f"{len(data)} of {size} bytes before the end"
        return data


def request(
    body: bytes = b"",
    path: str = NATIVE,
    method: str = "POST",
    http: str = "1.1",
    headers: Iterable[tuple[str, str]] = (),
    content_type: str | None = "application/json",
) -> bytes:
    """A request as bytes, with `host`, and `content-length` unless `headers` say how long the body is."""
    headers = list(headers)
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} HTTP/{http}", "host: shokado"]
    if content_type is not None:
        lines.append(f"content-type: {content_type}")
    lines += [f"{name}: {value}" for name, value in headers]
    if not names & {"content-length", "transfer-encoding"}:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def rows_request(*rows: list[float], version: str = PIN, **how: Any) -> bytes:
    """A native request that always succeeds; without rows, for the usual one."""
    return request(json.dumps({"instances": rows or [ROW], "version": version}).encode(), **how)


def chunked(body: bytes, sizes: Iterable[int], extension: bytes = b"") -> bytes:
    """A body in chunks of these sizes, the last size again for the rest of it."""
    out = []
    size = 1
    sizes = iter(sizes)
    while body:
        size = next(sizes, size)
        part, body = body[:size], body[size:]
        out.append(b"%x%b\r\n%b\r\n" % (len(part), extension, part))
    return b"".join(out) + b"0\r\n\r\n"


def scored(answer: Answer) -> Any:
    """What a good native answer says, without what is different each time."""
    assert answer.status == 200, answer
    return {name: value for name, value in answer.json.items() if name not in CHANGING}


def like(answer: Answer) -> Any:
    """What another good native answer must say to be the same."""
    content = scored(answer)
    return content | {"predictions": near(content["predictions"])}


def near(scores: Any) -> Any:
    """Scores to compare with: the engine is chosen by the size of a batch, and engines differ in the last digits."""
    return pytest.approx(scores, rel=1e-5, abs=1e-6)


CHANGING = {"request_id", "prediction_id", "latency_ms", "timestamp"}
"""Fields of an answer that differ from one answer to the next."""
