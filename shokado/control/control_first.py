"""Which app answers a request: predictions, control routes, or what is behind them. In: three ASGI apps. Out: one."""

from collections.abc import Collection

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shokado.control.http.browser_headers import protect
from shokado.control.http.methods import OF_FILES, OF_PREDICTIONS, allowed_methods, without_body
from shokado.control.outside import seen_from_outside
from shokado.dialects.head import read_head
from shokado.transports.exchange import new_id
from shokado.transports.plain import Predictions
from shokado.transports.routes import without_prefix

STATIC = "/static_content"
"""The folder of the documentation page's files, which BentoML brings along."""
_SCHEMA = "/schema.json"


class ControlFirst:
    """ASGI middleware: BentoML answers its own APIs and the files of the documentation page, the control app the rest.

    Here is what all routes have alike: a slash at the end of a path makes no difference, HEAD is answered as GET, and
    OPTIONS with the methods.

    BentoML would also answer `/livez`, `/readyz`, `/metrics` and `/`, with less to say, and put its name into answers.
    """

    def __init__(self, app: ASGIApp, control_app: FastAPI, predictions: Predictions, apis: Collection[str]) -> None:
        """`apis` are the routes that BentoML answers when they are posted to; `predictions` answers all others."""
        self._bentoml = app
        self._control = control_app
        self._predictions = predictions
        self._apis = frozenset(apis)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._bentoml(scope, receive, send)
            return
        settings = self._control.state.control.settings
        scope = {**scope, "path": without_prefix(scope["path"], settings.prefix)}
        target = self._target(scope)
        predicts = target is self._predictions or scope["path"] in self._apis

        async def send_without_server_name(message: Message) -> None:
            if message["type"] == "http.response.start":
                hidden = (b"server", b"x-bentoml-request-id")
                message["headers"] = [header for header in message["headers"] if header[0].lower() not in hidden]
                if not predicts:
                    protect(message["headers"])
            await send(message)

        if scope["method"] == "OPTIONS" and (allowed := self._allowed(scope, target)):
            request_id = read_head(scope["headers"]).request_id or new_id()
            target = Response(status_code=204, headers={"allow": allowed, "x-request-id": request_id})
        elif scope["method"] == "HEAD":
            scope["method"] = "GET"
            send = without_body(send)
        if target is self._bentoml:
            scope = _in_capitals(scope)
        elif target is self._control:
            scope = seen_from_outside(scope, settings.prefix, settings.access.trusted_proxies)
        await target(scope, receive, send_without_server_name)

    def _allowed(self, scope: Scope, target: ASGIApp) -> str:
        """The methods of a path; empty where there is no route."""
        if target is self._predictions:
            return OF_PREDICTIONS
        return allowed_methods(self._control, scope) if target is self._control else OF_FILES

    def _target(self, scope: Scope) -> ASGIApp:
        path: str = scope["path"]
        if scope["method"] == "POST" and path in self._apis:
            return self._bentoml
        if self._predictions.find(path) is not None:
            return self._predictions
        if path == _SCHEMA or path.startswith(STATIC + "/"):
            return self._bentoml
        return self._control


def _in_capitals(scope: Scope) -> Scope:
    """The request with its content type in capitals, which mean the same.

    BentoML knows types in small letters only, and answers one of them, pickle, with an error in its own shape. All it
    serves here takes requests unread, whatever their type, and refuses the wrong ones itself.
    """
    headers = [(name, value.upper() if name == b"content-type" else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}
