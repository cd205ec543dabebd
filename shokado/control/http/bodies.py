"""Bodies of control requests, read strictly and within a limit.

    bytes --(not JSON by its type, or compressed: 415; too many: 413; not JSON: 400)--> content
                                          a name twice, or half a character: 422 --^

NaN and infinity, which some clients write although JSON has neither, are let through to where they can be refused by
the name that they stand for.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers
from starlette.responses import Response

from runners.inputs.wording import legible
from shokado.control.dependencies import control_of
from shokado.dialects.json_text import exceeds, read_leniently, refuse_half_characters
from shokado.dialects.problem import Problem, invalid
from shokado.transports.body_quota import BodyQuota
from shokado.transports.plain import read_body

MAX_CHANGE_BYTES = 2**20
"""Size of a change or a question: it is read in one go, and a longer one would hold up predictions."""
MAX_CHANGE_VALUES = 1000
"""Values in a change or a question: each that is wrong gets an explanation, which is made on the event loop."""


class Body(BaseModel):
    """A request's body: its fields have exactly the types they say, and there are no others."""

    model_config = ConfigDict(strict=True, extra="forbid")


class StrictRoute(APIRoute):
    """A route whose JSON body, where it has one, is read as described above before FastAPI looks at it.

    With `strict_content_type=False` a body whose content type is not said is taken for JSON.
    """

    max_bytes = MAX_CHANGE_BYTES
    """A longer body is refused, whatever `limits.max_body_bytes` allows."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        if self.body_field is None:
            return answer

        async def read_and_answer(request: Request) -> Response:
            control = control_of(request)
            limit = min(control.settings.limits.max_body_bytes, self.max_bytes)
            typed = self.strict_content_type is not False
            body = await read_json_body(request, limit, control.body_quota, typed=typed)
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


async def read_json_body(request: Request, limit: int, body_quota: BodyQuota, *, typed: bool = True) -> bytes:
    """The body, of at most `limit` bytes; its head is looked at first. Raises `Problem` (413, 415, 503).

    Its content type must be said where it is `typed`, and be that of JSON where it is said.
    """
    headers = request.headers
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        message = f"content encoding {coding[:40]!r} is not understood here; send the body as it is"
        raise Problem("unsupported_encoding", message)
    typed = typed or "content-type" in headers
    if typed and headers.get("content-length", "0") != "0":
        _refuse_other_types(headers)
    body = await read_body(request, limit, body_quota)
    if typed and body:
        _refuse_other_types(headers)
    return body


def _refuse_other_types(headers: Headers) -> None:
    """A page of another site can send other types without asking first."""
    content_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type != "application/json":
        got = f"content type {content_type[:100]!r} is" if content_type else "a body without content type is"
        raise Problem("unsupported_media_type", f"{got} not understood here; send application/json")


def parse(body: bytes) -> Any:
    """What the JSON says. Raises `Problem` (400, 413, 422)."""
    if exceeds(body, MAX_CHANGE_VALUES, MAX_CHANGE_VALUES):
        message = f"the body has more than {MAX_CHANGE_VALUES} values, or lists; at most as many are allowed here"
        raise Problem("too_many_values", message, {"limit": MAX_CHANGE_VALUES})
    content = read_leniently(body, _unique)
    refuse_half_characters(body, content)
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise invalid("repeated_key", f"{legible(name)!r} occurs twice in the same object")
        content[name] = value
    return content
