"""The ASGI app of a function: predictions at once, and other routes by an app that is made when one is asked for."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from configuration.settings import Settings
from shokado.transports.plain import Predictions
from shokado.transports.routes import without_prefix


def function_app(
    settings: Settings, predictions: Predictions, make_control: Callable[[], Awaitable[ASGIApp]]
) -> ASGIApp:
    """The app, behind CORS where the settings have it. `make_control` is called once at most."""
    app: ASGIApp = _FunctionApp(settings.prefix, predictions, make_control)
    if settings.access.cors.origins:
        from starlette.middleware.cors import CORSMiddleware

        from shokado.control.http.cors import cors_options

        return CORSMiddleware(app, **cors_options(settings.access.cors))
    return app


class _FunctionApp:
    def __init__(self, prefix: str, predictions: Predictions, make_control: Callable[[], Awaitable[ASGIApp]]) -> None:
        self._prefix = prefix
        self._predictions = predictions
        self._make_control = make_control
        self._control: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = without_prefix(scope["path"], self._prefix)
        if scope["method"] == "POST" and self._predictions.find(path) is not None:
            await self._predictions({**scope, "path": path}, receive, send)
            return
        if self._control is None:
            self._control = await self._make_control()
        await self._control(scope, receive, send)
