"""The control app: everything that is not a prediction. In: the parts of this worker. Out: an ASGI app.

One file for each kind of route; here they are put together, with what all of them have in common.
"""

from collections.abc import Collection

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shokado import __version__
from shokado.control import (
    ab_test,
    batch_routes,
    dashboard,
    drift_route,
    experiment_effects,
    experiments,
    explanation,
    feedback,
    health,
    history,
    log_rows,
    quality,
    recent_preview,
    rollout_verdict,
    split,
    split_preview,
    versions,
)
from shokado.control import open_inference_metadata as open_inference
from shokado.control import version_metrics as statistics
from shokado.control.http.authorization import enter
from shokado.control.http.browser_headers import protect, protect_page
from shokado.control.http.documentation import describe_anew, describe_predictions
from shokado.control.http.errors import answer_error, answer_errors
from shokado.control.http.methods import OF_FILES, OF_PREDICTIONS, allowed_methods, without_body
from shokado.control.http.refusals import describe_refusals
from shokado.control.outside import seen_from_outside
from shokado.control.pages import dashboard_page, front_page
from shokado.dialects.head import read_head
from shokado.dialects.problem import Problem
from shokado.transports.exchange import new_id
from shokado.transports.plain import Predictions
from shokado.transports.routes import without_prefix
from shokado.worker.gateway import Gateway
from shokado.worker.parts import Control

DESCRIPTION = """Several versions of one model side by side, with live traffic split between them.

Predictions: `POST /v1/models/predict` (native), `POST /predict` (one row), and the same for clients of other APIs."""

TAGS = {
    "predictions": "Scores for rows.",
    "split": "Who gets which share of the traffic: read, changed, explained, and taken back.",
    "versions": "What is served, loaded and unloaded.",
    "experiments": "How well the versions do.",
    "metrics": "What was measured.",
    "batches": "Tables that are scored beside the server.",
    "health": "Whether it lives and can answer.",
    "open inference": "The Open Inference Protocol: the server, its models, and their health.",
    "about": "Where things are.",
}

_STATIC = "/static_content"
_SCHEMA = "/schema.json"


def control_first(app: ASGIApp, gateway: Gateway, apis: Collection[str]) -> ASGIApp:
    """The control routes of this worker, and behind them BentoML's `app`, which answers the routes `apis` itself."""
    control_app = create_app(gateway.control)
    describe_predictions(control_app, lambda: gateway.dialects, gateway.server.card)
    describe_refusals(control_app, gateway.server.gate)
    describe_anew(control_app, lambda: gateway.row_format)
    return ControlFirst(app, control_app, gateway.predictions, apis)


def create_app(control: Control) -> FastAPI:
    """The app with all routes; those that need a worker answer 503 until `control.parts` is set."""
    app = FastAPI(
        title="Shokado",
        version=__version__,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # A redirect would have to know how the client asks; `ControlFirst` takes the slash off instead.
        redirect_slashes=False,
        openapi_tags=[{"name": name, "description": description} for name, description in TAGS.items()],
    )
    app.state.control = control
    parts = (
        split, split_preview, recent_preview, history, explanation, versions, ab_test, experiments,
        experiment_effects, rollout_verdict, quality, feedback, statistics, dashboard, drift_route, log_rows,
        batch_routes, health, open_inference, front_page, dashboard_page,
    )  # fmt: skip
    for part in parts:
        app.include_router(part.router)
    app.include_router(_about)
    answer_errors(app)
    app.add_middleware(_Identified)
    return app


_about = APIRouter(tags=["about"])


@_about.get("/version", summary="The server's version", response_class=PlainTextResponse)
async def version() -> PlainTextResponse:
    """Shokado's version as text alone, where MLflow's scoring server has it."""
    return PlainTextResponse(__version__)


@_about.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    """The API's description, made in a thread, unlike FastAPI's own: predictions would wait a fifth of a second."""
    prefix = request.scope["root_path"]
    servers = {"servers": [{"url": prefix}]} if prefix else {}
    return JSONResponse({**request.app.openapi(), **servers})


@_about.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """Swagger UI with the files that BentoML brings along, so that it works without the internet."""
    prefix = request.scope["root_path"]
    files = prefix + _STATIC
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title="Shokado",
        swagger_js_url=f"{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{files}/swagger-ui.css",
        swagger_favicon_url=f"{files}/favicon-light-32x32.png",
    )
    return protect_page(page)


@_about.get("/redoc", include_in_schema=False)
def redoc(request: Request) -> Response:
    """ReDoc's own page would need a script from the internet."""
    return RedirectResponse(f"{request.scope['root_path']}/docs")


class _Identified:
    """ASGI middleware: each request has an id and the name of its key, or is refused.

    Starlette's `BaseHTTPMiddleware` would leave a hundred objects in cycles for each request that has a body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.request_id = request_id = read_head(scope["headers"]).request_id or new_id()
        gate = request.app.state.control.gate
        try:
            request.state.key = await enter(request, gate) if gate is not None else ""
        except Problem as problem:
            answer = await answer_error(request, problem)
            await answer(scope, receive, send)
            return

        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if begun:
                raise
            # Here, as what goes further is logged once more, and without the request's id.
            answer = await answer_error(request, error)
            await answer(scope, receive, send)


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
        if path == _SCHEMA or path.startswith(_STATIC + "/"):
            return self._bentoml
        return self._control


def _in_capitals(scope: Scope) -> Scope:
    """The request with its content type in capitals, which mean the same.

    BentoML knows types in small letters only, and answers one of them, pickle, with an error in its own shape. All it
    serves here takes requests unread, whatever their type, and refuses the wrong ones itself.
    """
    headers = [(name, value.upper() if name == b"content-type" else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}
