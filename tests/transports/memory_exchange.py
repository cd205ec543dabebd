"""An exchange without a transport: it keeps the one reply that it gets."""

import json
from typing import Any


class MemoryExchange:
    """Fails when it is replied to twice."""

    peer = "192.0.2.1"

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""

    def reply(self, status: int, header_lines: bytes, body: bytes) -> None:
        assert self.status is None, "replied twice"
        assert header_lines.endswith(b"\r\n")
        assert b"content-length" not in header_lines
        self.status, self.body = status, body
        lines = [line.split(": ", 1) for line in header_lines.decode().removesuffix("\r\n").split("\r\n")]
        self.headers = {name: value for name, value in lines}  # noqa: C416  # asserts that each line has two parts

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)
