"""BentoML's time limit of a request, taken away."""

from bentoml._internal.server.http import traffic
from starlette.types import ASGIApp


def lift_time_limit() -> None:
    """Let requests take as long as Shokado's own deadlines let them; call before BentoML makes its app.

    BentoML ends a request after 60 s, and loading a large version takes longer. It never cancels the timer of one that
    was answered, so each request would keep some 5 KB for that minute: 300 MB at a thousand unknown paths a second. No
    setting turns the limit off.
    """
    traffic.TimeoutMiddleware = _without_time_limit  # type: ignore[assignment,misc]


def _without_time_limit(app: ASGIApp, timeout: float) -> ASGIApp:  # noqa: ARG001  # as BentoML names it
    return app
