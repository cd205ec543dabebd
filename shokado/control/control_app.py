"""The app of control routes, whichever files they are in. In: the parts of this process, and the files. Out: an app.

Here is what all of them have in common: an id, the name of a key, and how errors are answered.
"""

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Protocol

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runners.artefacts.card import Card
from runners.inputs.rows import RowReader
from shokado import __version__
from shokado.access.gate import Gate
from shokado.control.http.authorization import enter
from shokado.control.http.documentation import describe_anew, describe_predictions
from shokado.control.http.entity_documentation import describe_entities
from shokado.control.http.errors import answer_error, answer_errors
from shokado.control.http.refusals import describe_refusals
from shokado.dialects.dialect import Dialect
from shokado.dialects.head import read_head
from shokado.dialects.problem import Problem
from shokado.transports.exchange import new_id
from shokado.transports.plain import Predictions
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


class Served(Protocol):
    """What answers predictions in this process, as far as routes beside them tell of it."""

    control: Control
    predictions: Predictions

    @property
    def dialects(self) -> Sequence[Dialect]: ...

    @property
    def row_format(self) -> RowReader:
        """How requests are read by now."""
        ...

    @property
    def card(self) -> Card: ...

    @property
    def gate(self) -> Gate: ...


def served_app(served: Served, files: Iterable[ModuleType]) -> FastAPI:
    """The app with the routes of these files, which describes the predictions as well."""
    app = routed_app(served.control, files)
    describe_predictions(app, lambda: served.dialects, served.card)
    if (features := served.control.settings.features).url is not None:
        describe_entities(app, lambda: served.dialects, features)
    describe_refusals(app, served.gate)
    describe_anew(app, lambda: served.row_format)
    return app


def routed_app(control: Control, files: Iterable[ModuleType]) -> FastAPI:
    """The app with the routes of these files; those that need a worker answer 503 until `control.parts` is set."""
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
    for file in files:
        app.include_router(file.router)
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
