"""One call of an ASGI app: a request that is all there goes in, an answer that is all there comes out."""

import asyncio

from starlette.types import ASGIApp, Message, Scope

from shokado.function.gateway_event import EventAnswer, EventRequest, Headers


async def call(app: ASGIApp, request: EventRequest) -> EventAnswer:
    """The app's answer. Raises what the app raises, also where it had begun to answer."""
    sent = asyncio.Event()
    said: list[Message] = []
    left: list[Message] = [{"type": "http.request", "body": request.body, "more_body": False}]

    async def receive() -> Message:
        if left:
            return left.pop()
        # A gateway does not say that its client has left: until the answer, nothing more is to be heard.
        await sent.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        said.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            sent.set()

    await app(scope_of(request), receive, send)
    start = next(message for message in said if message["type"] == "http.response.start")
    headers: Headers = [(bytes(name), bytes(value)) for name, value in start.get("headers", ())]
    return EventAnswer(start["status"], headers, b"".join(message.get("body", b"") for message in said))


def scope_of(request: EventRequest) -> Scope:
    """The request as ASGI has it."""
    headers = dict(request.headers)
    host, _, port = headers.get(b"host", b"").decode("latin-1").partition(":")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https",
        "path": request.path,
        "raw_path": None,
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": (request.client, 0) if request.client else None,
        "server": (host, int(port) if port.isdecimal() else 443),
    }
