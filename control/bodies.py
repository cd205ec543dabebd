"""Bodies of control requests, read strictly and within a limit.

    bytes --(too many: 413; not JSON by its type: 415; not JSON: 400; a name twice: 422)--> content --> FastAPI's models

NaN and infinity, which some clients write although JSON has neither, are let through to where they can be refused by
the name that they stand for.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from control.started import Control
from protocols.problem import Problem, body_too_large, invalid, malformed

MAX_CHANGE_BYTES = 2**20
"""Of a change: it is read in one go, and a longer one would hold up predictions."""


class Body(BaseModel):
    """Of a request: its fields have exactly the types they say, and there are no others."""

    model_config = ConfigDict(strict=True, extra="forbid")


class StrictRoute(APIRoute):
    """A route whose JSON body, where it has one, is read as described above before FastAPI looks at it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        if self.body_field is None:
            return answer

        async def read_and_answer(request: Request) -> Response:
            control: Control = request.app.state.control
            body = await read_body(request, min(control.settings.limits.max_body_bytes, MAX_CHANGE_BYTES))
            return await answer(_ReadRequest(request.scope, body, parse(body) if body else None))

        return read_and_answer


class _ReadRequest(Request):
    """A request whose body was read and parsed."""

    def __init__(self, scope: Any, body: bytes, content: Any) -> None:
        super().__init__(scope)
        self._read = body
        self._content = content

    async def body(self) -> bytes:
        return self._read

    async def json(self) -> Any:
        return self._content


async def read_body(request: Request, limit: int) -> bytes:
    """The body, of which no more than `limit` bytes are kept. Raises `Problem` (413, 415)."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if int(request.headers.get("content-length", "0")) > limit:
        raise body_too_large(limit)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise body_too_large(limit)
    # A page of another site can send other types without asking first.
    if body and content_type != "application/json":
        got = f"content type {content_type[:100]!r} is" if content_type else "a body without content type is"
        raise Problem(415, "unsupported_media_type", f"{got} not understood here; send application/json")
    return bytes(body)


def parse(body: bytes) -> Any:
    """What the JSON says. Raises `Problem` (400, 422)."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise malformed(f"the body is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise invalid("repeated_key", f"{twice[:100]!r} occurs twice in the same object")
    return content
