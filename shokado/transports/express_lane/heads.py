"""Heads of requests that the lane answers, and their cache: one whose exact bytes were parsed before in this process
is not parsed again.

Equal bytes mean an equal request, and clients that keep a connection send the same head over and over.
"""

from dataclasses import dataclass

from httptools import HttpRequestParser

from shokado.access.forwarding import Headers
from shokado.dialects.head import RequestHead, read_head
from shokado.transports.exchange import Handler
from shokado.transports.routes import Routes

MAX_HEADS = 1024
"""At most 2 MiB of heads in a process, and what was parsed of them; a client sends a few again and again."""
MAX_HEAD_BYTES = 2048
"""Length of a head that is cached: longer ones are rare, and a client could fill the memory with them."""


@dataclass(frozen=True, slots=True)
class ExpressHead:
    """The head of a request that the lane answers: the route's handler, the headers, and the body's length in bytes.

    `body_bytes` is -1 for a chunked body.
    """

    handler: Handler
    head: RequestHead
    body_bytes: int
    keep_alive: bool


class HeadCache(dict[bytes, ExpressHead]):
    """Parsed heads by their bytes, up to and with the empty line. Looked up as any dictionary is: it costs no call."""

    __slots__ = ()

    def keep(self, head: bytes, express: ExpressHead) -> None:
        """Remember a head; all others are forgotten where it would be one too many."""
        if len(self) >= MAX_HEADS:
            self.clear()
        self[head] = express


def cacheable_head(data: bytes) -> bytes | None:
    """The bytes of a head that `data` begins with, if they can be taken for the same head wherever they recur."""
    end = data.find(b"\r\n\r\n") + 4
    if not 3 < end <= MAX_HEAD_BYTES or not data.startswith(b"POST "):
        return None
    head = data[:end]
    return head if head.count(b"\n") == head.count(b"\r\n") else None


def express_head(
    parser: HttpRequestParser, url: bytes, headers: Headers, routes: Routes, left_headers: frozenset[bytes]
) -> ExpressHead | None:
    """The head that the parser has just read, if the lane answers it: none with one of `left_headers`."""
    if (
        parser.get_method() != b"POST"
        or parser.get_http_version() != "1.1"
        or parser.should_upgrade()
        or b"%" in url
        or b"?" in url
        or (found := routes.find(url)) is None
        or (left_headers and any(name in left_headers for name, _ in headers))
    ):
        return None
    lengths = [int(value) for name, value in headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in headers)
    body_bytes = -1 if chunked else lengths[0] if lengths else 0
    return ExpressHead(found.handler, read_head(headers, found.pins), body_bytes, parser.should_keep_alive())
