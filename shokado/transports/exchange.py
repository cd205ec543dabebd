"""The exchange of a request for its answer, between a transport and the handler behind it.

The express lane, BentoML's APIs and gRPC are transports; a prediction call is what a handler begins.
"""

import secrets
from itertools import count
from typing import Protocol

from shokado.dialects.head import JSON, RequestHead
from shokado.dialects.problem import Problem
from shokado.dispatch.request_span import RequestSpan

_PREFIX = secrets.token_hex(6)
_numbers = count()


class Exchange(Protocol):
    """A request that waits for its answer, as its transport keeps it."""

    @property
    def peer(self) -> str:
        """Address at the other end of the connection; empty where it has none."""
        ...

    def reply(self, status: int, header_lines: bytes, body: bytes) -> None:
        """Answer, exactly once. `header_lines` end with CRLF each; `content-length` is the transport's."""
        ...


class Cancellable(Protocol):
    """Work that was begun for an exchange."""

    def cancel(self) -> None:
        """The client is gone: what was not computed yet need not be, and nothing is replied."""
        ...


class Handler(Protocol):
    """Answers one path, or all of a pattern (see `shokado.transports.routes`), behind any transport."""

    path: str

    def judge(self, head: RequestHead, peer: str) -> "Problem | None":
        """What the head alone says against a request from the address `peer`; None: its body may be read.

        A transport asks before it keeps a body that does not come in one piece with its head. Where there is a problem
        it goes on with `begin` at once, with the problem in the head and no body.
        """
        ...

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> Cancellable | None:
        """Begin to answer; the exchange may get its reply before this returns. Never raises."""
        ...


def new_id() -> str:
    """An id that no other process makes: 12 random hexadecimal digits and a running number."""
    return f"{_PREFIX}{next(_numbers):010x}"


def trace_line(span: RequestSpan) -> bytes:
    """The header line that names the trace, where the request's spans can be found in it."""
    return b"x-trace-id: %032x\r\n" % span.trace_id if span.recorded else b""


def reply_problem(
    exchange: Exchange, problem: Problem, request_id: str, body: bytes | None = None, span: RequestSpan | None = None
) -> None:
    """Answer an exchange with a problem; `body` is its JSON where a dialect has its own."""
    lines = b"content-type: %b\r\nx-request-id: %b\r\n%b" % (JSON, request_id.encode(), problem.header_lines)
    if span is not None:
        lines += trace_line(span)
    exchange.reply(problem.status, lines, problem.body(request_id) if body is None else body)
