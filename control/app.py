"""The control app. In: the dispatcher and the metrics folder, once the worker has started. Out: an ASGI app."""

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configuration.settings import Settings
from control.schemas import Error, Health, Index, Signature, Version, Versions
from dispatch.dispatcher import Dispatcher
from dispatch.request import UnknownVersion
from monitoring.metrics import exposition
from protocols.door import new_id
from protocols.head import read_head
from protocols.problem import Problem, problem_of
from runners.runner import Runner

DESCRIPTION = """Several versions of one model side by side, with live traffic split between them.

Predictions: `POST /v1/models/predict` (native) and `POST /predict` (one row)."""

_STATIC = "/static_content"
_SCHEMA = "/schema.json"


class Control:
    """What the routes read; filled in when the worker starts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dispatcher: Dispatcher | None = None
        self.metrics_folder: Path | None = None

    @property
    def started(self) -> Dispatcher:
        if self.dispatcher is None:
            raise Problem(503, "not_ready", "the server is starting", retry_after_s=1)
        return self.dispatcher


def create_app(control: Control) -> FastAPI:
    """The app with all routes; answers 503 until `control.dispatcher` is set."""
    app = FastAPI(
        title="Shokado",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        responses={422: {"model": Error}, 503: {"model": Error}},
    )
    _add_health(app, control)
    _add_versions(app, control)
    _add_index(app, control)
    _add_documentation(app)
    _add_errors(app)
    return app


def _add_health(app: FastAPI, control: Control) -> None:
    @app.get("/livez", tags=["health"], summary="Is the process alive?")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    async def readyz(response: Response) -> Health:
        """200 when every version that an environment needs is ready, else 503."""
        dispatcher = control.started
        runners = dispatcher.runners
        needed = {
            version
            for environment in dispatcher.state.environments.values()
            for version in (environment.active, *environment.shares)
        }
        ready = all(runners[version].ready for version in needed)
        response.status_code = 200 if ready else 503
        return Health(
            status="ok" if ready else "unavailable",
            versions={version: runner.state for version, runner in runners.items()},
            generation=dispatcher.state.generation,
        )

    for path in ("/readyz", "/ready", "/health"):
        app.get(path, tags=["health"], summary="Can it answer?", operation_id=f"ready{path.replace('/', '_')}")(readyz)

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics of all workers", response_class=Response)
    def metrics() -> Response:
        if control.metrics_folder is None:
            raise Problem(503, "not_ready", "the server is starting", retry_after_s=1)
        content_type, text = exposition(control.metrics_folder)
        return Response(text, headers={"content-type": content_type})


def _add_versions(app: FastAPI, control: Control) -> None:
    @app.get("/v1/models", tags=["versions"], summary="All versions")
    async def versions() -> Versions:
        dispatcher = control.started
        return Versions(
            generation=dispatcher.state.generation,
            versions=[_describe(runner, dispatcher) for runner in dispatcher.runners.values()],
        )

    @app.get(
        "/v1/models/{version}",
        tags=["versions"],
        summary="One version, by name or alias",
        responses={404: {"model": Error}},
    )
    async def version(version: str) -> Version:
        dispatcher = control.started
        return _describe(dispatcher.runners[dispatcher.resolve(version)], dispatcher)


def _add_index(app: FastAPI, control: Control) -> None:
    @app.get("/", tags=["about"], summary="Where things are")
    async def index() -> Index:
        links = {
            "predict": "/v1/models/predict",
            "versions": "/v1/models",
            "ready": "/readyz",
            "metrics": "/metrics",
            "documentation": "/docs",
        }
        return Index(name="shokado", model=control.settings.model, version="1", links=links)


def _add_documentation(app: FastAPI) -> None:
    """Swagger UI with the files that BentoML brings along, so that it works without the internet."""

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Shokado",
            swagger_js_url=f"{_STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{_STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{_STATIC}/favicon-light-32x32.png",
        )


def _describe(runner: Runner, dispatcher: Dispatcher) -> Version:
    card = runner.card
    environments = dispatcher.state.environments.items()
    return Version(
        version=runner.version,
        model=card.model,
        state=runner.state,
        failure=runner.failure,
        engine=runner.engine,
        placement=runner.placement,
        aliases=list(runner.settings.aliases),
        source=card.source,
        size_bytes=card.size_bytes,
        signature=Signature(task=card.task, features=list(card.features), classes=list(card.classes)),
        metrics=card.metrics,
        max_abs_difference={kind: receipt.max_abs_difference for kind, receipt in card.verification.items()},
        weights={name: environment.shares.get(runner.version, 0.0) for name, environment in environments},
    )


def _add_errors(app: FastAPI) -> None:
    """Every error in the shape that the prediction routes use."""

    async def answer(request: Request, error: Exception) -> Response:
        match error:
            case HTTPException():
                code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
                problem = Problem(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}")
            case RequestValidationError():
                first = error.errors()[0]
                problem = Problem(422, "invalid", f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
            case _:
                problem = problem_of(error)
        # A 405 says in `allow` what would be right.
        headers = {**(getattr(error, "headers", None) or {}), "content-type": "application/json"}
        if problem.retry_after is not None:
            headers["retry-after"] = str(problem.retry_after)
        return Response(problem.body(request.state.request_id), problem.status, headers=headers)

    for kind in (Problem, UnknownVersion, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)

    @app.middleware("http")
    async def identify(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.request_id = read_head(request.scope["headers"]).request_id or new_id()
        response = await call_next(request)
        response.headers["x-request-id"] = request.state.request_id
        return response


class ControlFirst:
    """ASGI middleware: BentoML answers its own APIs and the files of the documentation page, the control app the rest.

    BentoML would also answer `/livez`, `/readyz`, `/metrics` and `/`, with less to say, and put its name into answers.
    """

    def __init__(self, app: ASGIApp, control_app: FastAPI, apis: Collection[str]) -> None:
        """`apis` are the routes that BentoML answers when they are posted to."""
        self._bentoml = app
        self._control = control_app
        self._apis = frozenset(apis)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._bentoml(scope, receive, send)
            return

        async def send_without_server_name(message: Message) -> None:
            if message["type"] == "http.response.start":
                hidden = (b"server", b"x-bentoml-request-id")
                message["headers"] = [header for header in message["headers"] if header[0].lower() not in hidden]
            await send(message)

        target = self._target(scope)
        if target is self._bentoml:
            scope = _in_capitals(scope)
        await target(scope, receive, send_without_server_name)

    def _target(self, scope: Scope) -> ASGIApp:
        path: str = scope["path"]
        if path in self._apis:
            return self._bentoml if scope["method"] == "POST" else _only_post
        if path == _SCHEMA or path.startswith(_STATIC + "/"):
            return self._bentoml
        return self._control


def _in_capitals(scope: Scope) -> Scope:
    """The same request with its content type in capitals, which mean the same.

    BentoML knows types in small letters only, and answers one of them, pickle, with an error in its own shape. All it
    serves here takes requests unread, whatever their type, and refuses the wrong ones itself.
    """
    headers = [(name, value.upper() if name == b"content-type" else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}


async def _only_post(scope: Scope, receive: Receive, send: Send) -> None:
    problem = Problem(
        405, "method_not_allowed", f"{scope['method']} {scope['path']}: predictions are asked for by POST"
    )
    request_id = read_head(scope["headers"]).request_id or new_id()
    headers = {"content-type": "application/json", "allow": "POST", "x-request-id": request_id}
    await Response(problem.body(request_id), problem.status, headers=headers)(scope, receive, send)
