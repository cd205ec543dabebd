"""CORS: which other sites' pages browsers let ask. In: settings. Out: what Starlette's middleware is made with."""

from typing import Any

from configuration.settings import CorsSettings

_METHODS = ("GET", "POST", "PUT", "DELETE")
_ANSWER_HEADERS = (
    "X-Request-ID", "X-Model-Version", "X-Generation", "X-Prediction-ID", "X-Trace-ID", "ETag", "Retry-After",
)  # fmt: skip


def cors_options(settings: CorsSettings) -> dict[str, Any]:
    """What `CORSMiddleware` takes. Keys come in headers, so cookies are of no use and not allowed."""
    return {
        "allow_origins": settings.origins,
        "allow_methods": _METHODS,
        "allow_headers": settings.headers,
        "expose_headers": _ANSWER_HEADERS,
        "allow_credentials": False,
    }
