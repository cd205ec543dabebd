"""Methods: what a route is asked by beside its own. HEAD is GET without the body; OPTIONS tells the methods."""

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import Message, Scope, Send

OF_PREDICTIONS = "OPTIONS, POST"
OF_FILES = "GET, HEAD, OPTIONS"
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def allowed_methods(app: FastAPI, scope: Scope) -> str:
    """What an `Allow` header says of a path; empty where there is no route."""
    found = {method for method in _METHODS if _is_route(app, {**scope, "method": method})}
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted(found | {"OPTIONS"})) if found else ""


def _is_route(app: FastAPI, scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)


def without_body(send: Send) -> Send:
    """Sends the head of an answer as it is, and nothing of its body."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
